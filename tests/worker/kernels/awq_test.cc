#include "worker/kernels/awq.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/job/quantizer.h"
#include "worker/kernels/coded_tensor.h"
#include "worker/kernels/quantize.h"

namespace qsweep::kernels {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

constexpr int64_t kRows = 16;
constexpr int64_t kColumns = 128;
constexpr int64_t kSamples = 64;

// The numbers of tests/golden/make_awq.py.
struct Sample {
  Sample() {
    for (int64_t i = 0; i < kRows * kColumns; ++i) {
      const float weight = static_cast<float>(Next(2097153) - 262144) / 4194304;
      weights.push_back(i % kColumns % 37 == 0 ? 4 * weight : weight);
    }
    for (int64_t s = 0; s < kSamples; ++s) {
      int before = 0;
      for (int64_t c = 0; c < kColumns; ++c) {
        const int own = Next(17) - 8;
        inputs.push_back(
            c == 5 ? 0.0f
                   : static_cast<float>((own + before) * (c % 8 == 0 ? 9 : 1)));
        before = own;
      }
    }
    magnitudes.resize(kColumns);
    for (size_t i = 0; i < inputs.size(); ++i) {
      magnitudes[i % kColumns] += std::fabs(inputs[i]) / kSamples;
    }
  }

  // As AwqLimits takes them.
  std::vector<float> Grams(const std::vector<float>& scales,
                           int64_t group) const {
    std::vector<float> grams(
        static_cast<size_t>(kColumns / group * AwqGramSize(group)));
    for (int64_t i = 0; i < kColumns; ++i) {
      for (int64_t j = 0; j < group; ++j) {
        const int64_t other = i / group * group + j;
        float& gram =
            grams[static_cast<size_t>(i / group * AwqGramSize(group) +
                                      AwqGramPlace(group, i % group, j))];
        for (int64_t s = 0; s < kSamples; ++s) {
          const float* const row = inputs.data() + s * kColumns;
          gram += row[i] / scales[static_cast<size_t>(i)] * row[other] /
                  scales[static_cast<size_t>(other)];
        }
      }
    }
    return grams;
  }

  std::vector<float> weights;     // [kRows, kColumns]
  std::vector<float> inputs;      // [kSamples, kColumns]
  std::vector<float> magnitudes;  // [kColumns]

 private:
  int Next(int n) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<int>((state_ >> 33) % static_cast<uint64_t>(n));
  }
  uint64_t state_ = 1;
};

Scheme SchemeOf(int bits, int group, bool symmetric) {
  Scheme scheme = ParseQuantizer("awq:group=-1")->scheme;
  scheme.bits = bits;
  scheme.symmetric = symmetric;
  if (group > 0) {
    scheme.granularity = Granularity::kGroup;
    scheme.group = group;
  }
  return scheme;
}

TEST(Awq, AgreesWithAnIndependentProgramInFp64) {
  const Sample sample;
  std::ifstream file(QSWEEP_SOURCE_DIR "/tests/golden/awq.txt");
  std::string line;
  int modes = 0;
  while (std::getline(file, line)) {
    SCOPED_TRACE(line.substr(0, 10));
    ++modes;
    std::istringstream words(line);
    int bits = 0;
    int group = 0;
    int index = 0;
    bool symmetric = false;
    words >> bits >> group >> symmetric >> index;
    std::vector<float> scales(kColumns);
    AwqScales(sample.magnitudes.data(), kColumns, AwqRatio(index),
              scales.data());
    for (const float scale : scales) {
      float want = 0;
      words >> want;
      EXPECT_NEAR(scale, want, 1e-6 * want);
    }
    std::string steps;
    std::string codes;
    words >> steps >> codes;
    const int64_t size = group == 0 ? kColumns : group;
    const std::vector<float> grams = sample.Grams(scales, size);
    const AwqOptions options{
        .bits = bits, .group_size = size, .symmetric = symmetric};
    std::vector<float> limits(static_cast<size_t>(kRows * kColumns / size));
    ASSERT_TRUE(AwqLimits(sample.weights.data(), kRows, kColumns, scales.data(),
                          grams.data(), options, {}, limits.data()));
    ASSERT_EQ(steps.size(), limits.size());
    std::vector<bool> same;  // limits, but for near ties of the error
    for (size_t g = 0; g < limits.size(); ++g) {
      float largest = 0;
      for (size_t i = g * static_cast<size_t>(size);
           i < (g + 1) * static_cast<size_t>(size); ++i) {
        largest = std::max(largest,
                           std::fabs(sample.weights[i] * scales[i % kColumns]));
      }
      same.push_back(
          std::fabs(limits[g] / largest - 1 + (steps[g] - '0') / 20.0) < 1e-6);
    }
    EXPECT_LE(std::ranges::count(same, false), 1);
    const Scheme scheme = SchemeOf(bits, group, symmetric);
    CodedTensor coded = StartAwq(scheme, kRows, scales);
    ASSERT_TRUE(
        QuantizeAwqRows(scheme, sample.weights, grams, 0, kRows, coded));
    int differ = 0;
    ASSERT_EQ(codes.size(), coded.codes.size());
    for (size_t i = 0; i < codes.size(); ++i) {
      differ += same[i / static_cast<size_t>(size)] &&
                        "0123456789abcdef"[coded.codes[i]] != codes[i]
                    ? 1
                    : 0;
    }
    EXPECT_LE(differ, 4);  // of 2048
  }
  EXPECT_EQ(modes, 5);
}

TEST(AwqLimits, Stops_WhenItIsTold) {
  const Sample sample;
  const std::vector<float> scales(kColumns, 1.0f);
  const std::vector<float> grams = sample.Grams(scales, kColumns);
  const Scheme scheme = SchemeOf(4, 0, false);
  for (const int last : {1, 2, 10}) {
    int asked = 0;
    const Stopped stopped = [&] { return ++asked == last; };
    CodedTensor coded = StartAwq(scheme, kRows, scales);
    EXPECT_FALSE(QuantizeAwqRows(scheme, sample.weights, grams, 0, kRows, coded,
                                 stopped));
    EXPECT_EQ(asked, last);
  }
}

TEST(AwqCpu, KeepsZeros) {
  const std::vector<float> zeros(kRows * kColumns);
  const Sample sample;
  std::vector<float> scales(kColumns);
  AwqScales(sample.magnitudes.data(), kColumns, 0.5, scales.data());
  for (const bool symmetric : {false, true}) {
    const Scheme scheme = SchemeOf(4, 32, symmetric);
    CodedTensor coded = StartAwq(scheme, kRows, scales);
    ASSERT_TRUE(QuantizeAwqRows(scheme, zeros, sample.Grams(scales, 32), 0,
                                kRows, coded));
    EXPECT_THAT(coded.scales,
                Each(::testing::Gt(0.0f)));  // of the grid's floor
    std::vector<float> values(zeros.size(), 1.0f);
    coded.Decode(values);
    EXPECT_EQ(values, zeros);
  }
}

TEST(AwqScales, AreOne_AtRatioZeroAndForEqualInputs) {
  const Sample sample;
  std::vector<float> scales(kColumns);
  AwqScales(sample.magnitudes.data(), kColumns, 0, scales.data());
  EXPECT_THAT(scales, Each(1.0f));
  const std::vector<float> equal(kColumns, 0.3f);
  AwqScales(equal.data(), kColumns, AwqRatio(kAwqRatios - 1), scales.data());
  EXPECT_THAT(scales, Each(1.0f));
  const std::vector<float> none(kColumns);  // no input at all
  AwqScales(none.data(), kColumns, 0.5, scales.data());
  EXPECT_THAT(scales, Each(1.0f));
}

// The worked vectors of the definition, and a group that does not straddle 0.
TEST(AwqCpu, HasTheWorkedVectors) {
  const std::vector<float> ones(10, 1.0f);
  const std::vector<float> weights = {-3.5f, -2.75f, -1.25f, -.25f, 0,
                                      .25f,  .75f,   1.25f,  1.75f, 3.5f};
  const Scheme scheme = SchemeOf(4, 0, false);
  CodedTensor coded = StartAwq(scheme, 1, ones);
  QuantizeAwqRows(scheme, weights, {}, 0, 1, coded);
  EXPECT_THAT(coded.codes, ElementsAre(0, 2, 5, 7, 8, 9, 10, 11, 12, 15));
  EXPECT_THAT(coded.zeros, ElementsAre(8));
  const std::vector<float> four(4, 1.0f);
  coded = StartAwq(scheme, 1, four);
  QuantizeAwqRows(scheme, std::vector<float>{1, 2, 3, 4}, {}, 0, 1, coded);
  EXPECT_THAT(coded.codes, ElementsAre(5, 10, 15, 15));
}

TEST(AwqCpu, DividesByTheColumnScalesAgain) {
  const std::vector<float> scales = {1, 2, 4, .5f};
  const Scheme scheme = SchemeOf(8, 0, true);
  CodedTensor coded = StartAwq(scheme, 1, scales);
  QuantizeAwqRows(scheme, std::vector<float>{127, 50, -20, 8}, {}, 0, 1, coded);
  std::vector<float> values(4);
  coded.Decode(values);
  EXPECT_THAT(values, ElementsAre(127, 50, -20, 8));
}

}  // namespace
}  // namespace qsweep::kernels
