#include "worker/kernels/nf4.h"

#include <bit>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qsweep::kernels {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

struct Result {
  std::vector<float> values;
  std::vector<float> absmax;
  std::vector<uint8_t> codes;
};

Result Quantize(const std::vector<float>& weights, Nf4Options options) {
  Result result;
  result.values.resize(weights.size());
  result.codes.resize(weights.size());
  const auto count = static_cast<int64_t>(weights.size());
  result.absmax.resize(static_cast<size_t>(options.groups(count)));
  Nf4Cpu(weights.data(), count, options, result.values.data(),
         result.absmax.data(), result.codes.data());
  return result;
}

TEST(Nf4, GivesTheWorkedVector) {
  const Result result = Quantize(
      {-3.5f, -2.75f, -1.25f, -.25f, 0, .25f, .75f, 1.25f, 1.75f, 3.5f}, {});
  EXPECT_THAT(result.codes, ElementsAre(0, 1, 3, 6, 7, 8, 10, 11, 12, 15));
  EXPECT_THAT(result.absmax, ElementsAre(3.5f));
  EXPECT_EQ(result.values[1], kNf4Levels[1] * 3.5f);
}

TEST(Nf4, TakesTheLowerCode_OnABoundary_AndTheUpperBehindIt) {
  for (int q = 0; q + 1 < kNf4Codes; ++q) {
    const float boundary = Nf4Threshold(q);
    const Result result =
        Quantize({1.0f, boundary, std::nextafter(boundary, 2.0f)}, {});
    EXPECT_EQ(result.codes[1], q);
    EXPECT_EQ(result.codes[2], q + 1);
  }
}

TEST(Nf4, KeepsAGroupOfZerosAtMinusZero) {
  const Result result = Quantize(std::vector<float>(64, 0.0f), {});
  EXPECT_THAT(result.codes, Each(0));
  for (const float value : result.values) {
    EXPECT_EQ(std::bit_cast<uint32_t>(value), 0x80000000u);
  }
}

TEST(Nf4, ScalesTheShorterLastGroupByItself) {
  std::vector<float> weights(64, 1.0f);
  weights.insert(weights.end(), {0.5f, -0.25f});
  const Result result = Quantize(weights, {});
  EXPECT_THAT(result.absmax, ElementsAre(1.0f, 0.5f));
  EXPECT_EQ(result.values[64], 0.5f);
}

// A replicate's groups are those of a tensor that begins with zeros.
TEST(Nf4, ShiftsGroups_AsIfZerosLayBefore) {
  std::vector<float> weights;
  for (int i = 0; i < 500; ++i) {
    weights.push_back(std::sin(static_cast<float>(i * i)));
  }
  for (const bool double_quant : {false, true}) {
    for (const int64_t offset : {1, 32, 48, 63}) {
      std::vector<float> behind_zeros(static_cast<size_t>(offset), 0.0f);
      behind_zeros.insert(behind_zeros.end(), weights.begin(), weights.end());
      const Result shifted =
          Quantize(weights, {.double_quant = double_quant, .offset = offset});
      const Result whole =
          Quantize(behind_zeros, {.double_quant = double_quant});
      EXPECT_EQ(shifted.absmax, whole.absmax);
      EXPECT_EQ(shifted.values,
                (std::vector<float>(whole.values.begin() + offset,
                                    whole.values.end())));
      EXPECT_NE(shifted.values,
                Quantize(weights, {.double_quant = double_quant}).values);
    }
  }
}

TEST(Nf4, IsFinite_WhereTheReciprocalIsNot) {
  const Result result = Quantize({1e-40f, -1e-40f, 0.0f}, {});
  EXPECT_EQ(result.values[0], 1e-40f);
  EXPECT_EQ(result.values[1], -1e-40f);
  EXPECT_EQ(result.values[2], -1e-40f);  // 0 * infinity is above no threshold
}

// What bitsandbytes returned for one mode; see tests/golden/make_nf4_hqq.py.
struct Golden {
  Nf4Options options;
  std::vector<uint8_t> codes;
  std::vector<float> values;
};

std::vector<float> ReadFloats(std::istream& in) {
  std::vector<float> floats;
  for (uint32_t bits = 0; in >> std::hex >> bits;) {
    floats.push_back(std::bit_cast<float>(bits));
  }
  return floats;
}

class BitsAndBytes : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ifstream file(QSWEEP_SOURCE_DIR "/tests/golden/nf4.txt");
    std::string line;
    ASSERT_TRUE(std::getline(file, line));
    std::istringstream first(line.substr(line.find(' ')));
    weights_ = ReadFloats(first);
    while (std::getline(file, line)) {
      std::istringstream in(line);
      Golden golden;
      std::string codes;
      in >> golden.options.group_size >> golden.options.double_quant >> codes;
      for (const char code : codes) {
        golden.codes.push_back(
            static_cast<uint8_t>(code <= '9' ? code - '0' : code - 'a' + 10));
      }
      golden.values = ReadFloats(in);
      goldens_.push_back(golden);
    }
    ASSERT_EQ(goldens_.size(), 4u);
    ASSERT_EQ(weights_.size(), 2560u);
  }

  std::vector<float> weights_;
  std::vector<Golden> goldens_;
};

TEST_F(BitsAndBytes, HasTheSameCodes) {
  for (const Golden& golden : goldens_) {
    EXPECT_THAT(Quantize(weights_, golden.options).codes,
                ElementsAreArray(golden.codes));
  }
}

TEST_F(BitsAndBytes, HasTheSameValues_ToTheLastBit_WithFullScales) {
  for (const Golden& golden : goldens_) {
    if (!golden.options.double_quant) {
      EXPECT_THAT(Quantize(weights_, golden.options).values,
                  ElementsAreArray(golden.values));
    }
  }
}

// Its table of levels is rounded otherwise in the last bit here and there.
TEST_F(BitsAndBytes, HasTheSameValues_UpToRounding_WithDoubleQuantization) {
  for (const Golden& golden : goldens_) {
    if (!golden.options.double_quant) {
      continue;
    }
    const Result result = Quantize(weights_, golden.options);
    float largest = 0;
    for (const float value : golden.values) {
      largest = std::max(largest, std::fabs(value));
    }
    int64_t different = 0;
    for (size_t i = 0; i < golden.values.size(); ++i) {
      different +=
          std::fabs(result.values[i] - golden.values[i]) > 1e-6f * largest ? 1
                                                                           : 0;
    }
    EXPECT_EQ(different, 0) << "group " << golden.options.group_size;
  }
}

TEST(Nf4, RoundsEachScaleToOneOf256Levels_WithDoubleQuantization) {
  std::vector<float> weights;
  for (int group = 0; group < 300; ++group) {
    weights.insert(weights.end(), 64,
                   0.01f + 0.0001f * static_cast<float>(group));
  }
  const Result plain = Quantize(weights, {});
  const Result result = Quantize(weights, {.double_quant = true});
  EXPECT_EQ(result.codes, plain.codes);
  float error = 0;
  for (size_t i = 0; i < result.absmax.size(); ++i) {
    error = std::max(error, std::fabs(result.absmax[i] - plain.absmax[i]));
  }
  EXPECT_GT(error, 0.0f);
  EXPECT_LT(error, 0.015f * 0.01f);  // of the largest difference from the mean
}

}  // namespace
}  // namespace qsweep::kernels
