#include "worker/kernels/hqq.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <fstream>
#include <limits>
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
  const auto groups =
      static_cast<size_t>(options.groups(static_cast<int64_t>(weights.size())));
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

// The solver in plain loops over groups of any size up to 32 weights, where no
// error is above 0.17, so that nothing is left after shrinking.
std::vector<float> SolvedByLoops(const std::vector<float>& weights,
                                 const std::vector<size_t>& ends) {
  struct Group {
    size_t begin, end;
    float inverse, zero;
  };
  std::vector<Group> groups;
  for (size_t begin = 0; const size_t end : ends) {
    const auto [min, max] = std::minmax_element(
        weights.begin() + static_cast<std::ptrdiff_t>(begin),
        weights.begin() + static_cast<std::ptrdiff_t>(end));
    const float inverse = std::min(1.0f / (*max - *min) * 15.0f, 2e4f);
    groups.push_back({begin, end, inverse, std::nearbyint(-*min * inverse)});
    begin = end;
  }
  const auto code = [](float w, const Group& g) {
    return std::nearbyint(std::clamp(w * g.inverse + g.zero, 0.0f, 15.0f));
  };
  const auto sum = [](std::vector<float> lanes) {
    lanes.resize(32);
    for (size_t half = 16; half > 0; half /= 2) {
      for (size_t i = 0; i < half; ++i) {
        lanes[i] += lanes[i + half];
      }
    }
    return lanes[0];
  };
  float best = std::numeric_limits<float>::infinity();
  for (int step = 0; step < 20; ++step) {
    double total = 0;
    for (Group& g : groups) {
      std::vector<float> moved;
      std::vector<float> error;
      for (size_t i = g.begin; i < g.end; ++i) {
        const float q = code(weights[i], g);
        moved.push_back(q - weights[i] * g.inverse);
        error.push_back(std::fabs(weights[i] - (q - g.zero) / g.inverse));
      }
      total += static_cast<double>(sum(error));
      g.zero = sum(moved) / static_cast<float>(g.end - g.begin);
    }
    const auto mean =
        static_cast<float>(total / static_cast<double>(weights.size()));
    if (!(mean < best)) {
      break;
    }
    best = mean;
  }
  std::vector<float> values;
  for (const Group& g : groups) {
    for (size_t i = g.begin; i < g.end; ++i) {
      values.push_back((code(weights[i], g) - g.zero) * (1.0f / g.inverse));
    }
  }
  return values;
}

TEST(Hqq, SolvesTheShorterGroupsAtBothEnds_WhenTheyAreShifted) {
  const std::vector<float> weights = RandomWeights(96, 6);
  EXPECT_EQ(Quantize(weights, {.group_size = 24}).values,
            SolvedByLoops(weights, {24, 48, 72, 96}));
  EXPECT_EQ(Quantize(weights, {.group_size = 24, .offset = 12}).values,
            SolvedByLoops(weights, {12, 36, 60, 84, 96}));
  EXPECT_EQ(Quantize(weights, {.group_size = 24, .offset = 21}).values,
            SolvedByLoops(weights, {3, 27, 51, 75, 96}));
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
