#include "worker/kernels/hqq.h"

#include <bit>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/random.h"

namespace qsweep::kernels {
namespace {

using ::testing::Each;

struct Result {
  std::vector<float> values;
  std::vector<float> inverse;
  std::vector<float> zeros;
  std::vector<uint8_t> codes;
};

Result Quantize(const std::vector<float>& weights, HqqOptions options) {
  Result result;
  const auto groups = weights.size() / static_cast<size_t>(options.group_size);
  result.values.resize(weights.size());
  result.codes.resize(weights.size());
  result.inverse.resize(groups);
  result.zeros.resize(groups);
  HqqCpu(weights.data(), static_cast<int64_t>(weights.size()), options,
         result.values.data(), result.inverse.data(), result.zeros.data(),
         result.codes.data());
  return result;
}

std::vector<float> RandomWeights(size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> weights;
  for (size_t i = 0; i < count; ++i) {
    weights.push_back(
        static_cast<float>(0.1 * (random.Uniform() + random.Uniform() - 1)));
  }
  return weights;
}

TEST(Hqq, StartsFromTheSpan) {
  // The solver moves z alone.
  const Result result = Quantize(
      {-3.5f, -2.75f, -1.25f, -.25f, 0, .25f, .75f, 1.25f, 1.75f, 3.5f},
      {.group_size = 10, .round_zero = false});
  EXPECT_EQ(result.inverse[0], 1.0f / 7.0f * 15.0f);
}

TEST(Hqq, GivesTheWeightBack_WhereAllAreEqual) {
  const Result result = Quantize(std::vector<float>(64, 0.25f), {});
  EXPECT_EQ(result.inverse[0], 1.0f);
  EXPECT_THAT(result.codes, Each(0));
  EXPECT_THAT(result.values, Each(0.25f));
}

TEST(Hqq, IsFinite_WhateverTheWeights) {
  for (const float size : {1e-45f, 1e-30f, 1e20f, 3e38f}) {
    std::vector<float> weights = RandomWeights(128, 3);
    for (float& weight : weights) {
      weight *= size;
    }
    weights[5] = size;
    weights[6] = -size;
    for (const float value : Quantize(weights, {}).values) {
      EXPECT_TRUE(std::isfinite(value)) << size;
    }
  }
}

TEST(Hqq, QuantizesColumns_AsRowsOfTheTransposedTensor) {
  constexpr size_t kGroups = 12;
  const std::vector<float> weights = RandomWeights(64 * kGroups, 4);
  std::vector<float> transposed(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    transposed[i % kGroups * 64 + i / kGroups] = weights[i];
  }
  const Result rows = Quantize(transposed, {});
  const Result columns = Quantize(weights, {.axis = 0});
  EXPECT_EQ(columns.zeros, rows.zeros);
  for (size_t i = 0; i < weights.size(); ++i) {
    ASSERT_EQ(columns.codes[i], rows.codes[i % kGroups * 64 + i / kGroups]);
    ASSERT_EQ(columns.values[i], rows.values[i % kGroups * 64 + i / kGroups]);
  }
}

TEST(Hqq, LowersTheMeanError_BelowRoundingToNearest) {
  const std::vector<float> weights = RandomWeights(64 * 100, 5);
  const Result result = Quantize(weights, {.round_zero = false});
  double solved = 0;
  double nearest = 0;
  for (size_t group = 0; group < 100; ++group) {
    const auto begin =
        weights.begin() + static_cast<std::ptrdiff_t>(64 * group);
    const float min = *std::min_element(begin, begin + 64);
    const float max = *std::max_element(begin, begin + 64);
    const double scale = (static_cast<double>(max) - min) / 15;
    for (size_t i = 64 * group; i < 64 * (group + 1); ++i) {
      const double w = weights[i];
      solved += std::fabs(w - static_cast<double>(result.values[i]));
      nearest +=
          std::fabs(w - (min + scale * std::nearbyint((w - min) / scale)));
    }
  }
  EXPECT_LT(solved, nearest);
}

float FloatOf(const std::string& hexadecimal) {
  return std::bit_cast<float>(
      static_cast<uint32_t>(std::stoul(hexadecimal, nullptr, 16)));
}

// tests/golden/hqq.txt is what the package by its authors returned. It sums in
// another order: of 255 steps, that moves one weight in 2,560 to the next.
TEST(Hqq, EqualsThePackage_InEveryMode) {
  std::ifstream file(QSWEEP_SOURCE_DIR "/tests/golden/hqq.txt");
  std::string line;
  ASSERT_TRUE(std::getline(file, line));
  std::istringstream first(line.substr(line.find(' ')));
  std::vector<float> weights;
  for (uint32_t bits = 0; first >> std::hex >> bits;) {
    weights.push_back(std::bit_cast<float>(bits));
  }
  ASSERT_EQ(weights.size(), 2560u);
  int modes = 0;
  while (std::getline(file, line)) {
    HqqOptions options;
    std::istringstream in(line);
    in >> options.bits >> options.axis >> options.round_zero;
    const bool eight = options.bits == 8;
    SCOPED_TRACE(line.substr(0, 6));
    const Result result = Quantize(weights, options);
    std::string word;
    for (const float inverse : result.inverse) {
      in >> word;
      EXPECT_EQ(1.0f / inverse, FloatOf(word));
    }
    in >> word;
    ASSERT_EQ(word, "|");
    for (const float zero : result.zeros) {
      in >> word;
      EXPECT_NEAR(zero, FloatOf(word), eight ? 2e-2f : 1e-4f);
    }
    in >> word;
    ASSERT_EQ(word, "|");
    int64_t different = 0;
    for (const uint8_t code : result.codes) {
      in >> word;
      different += std::stoi(word) == code ? 0 : 1;
    }
    EXPECT_LE(different, eight ? 1 : 0);
    ++modes;
  }
  EXPECT_EQ(modes, 16);
}

}  // namespace
}  // namespace qsweep::kernels
