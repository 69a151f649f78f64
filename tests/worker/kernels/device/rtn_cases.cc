#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/random.h"
#include "tests/support/device_memory.h"
#include "tests/support/kernel_references.h"
#include "tests/worker/kernels/device/device_weights.h"
#include "tests/worker/kernels/device/kernel_test.h"
#include "worker/kernels/rtn.h"
#include "worker/kernels/rtn_cuda.h"

namespace qsweep::kernels {
namespace {

using ::qsweep::testing::Decode;
using ::qsweep::testing::DeviceArray;
using ::qsweep::testing::DeviceNumbers;
using ::qsweep::testing::kFloatTypes;
using ::qsweep::testing::RandomWeights;
using Weights = ::qsweep::testing::DeviceWeights;
using Types = ::qsweep::testing::FloatTypes;
using ::qsweep::testing::Encode;
using ::qsweep::testing::RtnByLoops;
using ::qsweep::testing::RtnReference;

using RtnKernel = qsweep::testing::KernelTest;

constexpr RtnGrid kGrids[] = {RtnGrid::kAbsmax, RtnGrid::kGptqSymmetric,
                              RtnGrid::kGptqAsymmetric, RtnGrid::kAwqSymmetric,
                              RtnGrid::kAwqAsymmetric};

struct Result {
  std::vector<uint32_t> values;  // bits of the output's type
  std::vector<float> scales;
  std::vector<int16_t> codes;
};

// Elements behind a multiple of 16 bytes.
struct Shift {
  size_t in = 0;
  size_t out = 0;
};

Result RunRtn(const Weights& weights, FloatType out_type, RtnShape shape,
              RtnOptions options, Shift shift = {}) {
  const size_t size = weights.bits.size();
  DeviceNumbers in(weights, shift.in);
  DeviceNumbers out(out_type, size, shift.out);
  DeviceArray<float> scales(
      static_cast<size_t>(shape.rows * shape.groups_per_row()));
  DeviceArray<int16_t> codes(size, shift.out);
  DeviceArray<char> workspace(size_t{kRtnWorkspaceBytes});
  EXPECT_EQ(RtnCuda({.weights = in.data(),
                     .out = out.data(),
                     .weight_type = weights.type,
                     .out_type = out_type,
                     .scales = scales.data(),
                     .codes = codes.data(),
                     .workspace = workspace.data()},
                    shape, options, nullptr),
            0);
  return {out.ReadBits(), scales.Read(), codes.Read()};
}

// Values, codes and scales that differ from the reference; any NaN is as good
// as another.
int64_t Mismatches(const Result& result, const RtnReference& reference,
                   FloatType out_type) {
  int64_t mismatches = 0;
  for (size_t i = 0; i < reference.values.size(); ++i) {
    const bool same =
        std::isnan(reference.values[i])
            ? std::isnan(Decode(out_type, result.values[i]))
            : Encode(out_type, reference.values[i]) == result.values[i];
    mismatches += same && reference.codes[i] == result.codes[i] ? 0 : 1;
  }
  for (size_t i = 0; i < reference.scales.size(); ++i) {
    const bool same =
        reference.scales[i] == static_cast<double>(result.scales[i]) &&
        !std::signbit(result.scales[i]);
    mismatches += same ? 0 : 1;
  }
  return mismatches;
}

#if defined(__SANITIZE_ADDRESS__)
constexpr int64_t kRows = 25;
#else
constexpr int64_t kRows = 250;
#endif
constexpr int64_t kCols = 4000;  // ends in half a group of 64, a third of 128

TEST_F(RtnKernel, EqualsTheLoops_OverAMillionWeightsOfEachKind) {
  int turn = 0;
  for (const FloatType type :
       {FloatType::kFp32, FloatType::kFp16, FloatType::kBf16}) {
    const Weights weights = RandomWeights(type, kRows * kCols, 11);
    const std::vector<double> numbers = weights.Numbers();
    for (const RtnGrid grid : kGrids) {
      for (const int64_t group : {32, 64, 128, 4000, 1000000}) {
        const RtnShape shape = group < kRows * kCols && group <= kCols
                                   ? RtnShape{kRows, kCols, group}
                                   : RtnShape{1, kRows * kCols, kRows * kCols};
        const RtnOptions options{.bits = 2 + ++turn % 7, .grid = grid};
        const FloatType out_type = turn % 2 == 0 ? type : FloatType::kFp32;
        ASSERT_EQ(Mismatches(RunRtn(weights, out_type, shape, options),
                             RtnByLoops(numbers, shape, options), out_type),
                  0)
            << "type " << static_cast<int>(type) << " grid "
            << static_cast<int>(grid) << " group " << group << " bits "
            << options.bits;
      }
    }
  }
}

TEST_F(RtnKernel, EqualsTheLoops_WhenEachOperationIsRoundedToFp16) {
  int turn = 0;
  for (const FloatType type :
       {FloatType::kFp32, FloatType::kFp16, FloatType::kBf16}) {
    const Weights weights = RandomWeights(type, kRows * kCols / 4, 12);
    const std::vector<double> numbers = weights.Numbers();
    for (const RtnGrid grid : kGrids) {
      for (const RtnShape shape :
           {RtnShape{kRows, kCols / 4, 128},
            RtnShape{1, kRows * kCols / 4, kRows * kCols / 4}}) {
        const RtnOptions options{.bits = 2 + ++turn % 7,
                                 .grid = grid,
                                 .half_arithmetic = turn % 3 != 0,
                                 .half_scale = turn % 3 != 1};
        const FloatType out_type = turn % 2 == 0 ? type : FloatType::kFp32;
        ASSERT_EQ(Mismatches(RunRtn(weights, out_type, shape, options),
                             RtnByLoops(numbers, shape, options), out_type),
                  0)
            << "type " << static_cast<int>(type) << " grid "
            << static_cast<int>(grid) << " group " << shape.group_size
            << " bits " << options.bits;
      }
    }
  }
}

// Replicates 1, 4 and one that no vector fits.
TEST_F(RtnKernel, EqualsTheLoops_WhenGroupsAreShifted) {
  int turn = 0;
  for (const FloatType type :
       {FloatType::kFp32, FloatType::kFp16, FloatType::kBf16}) {
    const Weights weights = RandomWeights(type, kRows * kCols, 13);
    const std::vector<double> numbers = weights.Numbers();
    for (const int64_t offset : {64, 112, 1}) {
      const RtnShape shape{kRows, kCols, 128, offset};
      const RtnOptions options{.bits = 4, .grid = kGrids[++turn % 5]};
      ASSERT_EQ(Mismatches(RunRtn(weights, type, shape, options),
                           RtnByLoops(numbers, shape, options), type),
                0)
          << "type " << static_cast<int>(type) << " offset " << offset;
    }
  }
}

// Around a vector, a warp's and a block's reach, and groups; aligned and not.
TEST_F(RtnKernel, EqualsTheLoops_AtOddSizes) {
  int turn = 0;
  for (const Types types : kFloatTypes) {
    for (const int64_t cols :
         {1, 7, 8, 31, 33, 64, 127, 129, 255, 257, 1000, 1025, 2049}) {
      const Weights weights =
          RandomWeights(types.weights, 3 * cols, static_cast<uint64_t>(cols));
      const std::vector<double> numbers = weights.Numbers();
      for (const int64_t group :
           {1, 3, 8, 31, 32, 33, 64, 127, 128, 129, 256, 257, 1025, 4096}) {
        ++turn;
        const RtnShape shape{3, cols, group,
                             turn % 5 == 1   ? group / 2
                             : turn % 5 == 3 ? group - 1
                                             : 0};
        const RtnOptions options{.bits = 2 + turn % 7,
                                 .grid = kGrids[turn % 5],
                                 .half_arithmetic = turn % 4 == 1,
                                 .half_scale = turn % 3 == 1};
        ASSERT_EQ(Mismatches(RunRtn(weights, types.out, shape, options,
                                    {.in = turn % 2 == 1 ? 1u : 0u,
                                     .out = turn % 8 < 4 ? 1u : 0u}),
                             RtnByLoops(numbers, shape, options), types.out),
                  0)
            << "cols " << cols << " group " << group << " bits "
            << options.bits;
      }
    }
  }
}

// One group alone, around what a block and all blocks take at a time.
TEST_F(RtnKernel, EqualsTheLoops_WhenAllWeightsShareAScale) {
  for (const Types types : kFloatTypes) {
    for (const int64_t size : {127, 129, 257, 2047, 2049, 70001}) {
      for (const Shift shift : {Shift{0, 0}, Shift{1, 0}, Shift{0, 1}}) {
        const Weights weights =
            RandomWeights(types.weights, size, static_cast<uint64_t>(size));
        const RtnShape shape{1, size, size};
        for (const RtnGrid grid : kGrids) {
          const RtnOptions options{.grid = grid};
          ASSERT_EQ(
              Mismatches(RunRtn(weights, types.out, shape, options, shift),
                         RtnByLoops(weights.Numbers(), shape, options),
                         types.out),
              0)
              << size;
        }
      }
    }
  }
}

TEST_F(RtnKernel, EqualsTheLoopsOfTheCpu) {
  const Weights weights = RandomWeights(FloatType::kFp32, 100 * 1000, 14);
  std::vector<float> numbers;
  for (const double number : weights.Numbers()) {
    numbers.push_back(static_cast<float>(number));
  }
  for (const RtnGrid grid : kGrids) {
    for (const bool half : {false, true}) {
      const RtnShape shape{100, 1000, 64};
      const RtnOptions options{.grid = grid, .half_arithmetic = half};
      std::vector<float> values(numbers.size());
      RtnCpu(numbers.data(), shape, options, values.data(), nullptr, nullptr);
      const Result result = RunRtn(weights, FloatType::kFp32, shape, options);
      int64_t mismatches = 0;
      for (size_t i = 0; i < values.size(); ++i) {
        // Where fp16 overflows, the CPU promises nothing.
        const float scale = result.scales[i / 1000 * 16 + i % 1000 / 64];
        mismatches += std::isfinite(scale) && std::bit_cast<uint32_t>(
                                                  values[i]) != result.values[i]
                          ? 1
                          : 0;
      }
      EXPECT_EQ(mismatches, 0) << static_cast<int>(grid) << half;
    }
  }
}

Weights WeightsOf(const std::vector<double>& numbers) {
  Weights weights{FloatType::kFp32, {}};
  for (const double number : numbers) {
    weights.bits.push_back(Encode(FloatType::kFp32, number));
  }
  return weights;
}

// Quotients up to four units in the last place from a half, also of scales for
// which a product with the reciprocal, even once corrected, may be off.
TEST_F(RtnKernel, EqualsTheLoops_NextToTies) {
  Random random(16);
  constexpr int64_t kGroup = 512;
  std::vector<double> numbers;
  for (const int exponent : {-140, -110, -61, -59, -14, 0, 59, 61, 90}) {
    for (int group = 0; group < 8; ++group) {
      const double scale =
          std::ldexp(static_cast<double>(((128 + random.Below(128)) << 16) +
                                         random.Below(16)),
                     exponent - 23);
      numbers.push_back(127 * scale);
      for (int64_t i = 1; i < kGroup; ++i) {
        const double tie =
            scale * (static_cast<double>(random.Below(254)) - 126.5);
        uint32_t bits = Encode(FloatType::kFp32, tie);
        bits += static_cast<uint32_t>(random.Below(9)) - 4;
        numbers.push_back(Decode(FloatType::kFp32, bits));
      }
    }
  }
  // Far from zero and close together: quotients that overflow.
  for (const double far : {3e38, 1e35, -1e35, 1e15, -1e15, 1e-3}) {
    for (int64_t i = 0; i < kGroup; ++i) {
      numbers.push_back(far);
    }
  }
  const Weights weights = WeightsOf(numbers);
  const std::vector<double> exact = weights.Numbers();
  const auto rows = static_cast<int64_t>(numbers.size()) / kGroup;
  for (const RtnGrid grid : kGrids) {
    for (const int64_t group : {int64_t{64}, kGroup}) {
      for (const int bits : {4, 8}) {
        const RtnShape shape{rows, kGroup, group};
        const RtnOptions options{.bits = bits, .grid = grid};
        EXPECT_EQ(
            Mismatches(RunRtn(weights, FloatType::kFp32, shape, options),
                       RtnByLoops(exact, shape, options), FloatType::kFp32),
            0)
            << "grid " << static_cast<int>(grid) << " group " << group
            << " bits " << bits;
      }
    }
  }
}

TEST_F(RtnKernel, GivesTheWorkedCodes) {
  const Weights weights =
      WeightsOf({-3.5, -2.75, -1.25, -.25, 0, .25, .75, 1.25, 1.75, 3.5});
  for (const RtnGrid grid : kGrids) {
    const Result result =
        RunRtn(weights, FloatType::kFp32, {1, 10, 10}, {.grid = grid});
    if (grid == RtnGrid::kAbsmax || grid == RtnGrid::kAwqSymmetric) {
      EXPECT_THAT(result.codes,
                  ::testing::ElementsAre(-7, -6, -2, 0, 0, 0, 2, 2, 4, 7));
    } else {
      EXPECT_THAT(result.codes,
                  ::testing::ElementsAre(0, 2, 5, 7, 8, 9, 10, 11, 12, 15));
    }
  }
}

// The second of three groups holds the bad value, wherever it stands in it.
TEST_F(RtnKernel, MakesAGroupNan_WhenAValueIsNotFinite) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const int64_t group : {64, 700}) {
    for (const double bad : {std::nan(""), kInfinity, -kInfinity}) {
      for (const int64_t at : {int64_t{0}, int64_t{17}, group - 1}) {
        std::vector<double> numbers(static_cast<size_t>(3 * group), 0.25);
        numbers[static_cast<size_t>(group + at)] = bad;
        const RtnShape shape{3, group, group};
        for (const RtnGrid grid : kGrids) {
          const RtnOptions options{.grid = grid};
          const Result result =
              RunRtn(WeightsOf(numbers), FloatType::kFp32, shape, options);
          ASSERT_EQ(Mismatches(result, RtnByLoops(numbers, shape, options),
                               FloatType::kFp32),
                    0);
          EXPECT_TRUE(std::isinf(result.scales[1]));
          EXPECT_EQ(result.codes[static_cast<size_t>(group)], 0);
          EXPECT_TRUE(
              std::isfinite(Decode(FloatType::kFp32, result.values[0])));
        }
      }
    }
  }
}

TEST_F(RtnKernel, MakesAGroupNan_WhenItOverflowsFp16) {
  const RtnOptions options{.half_arithmetic = true};
  const Result result =
      RunRtn(WeightsOf({1e5, 1, 2, 3}), FloatType::kFp32, {2, 2, 2}, options);
  EXPECT_TRUE(std::isnan(Decode(FloatType::kFp32, result.values[1])));
  EXPECT_TRUE(std::isfinite(Decode(FloatType::kFp32, result.values[3])));
}

TEST_F(RtnKernel, WritesOverItsInput) {
  for (const RtnShape shape : {RtnShape{4, 300, 128}, RtnShape{4, 3000, 3000},
                               RtnShape{1, 12000, 12000}}) {
    const Weights weights =
        RandomWeights(FloatType::kFp32, shape.rows * shape.cols, 15);
    const Result apart = RunRtn(weights, FloatType::kFp32, shape, {});
    DeviceArray<uint32_t> inside(weights.bits);
    DeviceArray<char> workspace(size_t{kRtnWorkspaceBytes});
    ASSERT_EQ(RtnCuda({.weights = inside.data(),
                       .out = inside.data(),
                       .workspace = workspace.data()},
                      shape, {}, nullptr),
              0);
    EXPECT_EQ(inside.Read(), apart.values);
  }
}

TEST_F(RtnKernel, RefusesWhatItCannotDo_AndWritesNothing) {
  DeviceArray<float> weights(std::vector<float>(8, 1));
  DeviceArray<uint32_t> out(size_t{8});
  const std::vector<uint32_t> before = out.Read();
  const RtnBuffers good = {.weights = weights.data(), .out = out.data()};
  RtnBuffers bad_type = good;
  bad_type.out_type = FloatType::kFp16;
  EXPECT_EQ(RtnCuda(good, {1, 8, 8}, {.bits = 1}, nullptr), 1);
  EXPECT_EQ(RtnCuda(good, {1, 8, 8}, {.bits = 9}, nullptr), 1);
  EXPECT_EQ(RtnCuda(good, {1, 8, 0}, {}, nullptr), 1);
  EXPECT_EQ(RtnCuda(good, {int64_t{1} << 31, 8, 8}, {}, nullptr), 1);
  EXPECT_EQ(RtnCuda(bad_type, {1, 8, 8}, {}, nullptr), 1);
  EXPECT_EQ(RtnCuda(good, {0, 8, 8}, {}, nullptr), 0);
  EXPECT_EQ(RtnCuda(good, {8, 0, 8}, {}, nullptr), 0);
  EXPECT_EQ(out.Read(), before);
}

}  // namespace
}  // namespace qsweep::kernels
