#ifndef QSWEEP_WORKER_KERNELS_LOOPS_RTN_H_
#define QSWEEP_WORKER_KERNELS_LOOPS_RTN_H_

#include <algorithm>
#include <bit>
#include <cstdint>
#include <numeric>
#include <type_traits>

#include "worker/kernels/integer_bias.h"
#include "worker/kernels/loops/wide.h"
#include "worker/kernels/rtn.h"

// The loops of RtnCpu. Always -ffp-contract=off: a fused multiply-add would
// round once where the definition rounds twice. In an unnamed namespace, so
// that each file keeps its own code.
namespace qsweep::kernels {
namespace {

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

inline Floats NearestHalf(Floats value) {
#if defined(__F16C__)
  return _mm256_cvtph_ps(
      _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#else
  const Ints bits = reinterpret_cast<Ints>(value);
  const Ints magnitude = bits & 0x7fffffff;
  const Ints rounded = (magnitude + 0xfff + (magnitude >> 13 & 1)) & ~0x1fff;
  const Ints normal = rounded >= 0x47800000 ? Ints{} + 0x7f800000 : rounded;
  const Ints subnormal = reinterpret_cast<Ints>(
      (reinterpret_cast<Floats>(magnitude) + 0.5f) - 0.5f);
  const Ints result = magnitude < 0x38800000 ? subnormal : normal;
  return reinterpret_cast<Floats>(result | (bits & ~0x7fffffff));
#endif
}

template <typename T>
inline T RoundToInteger(T x) {
  return (x + kIntegerBias) - kIntegerBias;
}

// An Arithmetic says what happens to the result of each operation.
struct Fp32 {
  template <typename T>
  static T Round(T x) {
    return x;
  }
};
struct Fp16 {
  template <typename T>
  static T Round(T x) {
    return NearestHalf(x);
  }
};

// Of one group, or of as many as T has lanes.
template <typename T>
struct Range {
  T min;
  T max;
};

// The order does not matter. count: at least 1.
template <typename Arithmetic>
Range<float> FindMinMax(const float* weights, int64_t count) {
  const auto load = [&](int64_t i) {
    return Arithmetic::Round(
        i + kFloats <= count
            ? LoadFloats(weights + i)
            : LoadSome(weights + i, count - i, weights[count - 1]));
  };
  Floats min[2];
  Floats max[2];
  min[0] = min[1] = max[0] = max[1] = load(0);
  int64_t i = 0;
  for (; i + 2 * kFloats <= count; i += 2 * kFloats) {
#pragma GCC unroll 2
    for (int64_t v = 0; v < 2; ++v) {
      const Floats w = Arithmetic::Round(LoadFloats(weights + i + v * kFloats));
      min[v] = Smaller(w, min[v]);
      max[v] = Larger(w, max[v]);
    }
  }
  for (; i < count; i += kFloats) {
    const Floats w = load(i);
    min[0] = Smaller(w, min[0]);
    max[0] = Larger(w, max[0]);
  }
  return {Smallest(Smaller(min[0], min[1])), Largest(Larger(max[0], max[1]))};
}

// A code's value is scale * integer, integer in lowest..highest; the code
// itself is integer + zero.
template <typename T>
struct Parameters {
  T scale;
  T zero;
  T lowest;
  T highest;
};
using GroupParameters = Parameters<float>;

constexpr float kAwqFloor = 1e-5f;

template <typename T>
inline T Same(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else {
    return Wide<float>::All(x);
  }
}

template <typename T>
inline T LeastOf(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
inline T MostOf(T a, T b) {
  return a < b ? b : a;
}

// What does not depend on the group.
template <typename Arithmetic>
struct GridConstants {
  explicit GridConstants(const RtnOptions& options)
      : grid(options.grid),
        half_scale(options.half_scale),
        levels(static_cast<float>((1 << options.bits) - 1)),
        half_range(static_cast<float>(1 << (options.bits - 1))),
        floor(Arithmetic::Round(kAwqFloor)) {}

  RtnGrid grid;
  bool half_scale;
  float levels;
  float half_range;
  float floor;
};

template <typename Arithmetic, typename T>
inline T StoredScale(T range, float divisor, bool half_scale) {
  const T scale = Arithmetic::Round(range / divisor);
  return half_scale ? NearestHalf(scale) : scale;
}

// Codes 0..levels around an integer zero.
template <typename T>
inline Parameters<T> WithZero(T scale, T zero, float levels) {
  return {
      .scale = scale, .zero = zero, .lowest = -zero, .highest = levels - zero};
}

// For a scale of zero the quotient has no meaning, and no use: all values are
// zero then.
template <typename Arithmetic, typename T>
inline T ZeroPoint(T minus_min, T scale, float levels) {
  const T none = Same<T>(0);
  // Clamped first, so that the rounding is in range; both bounds are integers.
  const T quotient = Arithmetic::Round(minus_min / scale);
  const T zero =
      RoundToInteger(LeastOf(MostOf(quotient, none), Same<T>(levels)));
  return scale == none ? none : zero;
}

template <typename Arithmetic, typename T>
inline Parameters<T> ParametersOf(const Range<T>& range,
                                  const GridConstants<Arithmetic>& grid) {
  const T none = Same<T>(0);
  const bool half = grid.half_scale;
  switch (grid.grid) {
    case RtnGrid::kAbsmax:
    case RtnGrid::kAwqSymmetric: {
      T absmax = MostOf(-range.min, range.max);
      if (grid.grid == RtnGrid::kAwqSymmetric) {
        absmax = MostOf(absmax, Same<T>(grid.floor));
      }
      return {.scale =
                  StoredScale<Arithmetic>(absmax, grid.half_range - 1.0f, half),
              .zero = none,
              .lowest = Same<T>(-grid.half_range),
              .highest = Same<T>(grid.half_range - 1.0f)};
    }
    case RtnGrid::kGptqSymmetric:
    case RtnGrid::kGptqAsymmetric: {
      const bool symmetric = grid.grid == RtnGrid::kGptqSymmetric;
      T low = LeastOf(range.min, none);
      T high = MostOf(range.max, none);
      if (symmetric) {
        high = MostOf(-low, high);
        low = low < none ? -high : low;
      }
      const T sum = high - low;
      const T span = sum == none ? Same<T>(2) : sum;  // no weight but zeros
      const T scale =
          StoredScale<Arithmetic>(Arithmetic::Round(span), grid.levels, half);
      low = sum == none ? Same<T>(-1) : low;
      return WithZero(scale,
                      symmetric
                          ? Same<T>(grid.half_range)
                          : ZeroPoint<Arithmetic>(-low, scale, grid.levels),
                      grid.levels);
    }
    case RtnGrid::kAwqAsymmetric: {
      const T span =
          MostOf(Arithmetic::Round(range.max - range.min), Same<T>(grid.floor));
      const T scale = StoredScale<Arithmetic>(span, grid.levels, half);
      return WithZero(scale,
                      ZeroPoint<Arithmetic>(-range.min, scale, grid.levels),
                      grid.levels);
    }
  }
  return {none, none, none, none};
}

// Of one group.
template <typename Arithmetic>
GroupParameters ParametersOf(const float* weights, int64_t count,
                             const RtnOptions& options) {
  return ParametersOf<Arithmetic>(FindMinMax<Arithmetic>(weights, count),
                                  GridConstants<Arithmetic>(options));
}

// What a group's weights need, in all lanes.
struct WideParameters {
  explicit WideParameters(const GroupParameters& p)
      : scale(Wide<float>::All(p.scale)),
        lowest(Wide<float>::All(p.lowest)),
        highest(Wide<float>::All(p.highest)) {}

  Floats scale;
  Floats lowest;
  Floats highest;
};

// The integers weights are rounded to. Clamping before rounding gives the same
// as after: the bounds are integers.
template <typename Arithmetic>
inline Floats IntegersOf(Floats weights, const WideParameters& p) {
  const Floats x = Arithmetic::Round(Arithmetic::Round(weights) / p.scale);
  return RoundToInteger(Smaller(p.highest, Larger(p.lowest, x)));
}

// kSigned: -0.3 rounds to -0, where no zero point is added.
template <typename Arithmetic, bool kSigned>
inline Floats ValuesOf(Floats weights, const WideParameters& p) {
  const Floats values =
      Arithmetic::Round(IntegersOf<Arithmetic>(weights, p) * p.scale);
  if constexpr (kSigned) {
    constexpr int32_t kSign = -0x7fffffff - 1;
    return reinterpret_cast<Floats>(reinterpret_cast<Ints>(values) |
                                    (reinterpret_cast<Ints>(weights) & kSign));
  }
  return values;
}

template <typename Arithmetic>
void CodesOf(const float* weights, int64_t count, const GroupParameters& p,
             int16_t* codes) {
  if (p.scale == 0) {
    std::fill_n(codes, count, static_cast<int16_t>(p.zero));
    return;
  }
  const WideParameters wide(p);
  for (int64_t i = 0; i < count; i += kFloats) {
    const int64_t some = std::min(kFloats, count - i);
    const Floats all =
        IntegersOf<Arithmetic>(LoadSome(weights + i, some, 0.0f), wide) +
        p.zero;
    for (int64_t lane = 0; lane < some; ++lane) {
      codes[i + lane] = static_cast<int16_t>(all[lane]);
    }
  }
}

// How far ahead of its use memory is asked for: behind the weights that are
// rounded together.
constexpr int64_t kPrefetchBytes = 16384;

// out may be weights.
template <typename Arithmetic, bool kSigned, bool kStreams>
void QuantizeGroup(const float* weights, int64_t count,
                   const GroupParameters& p, float* out) {
  const WideParameters wide(p);
  int64_t i = 0;
  for (; i + kFloats <= count; i += kFloats) {
    __builtin_prefetch(reinterpret_cast<const char*>(weights + i) +
                       kPrefetchBytes);
    const Floats values =
        ValuesOf<Arithmetic, kSigned>(LoadFloats(weights + i), wide);
    if constexpr (kStreams) {
      StreamFloats(out + i, values);
    } else {
      StoreFloats(out + i, values);
    }
  }
  if (i < count) {
    StoreSome(out + i,
              ValuesOf<Arithmetic, kSigned>(
                  LoadSome(weights + i, count - i, 0.0f), wide),
              count - i);
  }
}

// A scale of zero: see rtn.h.
template <typename Arithmetic>
void ZeroGroup(const float* weights, int64_t count, bool keep, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = keep ? Arithmetic::Round(weights[i]) : 0.0f;
  }
}

// Groups whose parameters are found together, before their weights are rounded.
// These stay in the L1 cache.
constexpr int64_t kGroupsAtOnce = 16;
constexpr int64_t kWeightsAtOnce = 2048;

template <typename Arithmetic, bool kSigned, bool kStreams>
void QuantizeSome(const float* weights, int64_t count, int64_t group_size,
                  const GridConstants<Arithmetic>& grid, float* out,
                  float* scales, int16_t* codes) {
  float min[kGroupsAtOnce];
  float max[kGroupsAtOnce];
  int64_t groups = 0;
  for (int64_t first = 0; first < count; first += group_size) {
    const Range<float> range = FindMinMax<Arithmetic>(
        weights + first, std::min(group_size, count - first));
    min[groups] = range.min;
    max[groups++] = range.max;
  }
  Parameters<Floats> parameters[kGroupsAtOnce / kFloats];
  for (int64_t g = 0; g < groups; g += kFloats) {
    const int64_t some = std::min(kFloats, groups - g);
    parameters[g / kFloats] =
        ParametersOf<Arithmetic>(Range<Floats>{LoadSome(min + g, some, 1.0f),
                                               LoadSome(max + g, some, 1.0f)},
                                 grid);
  }
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t first = g * group_size;
    const int64_t size = std::min(group_size, count - first);
    const Parameters<Floats>& all = parameters[g / kFloats];
    const int64_t lane = g % kFloats;
    const GroupParameters p{.scale = all.scale[lane],
                            .zero = all.zero[lane],
                            .lowest = all.lowest[lane],
                            .highest = all.highest[lane]};
    if (scales != nullptr) {
      scales[g] = p.scale;
    }
    if (codes != nullptr) {
      CodesOf<Arithmetic>(weights + first, size, p, codes + first);
    }
    if (p.scale == 0) [[unlikely]] {
      ZeroGroup<Arithmetic>(weights + first, size, min[g] == 0 && max[g] == 0,
                            out + first);
    } else {
      QuantizeGroup<Arithmetic, kSigned, kStreams>(weights + first, size, p,
                                                   out + first);
    }
  }
}

template <typename Arithmetic, bool kSigned, bool kStreams>
void QuantizeGroups(const float* weights, const RtnShape& shape,
                    const RtnOptions& options, float* out, float* scales,
                    int16_t* codes) {
  const GridConstants<Arithmetic> grid(options);
  const int64_t groups =
      std::clamp(kWeightsAtOnce / shape.group_size, int64_t{1}, kGroupsAtOnce);
  for (int64_t row = 0; row < shape.rows; ++row) {
    for (int64_t col = 0; col < shape.cols;) {
      const int64_t place = row * shape.cols + col;
      // The shorter first group by itself.
      const int64_t wanted = col == 0 && shape.offset > 0
                                 ? shape.group_size - shape.offset
                                 : groups * shape.group_size;
      const int64_t count = std::min(wanted, shape.cols - col);
      QuantizeSome<Arithmetic, kSigned, kStreams>(
          weights + place, count, shape.group_size, grid, out + place,
          scales == nullptr ? nullptr
                            : scales + row * shape.groups_per_row() +
                                  (col + shape.offset) / shape.group_size,
          codes == nullptr ? nullptr : codes + place);
      col += count;
    }
  }
}

template <typename Arithmetic>
void QuantizeAll(const float* weights, const RtnShape& shape,
                 const RtnOptions& options, float* out, float* scales,
                 int16_t* codes) {
  const bool is_signed = options.grid == RtnGrid::kAbsmax ||
                         options.grid == RtnGrid::kAwqSymmetric;
  const int64_t apart = std::gcd(shape.group_size, shape.offset);
  const bool streams =
      out != weights &&
      ShouldStream(out, std::max(shape.whole, shape.rows * shape.cols),
                   shape.rows == 1 ? apart : std::gcd(apart, shape.cols));
  (is_signed ? streams ? QuantizeGroups<Arithmetic, true, true>
                       : QuantizeGroups<Arithmetic, true, false>
   : streams ? QuantizeGroups<Arithmetic, false, true>
             : QuantizeGroups<Arithmetic, false, false>)(weights, shape,
                                                         options, out, scales,
                                                         codes);
  if (streams) {
    FinishStreams();
  }
}

inline void RtnRange(const float* weights, int64_t count,
                     const RtnOptions& options, float* range) {
  const Range<float> found = options.half_arithmetic
                                 ? FindMinMax<Fp16>(weights, count)
                                 : FindMinMax<Fp32>(weights, count);
  range[0] = found.min;
  range[1] = found.max;
}

template <typename Arithmetic>
void QuantizeInRange(const float* weights, int64_t count, const float* range,
                     const RtnOptions& options, bool streams, float* out) {
  const GroupParameters p = ParametersOf<Arithmetic>(
      Range<float>{range[0], range[1]}, GridConstants<Arithmetic>(options));
  if (p.scale == 0) {
    ZeroGroup<Arithmetic>(weights, count, range[0] == 0 && range[1] == 0, out);
    return;
  }
  const bool is_signed = options.grid == RtnGrid::kAbsmax ||
                         options.grid == RtnGrid::kAwqSymmetric;
  (is_signed ? streams ? QuantizeGroup<Arithmetic, true, true>
                       : QuantizeGroup<Arithmetic, true, false>
   : streams ? QuantizeGroup<Arithmetic, false, true>
             : QuantizeGroup<Arithmetic, false, false>)(weights, count, p, out);
}

inline void RtnInRange(const float* weights, int64_t count, int64_t whole,
                       const float* range, const RtnOptions& options,
                       float* out) {
  const bool streams = out != weights && ShouldStream(out, whole, 4);
  (options.half_arithmetic
       ? QuantizeInRange<Fp16>
       : QuantizeInRange<Fp32>)(weights, count, range, options, streams, out);
  if (streams) {
    FinishStreams();
  }
}

}  // namespace
}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_LOOPS_RTN_H_
