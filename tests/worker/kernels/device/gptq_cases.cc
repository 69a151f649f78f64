#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/random.h"
#include "tests/support/device_memory.h"
#include "tests/support/kernel_references.h"
#include "tests/worker/kernels/device/device_weights.h"
#include "tests/worker/kernels/device/kernel_test.h"
#include "worker/kernels/gptq.h"
#include "worker/kernels/gptq_cuda.h"
#include "worker/kernels/quantizer_loops.h"

namespace qsweep::kernels {
namespace {

using ::qsweep::testing::DeviceArray;
using ::qsweep::testing::DeviceNumbers;
using ::qsweep::testing::DeviceWeights;
using ::qsweep::testing::Encode;
using ::qsweep::testing::GptqByLoops;
using ::qsweep::testing::GptqReference;

class GptqKernel : public qsweep::testing::KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
#if defined(__x86_64__)
    if (!BestQuantizerLoops().fused) {
      GTEST_SKIP()
          << "the CPU's sums are not fused: it has neither AVX2 nor AVX-512";
    }
#endif
  }
};

// Of inputs that depend on each other, some columns of which are always 0.
GptqFactor SomeFactor(int64_t columns, bool act_order) {
  Random random(static_cast<uint64_t>(columns));
  const auto size = static_cast<size_t>(columns);
  std::vector<float> hessian(size * size);
  std::vector<float> x(size);
  for (int64_t sample = 0; sample < columns / 2 + 8; ++sample) {
    const double shared = random.Uniform() - 0.5;
    for (size_t c = 0; c < size; ++c) {
      x[c] =
          static_cast<float>(c % 41 == 17 ? 0
                                          : (random.Uniform() - 0.5 + shared) *
                                                (c % 8 == 3 ? 3 : 1));
    }
    for (size_t i = 0; i < size; ++i) {
      for (size_t j = 0; j < size; ++j) {
        hessian[i * size + j] += x[i] * x[j];
      }
    }
  }
  GptqFactor factor;
  EXPECT_EQ(FactorForGptq(hessian.data(), columns, 0.05, act_order, InSequence,
                          factor),
            GptqFactoring::kDone);
  return factor;
}

// Rows of each character: plain, with outliers, all zero, of one sign, tiny.
DeviceWeights SomeWeights(FloatType type, int64_t rows, int64_t columns) {
  Random random(static_cast<uint64_t>(rows * columns));
  DeviceWeights weights{type, {}};
  for (int64_t row = 0; row < rows; ++row) {
    const uint64_t character = random.Below(12);
    for (int64_t c = 0; c < columns; ++c) {
      double w = 0.05 * (random.Uniform() + random.Uniform() - 1);
      w = character == 0                            ? 0.0
          : character == 1                          ? std::fabs(w)
          : character == 2                          ? 1e-40 * w
          : character < 6 && random.Below(100) == 0 ? 30 * w
                                                    : w;
      weights.bits.push_back(Encode(type, w));
    }
  }
  return weights;
}

struct Quantized {
  std::vector<uint8_t> codes;
  std::vector<float> scales;
  std::vector<uint8_t> zeros;
};

Quantized OnDevice(const DeviceWeights& weights, int64_t rows,
                   const GptqFactor& factor, const GptqOptions& options,
                   size_t shift) {
  const auto copy = [](const AlignedArray<float>& array) {
    return std::vector<float>(array.data(), array.data() + array.size());
  };
  DeviceArray<float> upper(copy(factor.upper));
  DeviceArray<float> inverses(copy(factor.inverses));
  DeviceArray<int32_t> order(factor.order);
  DeviceArray<uint8_t> dead(
      std::vector<uint8_t>(factor.dead.begin(), factor.dead.end()));
  DeviceNumbers in(weights, shift);
  const auto groups =
      static_cast<size_t>(rows * options.groups_per_row(factor.columns));
  DeviceArray<uint8_t> codes(weights.bits.size(), shift);
  DeviceArray<float> scales(groups, shift);
  DeviceArray<uint8_t> zeros(groups, shift);
  DeviceArray<char> workspace(
      static_cast<size_t>(GptqWorkspaceBytes(rows, factor.columns, options)));
  EXPECT_EQ(GptqCuda({.columns = factor.columns,
                      .upper = upper.data(),
                      .inverses = inverses.data(),
                      .order = order.data(),
                      .dead = dead.data()},
                     {.weights = in.data(),
                      .weight_type = weights.type,
                      .codes = codes.data(),
                      .scales = scales.data(),
                      .zeros = zeros.data(),
                      .workspace = workspace.data()},
                     rows, options, nullptr),
            0);
  return {codes.Read(), scales.Read(), zeros.Read()};
}

Quantized OnCpu(const std::vector<float>& weights, int64_t rows,
                const GptqFactor& factor, const GptqOptions& options) {
  const auto groups =
      static_cast<size_t>(rows * options.groups_per_row(factor.columns));
  Quantized cpu{std::vector<uint8_t>(weights.size()),
                std::vector<float>(groups), std::vector<uint8_t>(groups)};
  GptqCpu(weights.data(), rows, factor, options,
          {.codes = cpu.codes.data(),
           .scales = cpu.scales.data(),
           .zeros = cpu.zeros.data()});
  return cpu;
}

template <typename T>
int64_t Different(const std::vector<T>& a, const std::vector<T>& b) {
  int64_t different = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    different += a[i] == b[i] ? 0 : 1;
  }
  return different;
}

int64_t Different(const Quantized& got, const GptqReference& want) {
  return Different(got.codes, want.codes) +
         Different(got.scales,
                   std::vector<float>(want.scales.begin(), want.scales.end())) +
         Different(got.zeros, want.zeros);
}

// What the kernel, or the CPU, does not have as plain loops have it.
int64_t Mismatches(FloatType type, int64_t rows, const GptqFactor& factor,
                   const GptqOptions& options, size_t shift = 0) {
  const DeviceWeights weights = SomeWeights(type, rows, factor.columns);
  const GptqReference want =
      GptqByLoops(weights.Numbers(), rows, factor, options);
  return Different(OnDevice(weights, rows, factor, options, shift), want) +
         Different(OnCpu(weights.Floats(), rows, factor, options), want);
}

#if defined(__SANITIZE_ADDRESS__)
constexpr int64_t kRowsOfEach = 16;
constexpr int64_t kRowsOfMany = 96;
constexpr int kEveryOddSize = 11;
#else
constexpr int64_t kRowsOfEach = 83;
constexpr int64_t kRowsOfMany = 3907;
constexpr int kEveryOddSize = 3;
#endif

TEST_F(GptqKernel, EqualsTheLoops_OverAMillionWeightsOfEachKind) {
  constexpr int64_t kColumns = 256;
  const GptqFactor factor = SomeFactor(kColumns, true);
  int turn = 0;
  for (const FloatType type :
       {FloatType::kFp32, FloatType::kFp16, FloatType::kBf16}) {
    for (const int64_t group : {0, 32, 128}) {
      EXPECT_EQ(Mismatches(type, kRowsOfMany, factor,
                           {.bits = 4 - turn % 2,
                            .group_size = group,
                            .symmetric = turn % 3 == 0}),
                0)
          << static_cast<int>(type) << " group " << group;
      ++turn;
    }
  }
}

// 500,000 weights in all.
TEST_F(GptqKernel, EqualsTheLoops_InEveryMode) {
  constexpr int64_t kColumns = 384;
  const GptqFactor plain = SomeFactor(kColumns, false);
  const GptqFactor ordered = SomeFactor(kColumns, true);
  int turn = 0;
  for (const GptqOptions& mode : {
           GptqOptions{.group_size = 128},
           GptqOptions{.group_size = 32},  // stale weights
           GptqOptions{.group_size = 0},
           GptqOptions{.group_size = 256},  // reaches over a block
           GptqOptions{.group_size = 128, .static_groups = true},
           GptqOptions{.group_size = 100, .static_groups = true},
           GptqOptions{.group_size = 48},
           GptqOptions{.group_size = 128, .half_scale = true},
       }) {
    for (const bool act_order : {false, true}) {
      GptqOptions options = mode;
      options.bits = 2 + turn % 7;
      options.symmetric = turn / 2 % 2 == 0;
      const FloatType type = turn % 4 == 1   ? FloatType::kFp16
                             : turn % 4 == 3 ? FloatType::kBf16
                                             : FloatType::kFp32;
      ++turn;
      EXPECT_EQ(
          Mismatches(type, kRowsOfEach, act_order ? ordered : plain, options),
          0)
          << "group " << options.group_size << " act_order " << act_order
          << " bits " << options.bits;
    }
  }
}

TEST_F(GptqKernel, EqualsTheLoops_AtOddSizes) {
  int turn = 0;
  for (const int64_t columns : {1, 5, 31, 127, 128, 129, 200, 257, 300}) {
    const GptqFactor factor = SomeFactor(columns, columns % 2 == 0);
    for (const int64_t rows : {1, 31, 32, 33, 65}) {
      for (const int64_t group : {0, 1, 3, 64, 127, 130, 299, 1000}) {
        ++turn;
        if (turn % kEveryOddSize != 0) {
          continue;
        }
        ASSERT_EQ(Mismatches(FloatType::kFp32, rows, factor,
                             {.bits = 2 + turn % 7,
                              .group_size = group,
                              .symmetric = turn % 2 == 0,
                              .static_groups = turn % 5 == 0,
                              .half_scale = turn % 7 == 0},
                             turn % 4 == 0 ? 1 : 0),
                  0)
            << "columns " << columns << " rows " << rows << " group " << group;
      }
    }
  }
}

TEST_F(GptqKernel, ShowsRowsThatOverflow_AndKeepsTheirCodesInRange) {
  constexpr int64_t kRows = 40;
  const GptqFactor factor = SomeFactor(200, false);
  DeviceWeights weights = SomeWeights(FloatType::kFp32, kRows, 200);
  for (size_t i = 3 * 200; i < 9 * 200; ++i) {
    weights.bits[i] = Encode(FloatType::kFp32, i % 3 == 0 ? 3e38 : -2e38);
  }
  const GptqOptions options{.bits = 3, .group_size = 64};
  const Quantized got = OnDevice(weights, kRows, factor, options, 0);
  const Quantized want = OnCpu(weights.Floats(), kRows, factor, options);
  EXPECT_LE(*std::ranges::max_element(got.codes), 7);
  int64_t overflowed = 0;
  for (size_t row = 0; row < kRows; ++row) {
    const auto finite = [&](const std::vector<float>& scales) {
      return std::all_of(scales.begin() + static_cast<int64_t>(row) * 4,
                         scales.begin() + static_cast<int64_t>(row) * 4 + 4,
                         [](float scale) { return std::isfinite(scale); });
    };
    EXPECT_TRUE(finite(want.scales) || !finite(got.scales)) << row;
    overflowed += finite(got.scales) ? 0 : 1;
    for (size_t c = row * 200; finite(got.scales) && c < row * 200 + 200; ++c) {
      ASSERT_EQ(got.codes[c], want.codes[c]) << row;
    }
  }
  EXPECT_EQ(overflowed, 6);
}

TEST_F(GptqKernel, RefusesWhatItCannotDo) {
  DeviceArray<float> numbers(64);
  DeviceArray<int32_t> order(64);
  DeviceArray<uint8_t> bytes(64);
  const GptqDeviceFactor factor{.columns = 8,
                                .upper = numbers.data(),
                                .inverses = numbers.data(),
                                .order = order.data(),
                                .dead = bytes.data()};
  const GptqBuffers buffers{.weights = numbers.data(),
                            .codes = bytes.data(),
                            .scales = numbers.data(),
                            .zeros = bytes.data(),
                            .workspace = numbers.data()};
  EXPECT_EQ(GptqCuda(factor, buffers, 1, {.bits = 9}, nullptr), 1);
  EXPECT_EQ(GptqCuda(factor, buffers, 1, {.group_size = -1}, nullptr), 1);
  EXPECT_EQ(GptqCuda(factor, buffers, int64_t{1} << 31, {}, nullptr), 1);
  GptqBuffers without = buffers;
  without.workspace = nullptr;
  EXPECT_EQ(GptqCuda(factor, without, 1, {}, nullptr), 1);
  GptqDeviceFactor none = factor;
  none.order = nullptr;
  EXPECT_EQ(GptqCuda(none, buffers, 1, {}, nullptr), 1);
  EXPECT_EQ(GptqCuda(factor, buffers, 0, {}, nullptr), 0);
}

}  // namespace
}  // namespace qsweep::kernels
