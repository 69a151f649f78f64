#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/device_memory.h"
#include "tests/support/kernel_references.h"
#include "tests/worker/kernels/device/device_weights.h"
#include "tests/worker/kernels/device/kernel_test.h"
#include "worker/kernels/hqq.h"
#include "worker/kernels/hqq_cuda.h"

namespace qsweep::kernels {
namespace {

using ::qsweep::testing::CountMismatches;
using ::qsweep::testing::DeviceArray;
using ::qsweep::testing::DeviceNumbers;
using ::qsweep::testing::DeviceWeights;
using ::qsweep::testing::FloatTypes;
using ::qsweep::testing::HqqByLoops;
using ::qsweep::testing::HqqReference;
using ::qsweep::testing::kFloatTypes;
using ::qsweep::testing::RandomWeights;

using HqqKernel = qsweep::testing::KernelTest;

// What the kernel, or the CPU, does not have as plain loops have it.
int64_t Mismatches(const DeviceWeights& weights, FloatType out_type,
                   HqqOptions options, size_t shift = 0) {
  const size_t size = weights.bits.size();
  const auto count = static_cast<int64_t>(size);
  const int64_t groups = options.groups(count);
  DeviceNumbers in(weights, shift);
  DeviceNumbers out(out_type, size, shift);
  DeviceArray<float> inverse(static_cast<size_t>(groups));
  DeviceArray<float> zeros(static_cast<size_t>(groups));
  DeviceArray<uint8_t> codes(size);
  DeviceArray<char> workspace(static_cast<size_t>(HqqWorkspaceBytes(groups)));
  EXPECT_EQ(HqqCuda({.weights = in.data(),
                     .out = out.data(),
                     .weight_type = weights.type,
                     .out_type = out_type,
                     .inverse = inverse.data(),
                     .zeros = zeros.data(),
                     .codes = codes.data(),
                     .workspace = workspace.data()},
                    count, options, nullptr),
            0);
  std::vector<float> values(size);
  std::vector<float> cpu_inverse(static_cast<size_t>(groups));
  std::vector<float> cpu_zeros(static_cast<size_t>(groups));
  std::vector<uint8_t> cpu_codes(size);
  HqqCpu(weights.Floats().data(), count, options, values.data(),
         cpu_inverse.data(), cpu_zeros.data(), cpu_codes.data());
  const HqqReference want = HqqByLoops(weights.Numbers(), options);
  return CountMismatches({want.values, want.codes},
                         {out_type, out.ReadBits(), codes.Read()},
                         {values, cpu_codes}) +
         CountMismatches(want.zeros, zeros.Read(), cpu_zeros) +
         CountMismatches(want.inverse, inverse.Read(), cpu_inverse);
}

#if defined(__SANITIZE_ADDRESS__)
constexpr int64_t kMany = 128'000;
#else
constexpr int64_t kMany = 1'000'064;  // groups of 32, 64 and 128
#endif

TEST_F(HqqKernel, EqualsTheLoops_OverAMillionWeightsOfEachKind) {
  int turn = 0;
  for (const FloatType type :
       {FloatType::kFp32, FloatType::kFp16, FloatType::kBf16}) {
    const DeviceWeights weights = RandomWeights(type, kMany, 31);
    for (const int64_t group : {32, 64, 128}) {
      const HqqOptions options{.bits = ++turn % 3 == 0 ? 3 : 4,
                               .group_size = group,
                               .axis = turn % 4 == 0 ? 0 : 1,
                               .round_zero = turn % 2 == 1};
      EXPECT_EQ(
          Mismatches(weights, turn % 2 == 0 ? type : FloatType::kFp32, options),
          0)
          << static_cast<int>(type) << " group " << group;
    }
  }
}

TEST_F(HqqKernel, EqualsTheLoops_WhenGroupsAreShifted) {
  const DeviceWeights weights = RandomWeights(FloatType::kFp32, 128'000, 33);
  for (const int64_t offset : {32, 16, 63}) {
    EXPECT_EQ(Mismatches(weights, FloatType::kFp32, {.offset = offset}), 0)
        << offset;
  }
}

// Weights that leave something after shrinking, in the solver's slow path.
TEST_F(HqqKernel, EqualsTheLoops_WithLargeErrors) {
  DeviceWeights weights = RandomWeights(FloatType::kFp32, 64'000, 32);
  for (uint32_t& bits : weights.bits) {
    bits = std::bit_cast<uint32_t>(std::bit_cast<float>(bits) * 60);
  }
  EXPECT_EQ(Mismatches(weights, FloatType::kFp32, {.bits = 2}), 0);
}

TEST_F(HqqKernel, EqualsTheLoops_AtOddSizes) {
  int turn = 0;
  for (const FloatTypes types : kFloatTypes) {
    for (const int64_t group : {1, 5, 31, 32, 33, 64, 128, 1000}) {
      for (const int64_t groups : {1, 7, 8, 9, 300}) {
        ++turn;
        const DeviceWeights weights = RandomWeights(
            types.weights, group * groups, static_cast<uint64_t>(group));
        ASSERT_EQ(Mismatches(weights, types.out,
                             {.bits = 2 + turn % 7,
                              .group_size = group,
                              .axis = turn % 3 == 0 ? 0 : 1,
                              .round_zero = turn % 2 == 0,
                              .offset = turn % 3 == 1 ? group / 2 : 0},
                             turn % 2 == 0 ? 1 : 0),
                  0)
            << "group " << group << " groups " << groups << " turn " << turn;
      }
    }
  }
}

TEST_F(HqqKernel, RefusesWhatItCannotDo) {
  DeviceArray<float> weights(64);
  DeviceArray<float> zeros(1);
  DeviceArray<char> workspace(static_cast<size_t>(HqqWorkspaceBytes(1)));
  const HqqBuffers buffers{.weights = weights.data(),
                           .out = weights.data(),
                           .inverse = zeros.data(),
                           .zeros = zeros.data(),
                           .workspace = workspace.data()};
  EXPECT_EQ(HqqCuda(buffers, 64, {.bits = 9}, nullptr), 1);
  EXPECT_EQ(HqqCuda(buffers, 64, {.group_size = 0}, nullptr), 1);
  EXPECT_EQ(HqqCuda(buffers, 64, {.group_size = 48}, nullptr), 1);
  EXPECT_EQ(HqqCuda(buffers, 64, {.offset = 64}, nullptr), 1);
  EXPECT_EQ(HqqCuda(buffers, 64, {.axis = 0, .offset = 1}, nullptr), 1);
  HqqBuffers mixed = buffers;
  mixed.out_type = FloatType::kFp16;
  EXPECT_EQ(HqqCuda(mixed, 64, {}, nullptr), 1);
  HqqBuffers without = buffers;
  without.workspace = nullptr;
  EXPECT_EQ(HqqCuda(without, 64, {}, nullptr), 1);
  EXPECT_EQ(HqqCuda(buffers, 0, {}, nullptr), 0);
}

}  // namespace
}  // namespace qsweep::kernels
