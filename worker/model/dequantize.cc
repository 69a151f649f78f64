// The block layouts and the order of operations are those of ggml's reference
// functions dequantize_row_*. Products of scale and code are exact in fp32, so
// each value is rounded once.

#include <bit>
#include <cstring>

#include "common/base/check.h"
#include "worker/model/tensor_type.h"

namespace qsweep {
namespace {

uint16_t Load16(const uint8_t* bytes) {
  uint16_t value = 0;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

uint32_t Load32(const uint8_t* bytes) {
  uint32_t value = 0;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

// IEEE half to float, exact, without a branch so that loops vectorize: the
// fields move into place, and 2^112 corrects the exponent, subnormals included.
inline float HalfToFloat(uint16_t half) {
  const uint32_t magnitude = (half & 0x7fffu) << 13;
  float value = std::bit_cast<float>(magnitude) * 0x1p112f;
  // An exponent of 31 is infinity or NaN, which the product made finite.
  const uint32_t special = magnitude >= (31u << 23) ? 0x7f800000u : 0u;
  const uint32_t sign = (half & 0x8000u) << 16;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | special | sign);
}

inline float LoadHalf(const uint8_t* bytes) {
  return HalfToFloat(Load16(bytes));
}

void DequantizeF16(const uint8_t* bytes, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = HalfToFloat(Load16(bytes + 2 * i));
  }
}

void DequantizeBf16(const uint8_t* bytes, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = std::bit_cast<float>(static_cast<uint32_t>(Load16(bytes + 2 * i))
                                  << 16);
  }
}

// Blocks of 32: low nibbles are elements 0-15, high nibbles 16-31.
void Q4_0(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  for (int j = 0; j < 16; ++j) {
    const int code = block[2 + j];
    out[j] = static_cast<float>((code & 15) - 8) * scale;
    out[j + 16] = static_cast<float>((code >> 4) - 8) * scale;
  }
}

void Q4_1(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const float minimum = LoadHalf(block + 2);
  for (int j = 0; j < 16; ++j) {
    const int code = block[4 + j];
    out[j] = static_cast<float>(code & 15) * scale + minimum;
    out[j + 16] = static_cast<float>(code >> 4) * scale + minimum;
  }
}

// Bit j of `high` is bit 4 of element j.
int Code5(const uint8_t* nibbles, uint32_t high, int j) {
  const int low = j < 16 ? nibbles[j] & 15 : nibbles[j - 16] >> 4;
  return low | static_cast<int>((high >> j & 1u) << 4);
}

void Q5_0(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const uint32_t high = Load32(block + 2);
  for (int j = 0; j < 32; ++j) {
    out[j] = static_cast<float>(Code5(block + 6, high, j) - 16) * scale;
  }
}

void Q5_1(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const float minimum = LoadHalf(block + 2);
  const uint32_t high = Load32(block + 4);
  for (int j = 0; j < 32; ++j) {
    out[j] = static_cast<float>(Code5(block + 8, high, j)) * scale + minimum;
  }
}

void Q8_0(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  for (int j = 0; j < 32; ++j) {
    out[j] = static_cast<float>(static_cast<int8_t>(block[2 + j])) * scale;
  }
}

// Scale and minimum of 32-element part j of a Q4_K or Q5_K block: eight pairs
// of 6 bits in 12 bytes, those of parts 4-7 split over two bytes.
struct ScaleMin {
  float scale = 0;
  float minimum = 0;
};
ScaleMin ScaleMinK4(const uint8_t* packed, int j) {
  if (j < 4) {
    return {static_cast<float>(packed[j] & 63),
            static_cast<float>(packed[j + 4] & 63)};
  }
  return {
      static_cast<float>((packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4)),
      static_cast<float>((packed[j + 4] >> 4) | ((packed[j] >> 6) << 4))};
}

void Q4K(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const float minimum = LoadHalf(block + 2);
  for (int part = 0; part < 8; ++part) {
    const ScaleMin k = ScaleMinK4(block + 4, part);
    const float d = scale * k.scale;
    const float m = minimum * k.minimum;
    const uint8_t* codes = block + 16 + (part / 2) * 32;
    const int shift = part % 2 * 4;
    for (int l = 0; l < 32; ++l) {
      out[part * 32 + l] = d * static_cast<float>((codes[l] >> shift) & 15) - m;
    }
  }
}

void Q5K(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const float minimum = LoadHalf(block + 2);
  const uint8_t* high =
      block + 16;  // bit `part` of byte l is element l's bit 4
  for (int part = 0; part < 8; ++part) {
    const ScaleMin k = ScaleMinK4(block + 4, part);
    const float d = scale * k.scale;
    const float m = minimum * k.minimum;
    const uint8_t* codes = block + 48 + (part / 2) * 32;
    const int shift = part % 2 * 4;
    for (int l = 0; l < 32; ++l) {
      const int code =
          ((codes[l] >> shift) & 15) + (((high[l] >> part) & 1) << 4);
      out[part * 32 + l] = d * static_cast<float>(code) - m;
    }
  }
}

// Two halves of 128; each: 64 bytes of nibbles, 32 bytes of bit pairs, 8
// scales of 16 elements.
void Q6K(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block + 208);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* low = block + half * 64;
    const uint8_t* high = block + 128 + half * 32;
    const uint8_t* scales = block + 192 + half * 8;
    for (int quarter = 0; quarter < 4; ++quarter) {
      const uint8_t* nibbles = low + quarter % 2 * 32;
      const int shift = quarter / 2 * 4;
      for (int l = 0; l < 32; ++l) {
        const int code = ((nibbles[l] >> shift) & 15) |
                         (((high[l] >> (quarter * 2)) & 3) << 4);
        const float d = scale * static_cast<float>(static_cast<int8_t>(
                                    scales[l / 16 + quarter * 2]));
        out[half * 128 + quarter * 32 + l] = d * static_cast<float>(code - 32);
      }
    }
  }
}

void I32(const uint8_t* block, float* out) {
  int32_t value = 0;
  std::memcpy(&value, block, sizeof(value));
  *out = static_cast<float>(value);
}

template <typename Block>
void EachBlock(Block block, const TensorTypeInfo& info, const uint8_t* bytes,
               std::span<float> out) {
  for (size_t i = 0; i < out.size();
       i += static_cast<size_t>(info.block_elements)) {
    block(bytes, out.data() + i);
    bytes += info.block_bytes;
  }
}

}  // namespace

void Dequantize(TensorType type, std::span<const uint8_t> bytes,
                std::span<float> out) {
  const TensorTypeInfo& info = InfoOf(type);
  const size_t block_elements = static_cast<size_t>(info.block_elements);
  QSWEEP_CHECK(out.size() % block_elements == 0);
  QSWEEP_CHECK(out.size() / block_elements *
                   static_cast<size_t>(info.block_bytes) <=
               bytes.size());
  const uint8_t* in = bytes.data();
  switch (type) {
    case TensorType::kF32:
      if (!out.empty()) {
        std::memcpy(out.data(), in, out.size_bytes());
      }
      return;
    case TensorType::kF16:
      return DequantizeF16(in, out);
    case TensorType::kBf16:
      return DequantizeBf16(in, out);
    case TensorType::kQ4_0:
      return EachBlock(Q4_0, info, in, out);
    case TensorType::kQ4_1:
      return EachBlock(Q4_1, info, in, out);
    case TensorType::kQ5_0:
      return EachBlock(Q5_0, info, in, out);
    case TensorType::kQ5_1:
      return EachBlock(Q5_1, info, in, out);
    case TensorType::kQ8_0:
      return EachBlock(Q8_0, info, in, out);
    case TensorType::kQ4K:
      return EachBlock(Q4K, info, in, out);
    case TensorType::kQ5K:
      return EachBlock(Q5K, info, in, out);
    case TensorType::kQ6K:
      return EachBlock(Q6K, info, in, out);
    case TensorType::kI32:
      return EachBlock(I32, info, in, out);
  }
}

}  // namespace qsweep
