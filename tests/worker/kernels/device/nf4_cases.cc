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
#include "worker/kernels/nf4.h"
#include "worker/kernels/nf4_cuda.h"

namespace qsweep::kernels {
namespace {

using ::qsweep::testing::CountMismatches;
using ::qsweep::testing::DeviceArray;
using ::qsweep::testing::DeviceNumbers;
using ::qsweep::testing::DeviceWeights;
using ::qsweep::testing::FloatTypes;
using ::qsweep::testing::kFloatTypes;
using ::qsweep::testing::Nf4ByLoops;
using ::qsweep::testing::Nf4Reference;
using ::qsweep::testing::RandomWeights;

using Nf4Kernel = qsweep::testing::KernelTest;

// What the kernel, or the CPU, does not have as plain loops have it.
int64_t Mismatches(const DeviceWeights& weights, FloatType out_type,
                   Nf4Options options, size_t shift = 0) {
  const size_t size = weights.bits.size();
  const auto count = static_cast<int64_t>(size);
  const auto groups = static_cast<size_t>(options.groups(count));
  DeviceNumbers in(weights, shift);
  DeviceNumbers out(out_type, size, shift);
  DeviceArray<float> absmax(groups);
  DeviceArray<char> workspace(size_t{kNf4WorkspaceBytes});
  DeviceArray<uint8_t> codes(size);
  EXPECT_EQ(Nf4Cuda({.weights = in.data(),
                     .out = out.data(),
                     .weight_type = weights.type,
                     .out_type = out_type,
                     .absmax = absmax.data(),
                     .codes = codes.data(),
                     .workspace = workspace.data()},
                    count, options, nullptr),
            0);
  std::vector<float> values(size);
  std::vector<float> scales(groups);
  std::vector<uint8_t> cpu_codes(size);
  Nf4Cpu(weights.Floats().data(), count, options, values.data(), scales.data(),
         cpu_codes.data());
  const Nf4Reference want = Nf4ByLoops(weights.Numbers(), options);
  return CountMismatches({want.values, want.codes},
                         {out_type, out.ReadBits(), codes.Read()},
                         {values, cpu_codes}) +
         CountMismatches(want.scales, absmax.Read(), scales);
}

#if defined(__SANITIZE_ADDRESS__)
constexpr int64_t kMany = 100'000;
#else
constexpr int64_t kMany = 1'000'000;
#endif

TEST_F(Nf4Kernel, EqualsTheLoops_OverAMillionWeightsOfEachKind) {
  for (const FloatTypes types : kFloatTypes) {
    const DeviceWeights weights = RandomWeights(types.weights, kMany, 21);
    for (const int64_t group : {32, 64, 128, 256, 4096}) {
      for (const bool double_quant : {false, true}) {
        EXPECT_EQ(
            Mismatches(weights, types.out,
                       {.group_size = group, .double_quant = double_quant}),
            0)
            << static_cast<int>(types.weights) << " group " << group << " "
            << double_quant;
      }
    }
  }
}

TEST_F(Nf4Kernel, EqualsTheLoops_AtOddSizes) {
  int turn = 0;
  for (const FloatTypes types : kFloatTypes) {
    for (const int64_t count : {1, 7, 63, 64, 65, 1000, 4097, 12'288, 16'449}) {
      const DeviceWeights weights =
          RandomWeights(types.weights, count, static_cast<uint64_t>(count));
      for (const int64_t group : {1, 5, 8, 64, 96, 256, 4096}) {
        for (const bool double_quant : {false, true}) {
          for (const size_t shift : {0, 1}) {
            const int64_t offsets[] = {0, group / 2, group - 1};
            const int64_t offset = offsets[++turn % 3];
            ASSERT_EQ(Mismatches(weights, types.out,
                                 {.group_size = group,
                                  .double_quant = double_quant,
                                  .offset = offset},
                                 shift),
                      0)
                << "count " << count << " group " << group << " offset "
                << offset;
          }
        }
      }
    }
  }
}

// Each threshold and each border between the bins of the kernel's table, and
// their neighbours; a group of zeros and one whose reciprocal is infinite.
TEST_F(Nf4Kernel, EqualsTheLoops_NextToThresholds) {
  std::vector<float> numbers;
  for (int code = 0; code < kNf4Codes - 1; ++code) {
    numbers.push_back(Nf4Threshold(code));
  }
  for (int quarter = -64; quarter <= 64; ++quarter) {
    numbers.push_back((static_cast<float>(quarter) / 4 + 0.125f) / 15.5f);
  }
  DeviceWeights weights{FloatType::kFp32, {}};
  for (const float number : numbers) {
    for (uint32_t ulp = 0; ulp <= 8; ++ulp) {
      weights.bits.push_back(std::bit_cast<uint32_t>(number) + ulp - 4);
    }
  }
  weights.bits.resize((weights.bits.size() + 63) / 64 * 64);
  for (size_t i = 0; i < weights.bits.size(); i += 64) {
    weights.bits[i] = std::bit_cast<uint32_t>(1.0f);  // what it divides by
  }
  for (uint32_t i = 0; i < 64; ++i) {  // subnormal
    weights.bits.push_back(i % 3 == 0 ? 0 : i % 2 << 31 | i);
  }
  weights.bits.resize(weights.bits.size() + 64);
  EXPECT_EQ(Mismatches(weights, FloatType::kFp32, {}), 0);
}

TEST_F(Nf4Kernel, RefusesWhatItCannotDo) {
  DeviceArray<float> weights(64);
  DeviceArray<float> out(64);
  const Nf4Buffers buffers{.weights = weights.data(), .out = out.data()};
  EXPECT_EQ(Nf4Cuda(buffers, 64, {.group_size = 0}, nullptr), 1);
  EXPECT_EQ(Nf4Cuda(buffers, 64, {.double_quant = true}, nullptr), 1);
  EXPECT_EQ(Nf4Cuda(buffers, 64, {.offset = 64}, nullptr), 1);
  Nf4Buffers mixed = buffers;
  mixed.out_type = FloatType::kFp16;
  EXPECT_EQ(Nf4Cuda(mixed, 64, {}, nullptr), 1);
  EXPECT_EQ(Nf4Cuda(buffers, 0, {}, nullptr), 0);
}

}  // namespace
}  // namespace qsweep::kernels
