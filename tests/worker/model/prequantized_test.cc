#include "worker/model/prequantized.h"

#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "tests/support/model_files.h"

namespace qsweep {
namespace {

constexpr int64_t kRows = 20;
constexpr int64_t kCols = 640;

// A pseudo-random value for each element, in [-1, 1).
float Noise(int64_t i) {
  uint32_t x = static_cast<uint32_t>(i) * 2654435761u;
  x ^= x >> 15;
  x *= 2246822519u;
  x ^= x >> 13;
  return static_cast<float>(x >> 8) / 8388608.0f - 1.0f;
}

std::string DetectFloats(const std::vector<float>& weights) {
  const std::string bytes = testing::FloatBytes(weights);
  const StoredTensor tensor{
      .name = "w",
      .type = TensorType::kF32,
      .shape = {kRows, kCols},
      .data = {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}};
  return DetectPrequantized(std::vector<StoredTensor>{tensor}).value();
}

// levels values per block of `block`, each block with a scale of its own.
std::vector<float> Quantized(int levels, int64_t block, int64_t first_clean) {
  std::vector<float> weights;
  for (int64_t i = 0; i < kRows * kCols; ++i) {
    const float scale = 1.0f + std::abs(Noise(7919 * (i / block)));
    const float half = static_cast<float>(levels) / 2;
    weights.push_back(i < first_clean
                          ? Noise(i)
                          : std::floor(Noise(i) * half) * scale / half);
  }
  return weights;
}

TEST(DetectPrequantized, SaysNo_ForOrdinaryWeights) {
  EXPECT_EQ(DetectFloats(Quantized(1 << 20, kCols, 0)), "");
}

TEST(DetectPrequantized, FindsFourBits_InFloats) {
  EXPECT_EQ(DetectFloats(Quantized(16, 32, 0)), "prequantized");
  EXPECT_EQ(DetectFloats(Quantized(16, 128, 0)), "prequantized");
}

TEST(DetectPrequantized, CountsZeroAndMinusZeroAsOneValue) {
  std::vector<float> weights = Quantized(16, 32, 0);
  for (size_t i = 0; i < weights.size(); i += 2) {
    weights[i] = weights[i] == 0 ? -0.0f : weights[i];
  }
  EXPECT_EQ(DetectFloats(weights), "prequantized");
}

TEST(DetectPrequantized, FindsEightBits_InRows) {
  EXPECT_EQ(DetectFloats(Quantized(256, kCols, 0)), "prequantized8");
}

TEST(DetectPrequantized, NeedsNineTenthsOfTheBlocks) {
  constexpr int64_t kTenth = kRows * kCols / 10;
  EXPECT_EQ(DetectFloats(Quantized(16, 32, kTenth)), "prequantized");
  EXPECT_EQ(DetectFloats(Quantized(16, 32, kTenth + 32)), "");
}

TEST(DetectPrequantized, KnowsFromTheType_WhatBlocksHold) {
  const std::string bytes(static_cast<size_t>(kRows * kCols / 32 * 34), 'x');
  const std::span<const uint8_t> data = {
      reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
  const auto detect = [&](TensorType type) {
    const int64_t size =
        kRows * kCols / InfoOf(type).block_elements * InfoOf(type).block_bytes;
    return DetectPrequantized(
               std::vector<StoredTensor>{
                   {.name = "w",
                    .type = type,
                    .shape = {kRows, kCols},
                    .data = data.first(static_cast<size_t>(size))}})
        .value();
  };
  EXPECT_EQ(detect(TensorType::kQ4_1), "prequantized");
  // All bytes equal: eight-bit storage of few values.
  EXPECT_EQ(detect(TensorType::kQ8_0), "prequantized");
}

TEST(DetectPrequantized, TakesEightBitStorage_AsEightBits) {
  std::string bytes;
  for (int64_t block = 0; block < kRows * kCols / 32; ++block) {
    bytes += std::string("\x00\x2c", 2);  // fp16 1/16
    for (int64_t i = 0; i < 32; ++i) {
      bytes.push_back(
          static_cast<char>(static_cast<int8_t>(Noise(block * 32 + i) * 127)));
    }
  }
  EXPECT_EQ(DetectPrequantized(
                std::vector<StoredTensor>{
                    {.name = "w",
                     .type = TensorType::kQ8_0,
                     .shape = {kRows, kCols},
                     .data = {reinterpret_cast<const uint8_t*>(bytes.data()),
                              bytes.size()}}})
                .value(),
            "prequantized8");
}

TEST(DetectPrequantized, SaysNothing_WhereThereIsNoWholeBlock) {
  EXPECT_EQ(DetectPrequantized({}).value(), "");
  const std::string bytes = testing::FloatBytes(std::vector<float>(4 * 16, 1));
  EXPECT_EQ(DetectPrequantized(
                std::vector<StoredTensor>{
                    {.name = "w",
                     .type = TensorType::kF32,
                     .shape = {4, 16},
                     .data = {reinterpret_cast<const uint8_t*>(bytes.data()),
                              bytes.size()}}})
                .value(),
            "");
}

TEST(DetectPrequantized, ReadsNoMoreRowsThanItNeeds_AndStops) {
  const auto rows_of = [](const std::vector<float>& weights, int last) {
    const std::string bytes = testing::FloatBytes(weights);
    const StoredTensor tensor{
        .name = "w",
        .type = TensorType::kF32,
        .shape = {kRows, kCols},
        .data = {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}};
    int asked = 0;
    const auto found = DetectPrequantized(std::vector<StoredTensor>{tensor}, {},
                                          [&] { return ++asked == last; });
    EXPECT_EQ(found.ok(), asked != last) << found.status();
    return asked;
  };
  const std::vector<float> ordinary = Quantized(1 << 20, kCols, 0);
  const std::vector<float> four = Quantized(16, 32, 0);
  EXPECT_EQ(rows_of(ordinary, 0), 4);  // of 20; each is looked at twice
  EXPECT_EQ(rows_of(four, 0), 18);
  EXPECT_EQ(rows_of(four, 5), 5);
}

}  // namespace
}  // namespace qsweep
