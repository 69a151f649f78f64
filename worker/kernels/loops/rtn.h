#ifndef QSWEEP_WORKER_KERNELS_LOOPS_RTN_H_
#define QSWEEP_WORKER_KERNELS_LOOPS_RTN_H_

#include <algorithm>
#include <bit>
#include <cstdint>

#include "worker/kernels/rtn.h"

// The loops of RtnCpu, for each arithmetic compiled in a file of its own with
// the flags that let the compiler vectorize it. Always -ffp-contract=off: a
// fused multiply-add would round once where the definition rounds twice. In an
// unnamed namespace, so that each file keeps its own code.
namespace qsweep::kernels {
namespace {

// Without branches, so that the loops over a group vectorize.
inline float NearestHalf(float value) {
  const int32_t bits = std::bit_cast<int32_t>(value);
  const int32_t magnitude = bits & 0x7fffffff;
  // Normal range: round the 13 bits that fp16 lacks, halves to even. From 65520
  // on the nearest is infinity.
  const int32_t rounded = (magnitude + 0xfff + (magnitude >> 13 & 1)) & ~0x1fff;
  const int32_t normal = rounded >= 0x47800000 ? 0x7f800000 : rounded;
  // Below 2^-14 fp16 has a fixed step of 2^-24, fp32's own step at 0.5.
  const int32_t subnormal =
      std::bit_cast<int32_t>((std::bit_cast<float>(magnitude) + 0.5f) - 0.5f);
  const int32_t result = magnitude < 0x38800000 ? subnormal : normal;
  return std::bit_cast<float>(result | (bits & ~0x7fffffff));
}

// Adding this to |x| < 2^22 leaves no bit for a fraction, so the sum is rounded
// to an integer by the addition itself, halves to even.
constexpr float kIntegerBias = 0x1.8p23f;

inline float RoundToInteger(float x) {
  return (x + kIntegerBias) - kIntegerBias;
}

// An Arithmetic says what happens to the result of each operation.
struct Fp32 {
  static float Round(float x) { return x; }
};
struct Fp16 {
  static float Round(float x) { return NearestHalf(x); }
};

struct MinMax {
  float min = 0;
  float max = 0;
};

// Over independent lanes, which vectorize; the order does not matter.
template <typename Arithmetic>
MinMax FindMinMax(const float* weights, int64_t count) {
  constexpr int64_t kLanes = 16;
  const float first = Arithmetic::Round(weights[0]);
  float min[kLanes];
  float max[kLanes];
  std::fill(min, min + kLanes, first);
  std::fill(max, max + kLanes, first);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const float w = Arithmetic::Round(weights[i + lane]);
      min[lane] = w < min[lane] ? w : min[lane];
      max[lane] = w > max[lane] ? w : max[lane];
    }
  }
  MinMax result{first, first};
  for (; i < count; ++i) {
    const float w = Arithmetic::Round(weights[i]);
    result.min = std::min(result.min, w);
    result.max = std::max(result.max, w);
  }
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    result.min = std::min(result.min, min[lane]);
    result.max = std::max(result.max, max[lane]);
  }
  return result;
}

// A code's value is scale * integer, integer in lowest..highest; the code
// itself is integer + zero.
struct GroupParameters {
  float scale = 0;
  float zero = 0;
  float lowest = 0;
  float highest = 0;
};

constexpr float kAwqFloor = 1e-5f;

template <typename Arithmetic>
float StoredScale(float range, float divisor, bool half_scale) {
  const float scale = Arithmetic::Round(range / divisor);
  return half_scale ? NearestHalf(scale) : scale;
}

// Codes 0..levels around an integer zero.
GroupParameters WithZero(float scale, float zero, float levels) {
  return {scale, zero, -zero, levels - zero};
}

// For a scale of zero the quotient has no meaning, and no use: all values are
// zero then.
template <typename Arithmetic>
float ZeroPoint(float minus_min, float scale, float levels) {
  if (scale == 0) {
    return 0;
  }
  // Clamped first, so that the rounding is in range; both bounds are integers.
  const float quotient = Arithmetic::Round(minus_min / scale);
  return RoundToInteger(std::clamp(quotient, 0.0f, levels));
}

template <typename Arithmetic>
GroupParameters ParametersOf(MinMax range, const RtnOptions& options) {
  const float levels = static_cast<float>((1 << options.bits) - 1);
  const float half_range = static_cast<float>(1 << (options.bits - 1));
  const float absmax = std::max(-range.min, range.max);
  const bool half = options.half_scale;
  switch (options.grid) {
    case RtnGrid::kAbsmax:
    case RtnGrid::kAwqSymmetric: {
      const float floor = options.grid == RtnGrid::kAwqSymmetric
                              ? Arithmetic::Round(kAwqFloor)
                              : 0.0f;
      return {StoredScale<Arithmetic>(std::max(absmax, floor),
                                      half_range - 1.0f, half),
              0.0f, -half_range, half_range - 1.0f};
    }
    case RtnGrid::kGptqSymmetric:
    case RtnGrid::kGptqAsymmetric: {
      const bool symmetric = options.grid == RtnGrid::kGptqSymmetric;
      float low = std::min(range.min, 0.0f);
      float high = std::max(range.max, 0.0f);
      if (symmetric) {
        high = std::max(-low, high);
        low = low < 0 ? -high : low;
      }
      if (low == 0 && high == 0) {
        low = -1;
        high = 1;
      }
      const float scale =
          StoredScale<Arithmetic>(Arithmetic::Round(high - low), levels, half);
      return WithZero(
          scale,
          symmetric ? half_range : ZeroPoint<Arithmetic>(-low, scale, levels),
          levels);
    }
    case RtnGrid::kAwqAsymmetric: {
      const float span = std::max(Arithmetic::Round(range.max - range.min),
                                  Arithmetic::Round(kAwqFloor));
      const float scale = StoredScale<Arithmetic>(span, levels, half);
      return WithZero(scale, ZeroPoint<Arithmetic>(-range.min, scale, levels),
                      levels);
    }
  }
  return {};
}

// The integer a weight is rounded to. Clamping before rounding gives the same
// as after: the bounds are integers.
template <typename Arithmetic>
inline float CodeOf(float weight, const GroupParameters& p) {
  float x = Arithmetic::Round(Arithmetic::Round(weight) / p.scale);
  x = x < p.lowest ? p.lowest : x;
  x = x > p.highest ? p.highest : x;
  return RoundToInteger(x);
}

// -0.3 rounds to -0 where no zero point is added.
inline float WithSignOf(float value, float sign_source) {
  return std::bit_cast<float>(
      std::bit_cast<uint32_t>(value) |
      (std::bit_cast<uint32_t>(sign_source) & 0x80000000u));
}

template <typename Arithmetic, bool kSigned>
void QuantizeGroup(const float* weights, int64_t count,
                   const GroupParameters& p, float* out, int16_t* codes) {
  if (codes != nullptr) {
    for (int64_t i = 0; i < count; ++i) {
      codes[i] =
          static_cast<int16_t>(CodeOf<Arithmetic>(weights[i], p) + p.zero);
    }
  }
  // out may be weights: no iteration reads what another one writes.
#ifndef __clang__
#pragma GCC ivdep
#endif
  for (int64_t i = 0; i < count; ++i) {
    const float code = CodeOf<Arithmetic>(weights[i], p);
    const float value = Arithmetic::Round(code * p.scale);
    out[i] = kSigned ? WithSignOf(value, weights[i]) : value;
  }
}

// A scale of zero: see rtn.h.
template <typename Arithmetic>
void ZeroGroup(const float* weights, int64_t count, bool keep, float zero,
               float* out, int16_t* codes) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = keep ? Arithmetic::Round(weights[i]) : 0.0f;
  }
  if (codes != nullptr) {
    std::fill(codes, codes + count, static_cast<int16_t>(zero));
  }
}

template <typename Arithmetic>
void QuantizeAll(const float* weights, const RtnShape& shape,
                 const RtnOptions& options, float* out, float* scales,
                 int16_t* codes) {
  const bool is_signed = options.grid == RtnGrid::kAbsmax ||
                         options.grid == RtnGrid::kAwqSymmetric;
  int64_t group = 0;
  for (int64_t row = 0; row < shape.rows; ++row) {
    for (int64_t col = 0; col < shape.cols; col += shape.group_size) {
      const int64_t count = std::min(shape.group_size, shape.cols - col);
      const int64_t offset = row * shape.cols + col;
      const float* in = weights + offset;
      int16_t* group_codes = codes != nullptr ? codes + offset : nullptr;
      const MinMax range = FindMinMax<Arithmetic>(in, count);
      const GroupParameters p = ParametersOf<Arithmetic>(range, options);
      if (scales != nullptr) {
        scales[group] = p.scale;
      }
      ++group;
      if (p.scale == 0) {
        const bool all_zero = range.min == 0 && range.max == 0;
        ZeroGroup<Arithmetic>(in, count, all_zero, p.zero, out + offset,
                              group_codes);
      } else if (is_signed) {
        QuantizeGroup<Arithmetic, true>(in, count, p, out + offset,
                                        group_codes);
      } else {
        QuantizeGroup<Arithmetic, false>(in, count, p, out + offset,
                                         group_codes);
      }
    }
  }
}

}  // namespace
}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_LOOPS_RTN_H_
