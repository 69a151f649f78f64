#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/device_memory.h"
#include "tests/support/kernel_references.h"
#include "tests/worker/kernels/device/device_weights.h"
#include "tests/worker/kernels/device/kernel_test.h"
#include "worker/kernels/nf4.h"
#include "worker/kernels/nf4_cuda.h"

// The CPU's loops are the reference: their codes are bitsandbytes's.
namespace qsweep::kernels {
namespace {

using ::qsweep::testing::DeviceArray;
using ::qsweep::testing::DeviceWeights;
using ::qsweep::testing::Encode;
using ::qsweep::testing::FloatTypes;
using ::qsweep::testing::kFloatTypes;
using ::qsweep::testing::RandomWeights;

using Nf4Kernel = qsweep::testing::KernelTest;

template <typename In, typename Out>
int64_t MismatchesTyped(const DeviceWeights& weights, FloatType out_type,
                        Nf4Options options, size_t shift) {
  using Bits = std::conditional_t<sizeof(In) == 2, uint16_t, uint32_t>;
  std::vector<In> in;
  for (const uint32_t b : weights.bits) {
    in.push_back(static_cast<Bits>(b));
  }
  const auto count = static_cast<int64_t>(in.size());
  const auto groups = static_cast<size_t>((count + options.group_size - 1) /
                                          options.group_size);
  DeviceArray<In> device_in(in, shift);
  DeviceArray<Out> out(in.size(), shift);
  DeviceArray<float> absmax(groups);
  DeviceArray<float> mean(1);
  DeviceArray<uint8_t> codes(in.size());
  EXPECT_EQ(Nf4Cuda({.weights = device_in.data(),
                     .out = out.data(),
                     .weight_type = weights.type,
                     .out_type = out_type,
                     .absmax = absmax.data(),
                     .codes = codes.data(),
                     .mean = mean.data()},
                    count, options, nullptr),
            0);
  std::vector<float> values(in.size());
  std::vector<float> scales(groups);
  std::vector<uint8_t> want(in.size());
  Nf4Cpu(weights.Floats().data(), count, options, values.data(), scales.data(),
         want.data());
  const std::vector<Out> got = out.Read();
  const std::vector<uint8_t> got_codes = codes.Read();
  int64_t mismatches = 0;
  for (size_t i = 0; i < in.size(); ++i) {
    mismatches += Encode(out_type, static_cast<double>(values[i])) == got[i] &&
                          want[i] == got_codes[i]
                      ? 0
                      : 1;
  }
  const std::vector<float> got_scales = absmax.Read();
  for (size_t i = 0; i < groups; ++i) {
    mismatches += std::bit_cast<uint32_t>(scales[i]) ==
                          std::bit_cast<uint32_t>(got_scales[i])
                      ? 0
                      : 1;
  }
  return mismatches;
}

int64_t Mismatches(const DeviceWeights& weights, FloatType out_type,
                   Nf4Options options, size_t shift = 0) {
  if (weights.type == FloatType::kFp32) {
    return MismatchesTyped<uint32_t, uint32_t>(weights, out_type, options,
                                               shift);
  }
  if (out_type == FloatType::kFp32) {
    return MismatchesTyped<uint16_t, uint32_t>(weights, out_type, options,
                                               shift);
  }
  return MismatchesTyped<uint16_t, uint16_t>(weights, out_type, options, shift);
}

#if defined(__SANITIZE_ADDRESS__)
constexpr int64_t kMany = 100'000;
#else
constexpr int64_t kMany = 1'000'000;
#endif

TEST_F(Nf4Kernel, EqualsTheCpu_OverAMillionWeightsOfEachKind) {
  for (const FloatTypes types : kFloatTypes) {
    const DeviceWeights weights = RandomWeights(types.weights, kMany, 21);
    for (const bool double_quant : {false, true}) {
      EXPECT_EQ(Mismatches(weights, types.out, {.double_quant = double_quant}),
                0)
          << static_cast<int>(types.weights) << double_quant;
    }
  }
}

TEST_F(Nf4Kernel, EqualsTheCpu_AtOddSizes) {
  for (const FloatTypes types : kFloatTypes) {
    for (const int64_t count : {1, 7, 63, 64, 65, 1000, 4097, 16'449}) {
      const DeviceWeights weights =
          RandomWeights(types.weights, count, static_cast<uint64_t>(count));
      for (const int64_t group : {1, 5, 64, 96, 256, 4096}) {
        for (const bool double_quant : {false, true}) {
          for (const size_t shift : {0, 1}) {
            ASSERT_EQ(
                Mismatches(weights, types.out,
                           {.group_size = group, .double_quant = double_quant},
                           shift),
                0)
                << "count " << count << " group " << group;
          }
        }
      }
    }
  }
}

TEST_F(Nf4Kernel, RefusesWhatItCannotDo) {
  DeviceArray<float> weights(64);
  DeviceArray<float> out(64);
  const Nf4Buffers buffers{.weights = weights.data(), .out = out.data()};
  EXPECT_EQ(Nf4Cuda(buffers, 64, {.group_size = 0}, nullptr), 1);
  EXPECT_EQ(Nf4Cuda(buffers, 64, {.double_quant = true}, nullptr), 1);
  Nf4Buffers mixed = buffers;
  mixed.out_type = FloatType::kFp16;
  EXPECT_EQ(Nf4Cuda(mixed, 64, {}, nullptr), 1);
  EXPECT_EQ(Nf4Cuda(buffers, 0, {}, nullptr), 0);
}

}  // namespace
}  // namespace qsweep::kernels
