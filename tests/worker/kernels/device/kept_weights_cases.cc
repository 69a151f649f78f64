#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

#include "tests/support/kernel_references.h"
#include "tests/worker/kernels/device/device_weights.h"
#include "tests/worker/kernels/device/kernel_test.h"
#include "worker/kernels/kept_weights.h"
#include "worker/kernels/kept_weights_cuda.h"

namespace qsweep::kernels {
namespace {

using ::qsweep::testing::DeviceNumbers;
using ::qsweep::testing::DeviceWeights;
using ::qsweep::testing::Encode;
using ::qsweep::testing::FloatTypes;
using ::qsweep::testing::kFloatTypes;
using ::qsweep::testing::RandomWeights;

using KeptWeightsKernel = qsweep::testing::KernelTest;

// The weights of rank 1, k and n, and what no weight reaches.
std::vector<float> Thresholds(const std::vector<float>& weights) {
  std::vector<float> magnitudes;
  for (const float weight : weights) {
    magnitudes.push_back(std::fabs(weight));
  }
  std::ranges::sort(magnitudes, std::greater<>());
  return {magnitudes.front(), magnitudes[magnitudes.size() / 3],
          magnitudes.back(), std::numeric_limits<float>::infinity()};
}

int64_t Mismatches(const DeviceWeights& weights, FloatType out_type, float from,
                   size_t shift) {
  const size_t count = weights.bits.size();
  DeviceNumbers in(weights, shift);
  DeviceNumbers out(out_type, count, shift);
  const std::vector<uint32_t> before = out.ReadBits();
  EXPECT_EQ(KeepWeightsCuda({.weights = in.data(),
                             .out = out.data(),
                             .weight_type = weights.type,
                             .out_type = out_type},
                            static_cast<int64_t>(count), from, nullptr),
            0);
  const std::vector<uint32_t> got = out.ReadBits();
  const std::vector<float> floats = weights.Floats();
  std::vector<float> want(count, std::numeric_limits<float>::quiet_NaN());
  KeptWeights(floats, from).Restore(want);
  int64_t mismatches = 0;
  for (size_t i = 0; i < count; ++i) {
    const bool kept = std::fabs(floats[i]) >= from;
    EXPECT_EQ(kept, !std::isnan(want[i]));
    const uint32_t wanted =
        kept ? Encode(out_type, static_cast<double>(want[i])) : before[i];
    mismatches += got[i] == wanted ? 0 : 1;
  }
  return mismatches;
}

TEST_F(KeptWeightsKernel, EqualsTheCpu_AtOddSizesAndTies) {
  for (const FloatTypes types : kFloatTypes) {
    for (const int64_t count : {1, 7, 8, 63, 64, 65, 2047, 2048, 2049, 9001}) {
      const DeviceWeights weights =
          RandomWeights(types.weights, count, static_cast<uint64_t>(count));
      for (const float from : Thresholds(weights.Floats())) {
        for (const size_t shift : {0, 1}) {
          ASSERT_EQ(Mismatches(weights, types.out, from, shift), 0)
              << count << " from " << from << " shift " << shift;
        }
      }
    }
  }
}

TEST_F(KeptWeightsKernel, EqualsTheCpu_OverAMillionWeights) {
  for (const FloatTypes types : kFloatTypes) {
    const DeviceWeights weights = RandomWeights(types.weights, 1'000'000, 5);
    EXPECT_EQ(
        Mismatches(weights, types.out, Thresholds(weights.Floats())[1], 0), 0);
  }
}

TEST_F(KeptWeightsKernel, RefusesBuffersThatItCannotUse) {
  DeviceNumbers numbers(RandomWeights(FloatType::kFp16, 8, 1), 0);
  const auto keep = [&](const KeptBuffers& buffers) {
    return KeepWeightsCuda(buffers, 8, 1, nullptr);
  };
  EXPECT_EQ(keep({.weights = numbers.data()}), 1);
  EXPECT_EQ(keep({.out = numbers.data()}), 1);
  EXPECT_EQ(keep({.weights = numbers.data(),
                  .out = numbers.data(),
                  .weight_type = FloatType::kFp32,
                  .out_type = FloatType::kFp16}),
            1);
}

}  // namespace
}  // namespace qsweep::kernels
