#include <cmath>
#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/random.h"
#include "tests/support/device_memory.h"
#include "tests/support/kernel_references.h"
#include "tests/worker/kernels/device/kernel_test.h"
#include "worker/kernels/decoder_rows.h"

namespace qsweep::kernels {
namespace {

using ::qsweep::testing::Decode;
using ::qsweep::testing::DeviceArray;
using ::qsweep::testing::Encode;

using DecoderRowsKernel = qsweep::testing::KernelTest;

constexpr FloatType kTypes[] = {FloatType::kFp32, FloatType::kFp16,
                                FloatType::kBf16};
constexpr float kEps = 1e-5F;

std::vector<float> RandomFloats(int64_t count, double scale, uint64_t seed) {
  Random random(seed);
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<float>(scale * (2 * random.Uniform() - 1)));
  }
  return values;
}

// Values of an output buffer of 4- or 2-byte numbers.
std::vector<double> Read(FloatType type, DeviceArray<uint16_t>& out) {
  const std::vector<uint16_t> halves = out.Read();
  std::vector<double> values;
  if (type == FloatType::kFp32) {
    for (size_t i = 0; i + 1 < halves.size(); i += 2) {
      values.push_back(
          Decode(type, halves[i] | static_cast<uint32_t>(halves[i + 1]) << 16));
    }
    return values;
  }
  for (const uint16_t half : halves) {
    values.push_back(Decode(type, half));
  }
  return values;
}

size_t Halves(FloatType type) { return type == FloatType::kFp32 ? 2 : 1; }

// Of the result's type, how far rounding may take it.
double Ulp(FloatType type) {
  switch (type) {
    case FloatType::kFp32:
      return 0x1p-22;
    case FloatType::kFp16:
      return 0x1p-11;
    case FloatType::kBf16:
      return 0x1p-8;
  }
  return 0;
}

std::vector<double> Norm(const std::vector<float>& rows, int64_t width,
                         const std::vector<float>& gains, FloatType type,
                         size_t shift = 0) {
  DeviceArray<float> in(rows, shift);
  DeviceArray<float> device_gains(gains);
  DeviceArray<uint16_t> out(rows.size() * Halves(type));
  EXPECT_EQ(
      RmsNormCuda(in.data(), static_cast<int64_t>(rows.size()) / width, width,
                  device_gains.data(), kEps, out.data(), type, nullptr),
      0);
  return Read(type, out);
}

TEST_F(DecoderRowsKernel, NormEqualsTheFormula_AtOddWidths) {
  for (const FloatType type : kTypes) {
    for (const int64_t width : {1, 7, 8, 64, 255, 576, 2056, 4096, 11009}) {
      const int64_t rows = 3;
      const std::vector<float> in = RandomFloats(rows * width, 30, 1);
      const std::vector<float> gains = RandomFloats(width, 2, 2);
      const std::vector<double> got = Norm(in, width, gains, type);
      ASSERT_EQ(got.size(), in.size());
      for (int64_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (int64_t i = 0; i < width; ++i) {
          const double x = in[static_cast<size_t>(r * width + i)];
          squares += x * x;
        }
        const double scale =
            1 / std::sqrt(squares / static_cast<double>(width) + kEps);
        for (int64_t i = 0; i < width; ++i) {
          const auto at = static_cast<size_t>(r * width + i);
          const double want = in[at] * scale * gains[static_cast<size_t>(i)];
          ASSERT_NEAR(got[at], want, std::abs(want) * Ulp(type) + 1e-7)
              << "width " << width << ", row " << r << ", column " << i;
        }
      }
    }
  }
}

TEST_F(DecoderRowsKernel, NormGivesTheSameBits_WhateverThePlace) {
  constexpr int64_t kWidth = 576;
  const std::vector<float> row = RandomFloats(kWidth, 3, 3);
  const std::vector<float> gains = RandomFloats(kWidth, 1, 4);
  const std::vector<double> alone = Norm(row, kWidth, gains, FloatType::kFp32);
  std::vector<float> rows = RandomFloats(4 * kWidth, 900, 5);
  rows.insert(rows.end(), row.begin(), row.end());
  // An odd shift reads value by value, not by vectors.
  for (const size_t shift : {0, 1}) {
    std::vector<double> got =
        Norm(rows, kWidth, gains, FloatType::kFp32, shift);
    got.erase(got.begin(), got.end() - kWidth);
    EXPECT_EQ(got, alone);
  }
}

TEST_F(DecoderRowsKernel, NormWritesOverItsInput) {
  constexpr int64_t kWidth = 80;
  const std::vector<float> rows = RandomFloats(2 * kWidth, 1, 6);
  const std::vector<float> gains = RandomFloats(kWidth, 1, 7);
  DeviceArray<float> device(rows);
  DeviceArray<float> device_gains(gains);
  ASSERT_EQ(RmsNormCuda(device.data(), 2, kWidth, device_gains.data(), kEps,
                        device.data(), FloatType::kFp32, nullptr),
            0);
  const std::vector<float> got = device.Read();
  const std::vector<double> want = Norm(rows, kWidth, gains, FloatType::kFp32);
  EXPECT_EQ(std::vector<double>(got.begin(), got.end()), want);
}

TEST_F(DecoderRowsKernel, RotatesTheFirstHeadsOfEachRow) {
  constexpr int kHeads = 3;
  constexpr int kHeadDim = 10;
  constexpr int kHalf = kHeadDim / 2;
  constexpr int64_t kStride = 4 * kHeadDim + 3;  // the last head stays
  const std::vector<int32_t> positions = {2, 0, 1};
  const auto num_rows = static_cast<int64_t>(positions.size());
  const std::vector<float> rows = RandomFloats(num_rows * kStride, 1, 8);
  const std::vector<float> cosines = RandomFloats(3 * kHalf, 1, 9);
  const std::vector<float> sines = RandomFloats(3 * kHalf, 1, 10);
  DeviceArray<float> device(rows);
  DeviceArray<int32_t> device_positions(positions);
  DeviceArray<float> device_cosines(cosines);
  DeviceArray<float> device_sines(sines);
  ASSERT_EQ(RotateCuda(device.data(), num_rows, kStride, kHeads, kHeadDim,
                       device_positions.data(),
                       {.cosines = device_cosines.data(),
                        .sines = device_sines.data()},
                       nullptr),
            0);
  const std::vector<float> got = device.Read();
  for (int64_t at = 0; at < num_rows * kStride; ++at) {
    const int64_t r = at / kStride;
    const int64_t column = at % kStride;
    double want = rows[static_cast<size_t>(at)];
    if (column < int64_t{kHeads} * kHeadDim) {
      const int64_t i = column % kHeadDim % kHalf;
      const auto table =
          static_cast<size_t>(positions[static_cast<size_t>(r)] * kHalf + i);
      const bool low = column % kHeadDim < kHalf;
      const double other =
          rows[static_cast<size_t>(low ? at + kHalf : at - kHalf)];
      want = want * cosines[table] + (low ? -other : other) * sines[table];
    }
    EXPECT_NEAR(got[static_cast<size_t>(at)], want, 3e-7) << at;
  }
}

TEST_F(DecoderRowsKernel, SiluMultiplyEqualsTheFormula) {
  std::vector<float> gate = RandomFloats(5001, 20, 11);
  gate.insert(gate.end(), {0.0F, -0.0F, 200.0F, -200.0F, 1e-30F});
  const std::vector<float> up =
      RandomFloats(static_cast<int64_t>(gate.size()), 3, 12);
  for (const FloatType type : kTypes) {
    for (const size_t shift : {0, 1}) {
      DeviceArray<float> x(gate, shift);
      DeviceArray<float> y(up, shift);
      DeviceArray<uint16_t> out(gate.size() * Halves(type));
      ASSERT_EQ(SiluMultiplyCuda(x.data(), y.data(),
                                 static_cast<int64_t>(gate.size()), out.data(),
                                 type, nullptr),
                0);
      const std::vector<double> got = Read(type, out);
      for (size_t i = 0; i < gate.size(); ++i) {
        const double want = gate[i] /
                            (1 + std::exp(-static_cast<double>(gate[i]))) *
                            static_cast<double>(up[i]);
        ASSERT_NEAR(got[i], want, std::abs(want) * Ulp(type) + 6e-8)
            << gate[i] << " * " << up[i];
      }
    }
  }
}

TEST_F(DecoderRowsKernel, AddsInPlace) {
  for (const int64_t count : {1, 8, 2049}) {
    const std::vector<float> x = RandomFloats(count, 1, 13);
    const std::vector<float> y = RandomFloats(count, 1, 14);
    DeviceArray<float> device_x(x);
    DeviceArray<float> device_y(y);
    ASSERT_EQ(AddCuda(device_x.data(), device_y.data(), count, device_x.data(),
                      nullptr),
              0);
    const std::vector<float> got = device_x.Read();
    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(got[i], x[i] + y[i]);
    }
  }
}

TEST_F(DecoderRowsKernel, DoesNothingForNoRows) {
  EXPECT_EQ(RmsNormCuda(nullptr, 0, 8, nullptr, kEps, nullptr, FloatType::kFp32,
                        nullptr),
            0);
  EXPECT_EQ(RotateCuda(nullptr, 0, 8, 1, 8, nullptr, {}, nullptr), 0);
  EXPECT_EQ(
      SiluMultiplyCuda(nullptr, nullptr, 0, nullptr, FloatType::kFp32, nullptr),
      0);
  EXPECT_EQ(AddCuda(nullptr, nullptr, 0, nullptr, nullptr), 0);
}

}  // namespace
}  // namespace qsweep::kernels
