#include "worker/kernels/rtn.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qsweep::kernels {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::FloatEq;

struct Result {
  std::vector<float> values;
  std::vector<float> scales;
  std::vector<int16_t> codes;
};

Result Quantize(const std::vector<float>& weights, RtnShape shape,
                RtnOptions options) {
  Result result;
  result.values.resize(weights.size());
  result.codes.resize(weights.size());
  result.scales.resize(
      static_cast<size_t>(shape.rows * shape.groups_per_row()));
  RtnCpu(weights.data(), shape, options, result.values.data(),
         result.scales.data(), result.codes.data());
  return result;
}

// All weights as one group.
Result QuantizeGroup(const std::vector<float>& weights, RtnOptions options) {
  const auto size = static_cast<int64_t>(weights.size());
  return Quantize(weights, {.rows = 1, .cols = size, .group_size = size},
                  options);
}

const std::vector<float> kWorked = {-3.5, -2.75, -1.25, -.25, 0,
                                    .25,  .75,   1.25,  1.75, 3.5};

TEST(RtnCpu, GivesTheWorkedCodes_OfTheAbsmaxGrid) {
  const Result result = QuantizeGroup(kWorked, {.grid = RtnGrid::kAbsmax});
  EXPECT_THAT(result.codes, ElementsAre(-7, -6, -2, 0, 0, 0, 2, 2, 4, 7));
  EXPECT_THAT(result.scales, ElementsAre(.5f));
  EXPECT_THAT(result.values, ElementsAre(-3.5f, -3.f, -1.f, 0.f, 0.f, 0.f, 1.f,
                                         1.f, 2.f, 3.5f));
}

// A replicate: each row's first two columns, and the others in groups of 4, as
// matrices of their own.
TEST(RtnCpu, GivesWhatThePartsGive_WhenGroupsAreShifted) {
  const std::vector<float> weights = {1,    -.5f, .25f, 3,  -2,   .75f, .1f,
                                      -.1f, 5,    4,    -1, .02f, 7,    .3f};
  for (const RtnGrid grid : {RtnGrid::kAbsmax, RtnGrid::kGptqAsymmetric}) {
    const Result shifted =
        Quantize(weights, {.rows = 2, .cols = 7, .group_size = 4, .offset = 2},
                 {.grid = grid});
    ASSERT_EQ(shifted.scales.size(), 6u);
    for (const size_t row : {0, 1}) {
      size_t group = 3 * row;
      for (const auto& [begin, size] :
           {std::pair<size_t, size_t>{0, 2}, {2, 4}, {6, 1}}) {
        const auto first =
            weights.begin() + static_cast<std::ptrdiff_t>(7 * row + begin);
        const Result part = QuantizeGroup(
            {first, first + static_cast<std::ptrdiff_t>(size)}, {.grid = grid});
        EXPECT_EQ(shifted.scales[group++], part.scales[0]);
        for (size_t i = 0; i < size; ++i) {
          EXPECT_EQ(shifted.values[7 * row + begin + i], part.values[i]);
          EXPECT_EQ(shifted.codes[7 * row + begin + i], part.codes[i]);
        }
      }
    }
  }
}

TEST(RtnCpu, HasOneGroupARow_WhenTheFirstOneHoldsIt) {
  const std::vector<float> weights = {1, -2, 3, 4, 5, -6};
  const RtnShape shape{.rows = 2, .cols = 3, .group_size = 8, .offset = 5};
  EXPECT_EQ(shape.groups_per_row(), 1);
  EXPECT_EQ(
      Quantize(weights, shape, {}).values,
      Quantize(weights, {.rows = 2, .cols = 3, .group_size = 3}, {}).values);
}

TEST(RtnCpu, GivesTheWorkedCodes_OfTheGridsWithAZero) {
  for (const RtnGrid grid : {RtnGrid::kGptqSymmetric, RtnGrid::kGptqAsymmetric,
                             RtnGrid::kAwqAsymmetric}) {
    SCOPED_TRACE(static_cast<int>(grid));
    const Result result = QuantizeGroup(kWorked, {.grid = grid});
    EXPECT_THAT(result.codes, ElementsAre(0, 2, 5, 7, 8, 9, 10, 11, 12, 15));
    EXPECT_THAT(result.scales, ElementsAre(7.f / 15.f));
  }
}

TEST(RtnCpu, ClipsAtAboutHalf_WhenAGptqSymmetricGroupHasOneSign) {
  const Result result =
      QuantizeGroup({.5, 1, 1.5, 3.5}, {.grid = RtnGrid::kGptqSymmetric});
  EXPECT_THAT(result.codes, ElementsAre(10, 12, 14, 15));
  EXPECT_THAT(result.values,
              ElementsAre(FloatEq(2 * (3.5f / 15)), FloatEq(4 * (3.5f / 15)),
                          FloatEq(6 * (3.5f / 15)), FloatEq(7 * (3.5f / 15))));
}

TEST(RtnCpu, TreatsGroupsBesideZero_AsEachGridSays) {
  const Result awq =
      QuantizeGroup({1, 2, 3, 4}, {.grid = RtnGrid::kAwqAsymmetric});
  EXPECT_THAT(awq.codes, ElementsAre(5, 10, 15, 15));
  EXPECT_FLOAT_EQ(awq.values[3], 3.0f);  // clipped hard
  const Result gptq =
      QuantizeGroup({1, 2, 3, 4}, {.grid = RtnGrid::kGptqAsymmetric});
  EXPECT_THAT(gptq.codes, ElementsAre(4, 7, 11, 15));
}

TEST(RtnCpu, RoundsAfterEachOperation_WhenArithmeticIsFp16) {
  const std::vector<float> weights = {1, .5, .357177734375f, -.2142333984375f};
  const Result full = QuantizeGroup(weights, {});
  EXPECT_THAT(full.codes, ElementsAre(7, 3, 3, -1));
  const Result half = QuantizeGroup(weights, {.half_arithmetic = true});
  EXPECT_THAT(half.codes, ElementsAre(7, 4, 2, -2));
  EXPECT_THAT(half.scales, ElementsAre(.142822265625f));
}

TEST(RtnCpu, RoundsScalesBeforeCodes_WhenTheyAreStoredInFp16) {
  const Result result = QuantizeGroup({1, .35f}, {.half_scale = true});
  EXPECT_THAT(result.scales, ElementsAre(RoundToHalf(1.f / 7)));
  EXPECT_THAT(result.values,
              ElementsAre(7 * RoundToHalf(1.f / 7), 2 * RoundToHalf(1.f / 7)));
}

constexpr RtnGrid kAllGrids[] = {
    RtnGrid::kAbsmax, RtnGrid::kGptqSymmetric, RtnGrid::kGptqAsymmetric,
    RtnGrid::kAwqSymmetric, RtnGrid::kAwqAsymmetric};

TEST(RtnCpu, KeepsZeros_WhateverTheGrid) {
  for (const RtnGrid grid : kAllGrids) {
    for (const bool half : {false, true}) {
      SCOPED_TRACE(static_cast<int>(grid));
      const Result result =
          QuantizeGroup(std::vector<float>(20, 0.0f),
                        {.grid = grid, .half_arithmetic = half});
      EXPECT_THAT(result.values, Each(0.0f));
    }
  }
}

TEST(RtnCpu, KeepsAnOutlier_AndItsSmallNeighboursGoToZero) {
  for (const RtnGrid grid : kAllGrids) {
    SCOPED_TRACE(static_cast<int>(grid));
    std::vector<float> weights(32, 1e-3f);
    weights[17] = -12;
    const Result result = QuantizeGroup(weights, {.grid = grid});
    EXPECT_NEAR(result.values[17], -12, 0.501f * result.scales[0]);
    EXPECT_EQ(result.values[0], 0);
  }
}

TEST(RtnCpu, IsExact_WhenAllWeightsOfAGroupAreEqual) {
  const Result absmax = QuantizeGroup(std::vector<float>(9, -0.75f), {});
  EXPECT_THAT(absmax.codes, Each(-7));
  EXPECT_THAT(absmax.values, Each(FloatEq(-0.75f)));
  const Result gptq = QuantizeGroup(std::vector<float>(9, -0.75f),
                                    {.grid = RtnGrid::kGptqAsymmetric});
  EXPECT_THAT(gptq.codes, Each(0));
  EXPECT_THAT(gptq.values, Each(FloatEq(-0.75f)));
}

TEST(RtnCpu, GivesFiniteValues_WhenWeightsAreDenormal) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  for (const RtnGrid grid : kAllGrids) {
    for (const bool half : {false, true}) {
      for (const float top : {tiny, 3 * tiny, 1000 * tiny, 6e-8f}) {
        SCOPED_TRACE(static_cast<int>(grid));
        const Result result = QuantizeGroup(
            {top, 0, -tiny, 0},
            {.grid = grid, .half_arithmetic = half, .half_scale = !half});
        for (const float value : result.values) {
          EXPECT_LE(std::abs(value), 2 * top);  // false for NaN
        }
      }
    }
  }
}

TEST(RtnCpu, CutsTheLastGroupShort_AndKeepsRowsApart) {
  // Two rows of 5 in groups of 3; each group has a peak of its own.
  const std::vector<float> weights = {7, 1, 1, 14, 2, 70, 10, 10, 21, 3};
  const Result result =
      Quantize(weights, {.rows = 2, .cols = 5, .group_size = 3}, {});
  EXPECT_THAT(result.scales, ElementsAre(1, 2, 10, 3));
  EXPECT_THAT(result.values, ElementsAreArray(weights));
}

TEST(RtnCpu, GivesTheSame_WhenItWritesOverItsInput) {
  std::vector<float> weights;
  for (int i = 0; i < 500; ++i) {
    weights.push_back(std::sin(static_cast<float>(i)));
  }
  for (const bool half : {false, true}) {
    const RtnShape shape{.rows = 5, .cols = 100, .group_size = 64};
    const RtnOptions options{.half_arithmetic = half};
    const Result apart = Quantize(weights, shape, options);
    std::vector<float> inside = weights;
    RtnCpu(inside.data(), shape, options, inside.data(), nullptr, nullptr);
    EXPECT_THAT(inside, ElementsAreArray(apart.values));
  }
}

TEST(RoundToHalf, RoundsToTheNearestHalfsToEven_OverTheWholeRange) {
  // Against long double arithmetic: the step of fp16 at each value.
  uint32_t state = 1;
  for (int i = 0; i < 200000; ++i) {
    state = state * 1664525u + 1013904223u;
    const int exponent = static_cast<int>(state >> 8 & 63u) - 40;
    const float value = std::ldexp(
        1.0f + static_cast<float>(state >> 14) / 262144.0f, exponent);
    const double step = std::ldexp(1.0, std::max(std::ilogb(value), -14) - 10);
    double expected = std::nearbyint(static_cast<double>(value) / step) * step;
    if (expected > 65504) {
      expected = std::numeric_limits<double>::infinity();
    }
    ASSERT_EQ(RoundToHalf(value), static_cast<float>(expected)) << value;
    ASSERT_EQ(RoundToHalf(-value), static_cast<float>(-expected)) << value;
  }
}

TEST(RoundToHalf, TakesTheEvenNeighbour_WhenTwoAreEquallyNear) {
  EXPECT_EQ(RoundToHalf(1 + 0x1p-11f), 1.0f);
  EXPECT_EQ(RoundToHalf(1 + 3 * 0x1p-11f), 1 + 0x1p-9f);
  EXPECT_EQ(RoundToHalf(0x1p-25f), 0.0f);
  EXPECT_EQ(RoundToHalf(3 * 0x1p-25f), 0x1p-23f);
  EXPECT_EQ(RoundToHalf(65519.0f), 65504.0f);
  EXPECT_EQ(RoundToHalf(65520.0f), std::numeric_limits<float>::infinity());
}

}  // namespace
}  // namespace qsweep::kernels
