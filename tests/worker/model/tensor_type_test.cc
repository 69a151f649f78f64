#include "worker/model/tensor_type.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qsweep {
namespace {

using ::testing::ElementsAre;

const std::map<std::string, TensorType> kBlockTypes = {
    {"Q4_0", TensorType::kQ4_0}, {"Q4_1", TensorType::kQ4_1},
    {"Q5_0", TensorType::kQ5_0}, {"Q5_1", TensorType::kQ5_1},
    {"Q8_0", TensorType::kQ8_0}, {"Q4_K", TensorType::kQ4K},
    {"Q5_K", TensorType::kQ5K},  {"Q6_K", TensorType::kQ6K}};

std::vector<uint8_t> FromHex(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(
        std::stoi(hex.substr(i, 2), nullptr, /*base=*/16)));
  }
  return bytes;
}

TEST(Dequantize, EqualsTheGgufPackageToTheLastBit_ForEachBlockType) {
  std::ifstream file(QSWEEP_SOURCE_DIR "/tests/golden/dequantize.txt");
  std::map<std::string, int> num_blocks;
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream in(line);
    std::string name, hex;
    in >> name >> hex;
    SCOPED_TRACE(name);
    std::vector<uint32_t> expected;
    for (uint32_t bits = 0; in >> std::hex >> bits;) {
      expected.push_back(bits);
    }
    std::vector<float> values(expected.size());
    Dequantize(kBlockTypes.at(name), FromHex(hex), values);
    std::vector<uint32_t> got(values.size());
    std::memcpy(got.data(), values.data(), values.size() * sizeof(float));
    EXPECT_EQ(got, expected);
    ++num_blocks[name];
  }
  EXPECT_EQ(num_blocks.size(), kBlockTypes.size());
}

TEST(Dequantize, WidensEveryHalfExactly) {
  std::vector<uint8_t> bytes;
  for (uint32_t half = 0; half < 0x10000; ++half) {
    bytes.push_back(static_cast<uint8_t>(half));
    bytes.push_back(static_cast<uint8_t>(half >> 8));
  }
  std::vector<float> values(0x10000);
  Dequantize(TensorType::kF16, bytes, values);
  for (uint32_t half = 0; half < 0x10000; ++half) {
    const int exponent = static_cast<int>(half >> 10 & 31);
    const int fraction = static_cast<int>(half & 1023);
    const float sign = half >> 15 != 0 ? -1.0f : 1.0f;
    if (exponent == 31) {
      ASSERT_EQ(std::isnan(values[half]), fraction != 0) << half;
      ASSERT_FALSE(std::isfinite(values[half])) << half;
      continue;
    }
    const float expected =
        exponent == 0
            ? std::ldexp(static_cast<float>(fraction), -24)
            : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
    ASSERT_EQ(values[half], sign * expected) << half;
    ASSERT_EQ(std::signbit(values[half]), half >> 15 != 0) << half;
  }
}

TEST(Dequantize, TakesBf16AsTheUpperHalfOfAFloat) {
  const std::vector<uint8_t> bytes = {0x80, 0x3f, 0x20, 0xc0, 0x80, 0x7f};
  std::vector<float> values(3);
  Dequantize(TensorType::kBf16, bytes, values);
  EXPECT_THAT(values, ElementsAre(1.0f, -2.5f, INFINITY));
}

TEST(TensorType, IsFoundByItsNumberInAFile_OrNamed) {
  EXPECT_EQ(TensorTypeOfGguf(3), TensorType::kQ4_1);
  EXPECT_EQ(TensorTypeOfGguf(14), TensorType::kQ6K);
  EXPECT_EQ(TensorTypeOfGguf(30), TensorType::kBf16);
  EXPECT_EQ(TensorTypeOfGguf(10), std::nullopt);
  EXPECT_EQ(GgufTypeName(10), "Q2_K");
  EXPECT_EQ(GgufTypeName(77), "type 77");
  EXPECT_EQ(TensorTypeOfSafetensors("Q4_1"), std::nullopt);
}

}  // namespace
}  // namespace qsweep
