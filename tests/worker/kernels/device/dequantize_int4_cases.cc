#include <bit>
#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/random.h"
#include "tests/support/device_memory.h"
#include "tests/support/kernel_references.h"
#include "tests/worker/kernels/device/kernel_test.h"
#include "worker/kernels/dequantize_int4.h"
#include "worker/kernels/rtn.h"

namespace qsweep::kernels {
namespace {

using ::qsweep::testing::Decode;
using ::qsweep::testing::DeviceArray;
using ::qsweep::testing::Encode;
using ::qsweep::testing::RoundTo;

using DequantizeInt4Kernel = qsweep::testing::KernelTest;

// A matrix in plain numbers.
struct Plain {
  RtnShape shape;
  std::vector<int16_t> codes;  // [rows, cols]
  std::vector<double> scales;  // [rows, groups_per_row]
  std::vector<int16_t> zeros;  // the same, or empty: all are 8
};

// Rows of 4-bit numbers, eight to a word, as the header draws them.
std::vector<uint32_t> Pack(const std::vector<int16_t>& numbers, int64_t rows) {
  const size_t cols = numbers.size() / static_cast<size_t>(rows);
  const size_t words = (cols + 7) / 8;
  std::vector<uint32_t> packed(static_cast<size_t>(rows) * words);
  for (size_t i = 0; i < numbers.size(); ++i) {
    const size_t col = i % cols;
    packed[i / cols * words + col / 8] |= static_cast<uint32_t>(numbers[i])
                                          << (4 * (col % 8));
  }
  return packed;
}

// Bits of the device's values.
template <typename Out, typename Scale>
std::vector<uint32_t> DequantizeTyped(const Plain& plain, FloatType scale_type,
                                      FloatType out_type, size_t shift) {
  std::vector<Scale> scale_bits;
  for (const double scale : plain.scales) {
    scale_bits.push_back(static_cast<Scale>(Encode(scale_type, scale)));
  }
  DeviceArray<uint32_t> codes(Pack(plain.codes, plain.shape.rows));
  DeviceArray<Scale> scales(scale_bits);
  DeviceArray<uint32_t> zeros(plain.zeros.empty()
                                  ? std::vector<uint32_t>()
                                  : Pack(plain.zeros, plain.shape.rows));
  DeviceArray<Out> out(plain.codes.size(), shift);
  EXPECT_EQ(DequantizeInt4Cuda(
                {.rows = plain.shape.rows,
                 .cols = plain.shape.cols,
                 .group_size = plain.shape.group_size,
                 .codes = codes.data(),
                 .scales = scales.data(),
                 .scale_type = scale_type,
                 .zeros = plain.zeros.empty() ? nullptr : zeros.data()},
                out.data(), out_type, nullptr),
            0);
  const std::vector<Out> values = out.Read();
  return std::vector<uint32_t>(values.begin(), values.end());
}

std::vector<uint32_t> Dequantize(const Plain& plain, FloatType scale_type,
                                 FloatType out_type, size_t shift = 0) {
  if (out_type == FloatType::kFp32) {
    return scale_type == FloatType::kFp32
               ? DequantizeTyped<uint32_t, uint32_t>(plain, scale_type,
                                                     out_type, shift)
               : DequantizeTyped<uint32_t, uint16_t>(plain, scale_type,
                                                     out_type, shift);
  }
  return scale_type == FloatType::kFp32
             ? DequantizeTyped<uint16_t, uint32_t>(plain, scale_type, out_type,
                                                   shift)
             : DequantizeTyped<uint16_t, uint16_t>(plain, scale_type, out_type,
                                                   shift);
}

int64_t Mismatches(const Plain& plain, const std::vector<uint32_t>& got,
                   FloatType out_type) {
  int64_t mismatches = 0;
  const auto cols = static_cast<size_t>(plain.shape.cols);
  const auto groups = static_cast<size_t>(plain.shape.groups_per_row());
  for (size_t i = 0; i < got.size(); ++i) {
    const size_t group = i / cols * groups +
                         i % cols / static_cast<size_t>(plain.shape.group_size);
    const int zero = plain.zeros.empty() ? 8 : plain.zeros[group];
    const double value = RoundTo(FloatType::kFp32,
                                 plain.scales[group] * (plain.codes[i] - zero));
    // The reference's zero may be negative, the kernel's is not.
    mismatches += got[i] == Encode(out_type, value == 0 ? 0.0 : value) ? 0 : 1;
  }
  return mismatches;
}

Plain RandomMatrix(RtnShape shape, FloatType scale_type, bool with_zeros,
                   uint64_t seed) {
  Random random(seed);
  Plain plain{shape, {}, {}, {}};
  for (int64_t i = 0; i < shape.rows * shape.cols; ++i) {
    plain.codes.push_back(static_cast<int16_t>(random.Below(16)));
  }
  for (int64_t i = 0; i < shape.rows * shape.groups_per_row(); ++i) {
    plain.scales.push_back(
        RoundTo(scale_type, 0.01 * (0.1 + random.Uniform())));
    if (with_zeros) {
      plain.zeros.push_back(static_cast<int16_t>(random.Below(16)));
    }
  }
  return plain;
}

TEST_F(DequantizeInt4Kernel, EqualsTheLoops_AtOddSizes) {
  int turn = 0;
  for (const FloatType scale_type : {FloatType::kFp16, FloatType::kFp32}) {
    for (const FloatType out_type :
         {FloatType::kFp32, FloatType::kFp16, FloatType::kBf16}) {
      for (const int64_t cols : {1, 7, 8, 9, 63, 64, 65, 2048, 2049, 4100}) {
        for (const int64_t group : {1, 3, 8, 32, 100, 128, 5000}) {
          ++turn;
          const Plain plain =
              RandomMatrix({3, cols, group}, scale_type, turn % 3 != 0,
                           static_cast<uint64_t>(turn));
          ASSERT_EQ(Mismatches(plain,
                               Dequantize(plain, scale_type, out_type,
                                          static_cast<size_t>(turn % 2)),
                               out_type),
                    0)
              << "cols " << cols << " group " << group;
        }
      }
    }
  }
}

TEST_F(DequantizeInt4Kernel, EqualsTheLoops_OverAMillionCodes) {
  for (const int64_t group : {32, 64, 128, 4100}) {
    const Plain plain =
        RandomMatrix({244, 4100, group}, FloatType::kFp16, true, 31);
    for (const FloatType out_type :
         {FloatType::kFp32, FloatType::kFp16, FloatType::kBf16}) {
      ASSERT_EQ(Mismatches(plain, Dequantize(plain, FloatType::kFp16, out_type),
                           out_type),
                0)
          << group;
    }
  }
}

// What was packed comes out as the values that quantizing it gave.
TEST_F(DequantizeInt4Kernel, GivesTheValuesOfTheQuantizer) {
  Random random(32);
  std::vector<float> weights;
  const RtnShape shape{50, 1000, 128};
  for (int i = 0; i < 50 * 1000; ++i) {
    weights.push_back(static_cast<float>(random.Uniform() - 0.5));
  }
  std::vector<float> values(weights.size());
  std::vector<float> scales(static_cast<size_t>(50 * shape.groups_per_row()));
  Plain plain{shape, std::vector<int16_t>(weights.size()), {}, {}};
  RtnCpu(weights.data(), shape,
         {.grid = RtnGrid::kGptqSymmetric, .half_scale = true}, values.data(),
         scales.data(), plain.codes.data());
  plain.scales.assign(scales.begin(), scales.end());
  const std::vector<uint32_t> got =
      Dequantize(plain, FloatType::kFp16, FloatType::kFp32);
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(got[i], std::bit_cast<uint32_t>(values[i])) << i;
  }
}

TEST_F(DequantizeInt4Kernel, ReadsTheFirstCodeFromTheLowestBits) {
  const Plain plain{{1, 9, 9}, {1, 2, 3, 4, 5, 6, 7, 8, 9}, {1.0}, {0}};
  ASSERT_THAT(Pack(plain.codes, 1), ::testing::ElementsAre(0x87654321u, 9u));
  std::vector<double> values;
  for (const uint32_t bits :
       Dequantize(plain, FloatType::kFp16, FloatType::kBf16)) {
    values.push_back(Decode(FloatType::kBf16, bits));
  }
  EXPECT_THAT(values, ::testing::ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9));
}

TEST_F(DequantizeInt4Kernel, RefusesWhatItCannotDo) {
  DeviceArray<uint32_t> out(size_t{8});
  const std::vector<uint32_t> before = out.Read();
  const Int4Matrix good = {.rows = 1, .cols = 8, .group_size = 8};
  Int4Matrix bad = good;
  bad.group_size = 0;
  EXPECT_EQ(DequantizeInt4Cuda(bad, out.data(), FloatType::kFp32, nullptr), 1);
  bad = good;
  bad.scale_type = FloatType::kBf16;
  EXPECT_EQ(DequantizeInt4Cuda(bad, out.data(), FloatType::kFp32, nullptr), 1);
  bad = good;
  bad.rows = int64_t{1} << 31;
  EXPECT_EQ(DequantizeInt4Cuda(bad, out.data(), FloatType::kFp32, nullptr), 1);
  bad.rows = 0;
  EXPECT_EQ(DequantizeInt4Cuda(bad, out.data(), FloatType::kFp32, nullptr), 0);
  EXPECT_EQ(out.Read(), before);
}

}  // namespace
}  // namespace qsweep::kernels
