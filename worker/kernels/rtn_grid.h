#ifndef QSWEEP_WORKER_KERNELS_RTN_GRID_H_
#define QSWEEP_WORKER_KERNELS_RTN_GRID_H_

#include <cstdint>

#include "worker/kernels/integer_bias.h"
#include "worker/kernels/launch.h"
#include "worker/kernels/rtn.h"

// The arithmetic of rtn.h's grids, for .cu files only: from a group's range to
// its scale, and from a weight to its integer.
namespace qsweep::kernels {

inline constexpr uint32_t kInfinityBits = 0x7f800000;
inline constexpr uint32_t kNanBits = 0x7fc00000;
inline constexpr uint32_t kSignBit = 0x80000000;

// Of the weights of a group.
struct Range {
  float min;
  float max;
};

// The identity of Joined.
QSWEEP_DEVICE Range NoWeights() {
  return {FloatOf(kInfinityBits), -FloatOf(kInfinityBits)};
}

QSWEEP_DEVICE Range Joined(Range a, Range b) {
  return {MinOf(a.min, b.min), MaxOf(a.max, b.max)};
}

// The result of an operation in the arithmetic asked for.
template <bool kHalf>
QSWEEP_DEVICE float Rounded(float x) {
  return kHalf ? FloatOfHalf(HalfOf(x)) : x;
}

QSWEEP_DEVICE float Clamped(float x, float low, float high) {
  return MinOf(MaxOf(x, low), high);
}

// Divides many numbers by one.
struct Divisor {
  float reciprocal;  // the nearest to 1 / by
  float rest;        // 1 / by - reciprocal
  bool takes_all;    // else a dividend is first replaced by InReach of it
  float factor;
  float limit;
};

// Of 0 or what is not finite: every quotient is 0 or NaN.
QSWEEP_DEVICE Divisor NoDivisor() { return {0, 0, true, 1, 0}; }

// by: positive and finite. largest: of the dividends' magnitudes.
QSWEEP_DEVICE Divisor DivisorOf(float by, float largest) {
  constexpr float kTiny = 0x1p-60f;
  constexpr float kHuge = 0x1p60f;
  Divisor d = {};
  d.factor = by < kTiny ? 0x1p90f : by > kHuge ? 0x1p-90f : 1.0f;
  const float scaled = Multiply(by, d.factor);
  d.reciprocal = Divide(1.0f, scaled);
  d.rest = Multiply(MultiplyAdd(-scaled, d.reciprocal, 1.0f), d.reciprocal);
  d.limit = Multiply(scaled, 4096.0f);
  d.takes_all = d.factor == 1.0f && Multiply(largest, d.reciprocal) < kHuge;
  return d;
}

// A dividend with which no operation of Quotient leaves the normal numbers; the
// quotient stays, or stays above 4000.
QSWEEP_DEVICE float InReach(float x, const Divisor& d) {
  return Clamped(Multiply(x, d.factor), -d.limit, d.limit);
}

// x / by to within 0.5000001 units in the last place. It lies below, on or
// above k + 1/2, |k| < 255, where IEEE's quotient does: where the two differ,
// the quotient is in the middle of two numbers but for 2^-23 of their distance.
// Beside k + 1/2 that takes a divisor within 2^6 of a multiple of 2^16 (in
// units of its last place), and for all of those a test has compared. The same
// holds for a quotient of fp16 numbers that is rounded to fp16.
QSWEEP_DEVICE float Quotient(float x, const Divisor& d) {
  return MultiplyAdd(x, d.reciprocal, Multiply(x, d.rest));
}

// To an integer, halves to even; +0 for what becomes 0. |x| < 2^22.
QSWEEP_DEVICE float NearestInteger(float x) {
  return Add(Add(x, kIntegerBias), -kIntegerBias);
}

// A value is scale * integer with integer in lowest..highest, its code is
// integer + zero.
struct Parameters {
  float scale;         // infinite where the group is not finite: all 0
  uint32_t sign_mask;  // of grids without a zero point: -0.3 becomes -0
  float zero;
  float lowest;
  float highest;
  Divisor divisor;
};

struct SpanAndLow {
  float span;  // what the levels share
  float low;   // what code 0 stands for; 0 in grids without a zero point
};

template <bool kHalf>
QSWEEP_DEVICE SpanAndLow SpanAndLowOf(Range range, RtnGrid grid) {
  const float awq_floor = Rounded<kHalf>(1e-5f);
  float low = range.min;
  float high = range.max;
  switch (grid) {
    case RtnGrid::kAbsmax:
      return {MaxOf(MaxOf(-low, high), 0.0f), 0};
    case RtnGrid::kAwqSymmetric:
      return {MaxOf(MaxOf(-low, high), awq_floor), 0};
    case RtnGrid::kAwqAsymmetric:
      return {MaxOf(Rounded<kHalf>(Add(high, -low)), awq_floor), low};
    case RtnGrid::kGptqSymmetric:
    case RtnGrid::kGptqAsymmetric:
      break;
  }
  low = MinOf(low, 0.0f);
  high = MaxOf(high, 0.0f);
  if (grid == RtnGrid::kGptqSymmetric) {
    high = MaxOf(-low, high);
    low = low < 0 ? -high : low;
  }
  if (low == 0 && high == 0) {
    low = -1;
    high = 1;
  }
  return {Rounded<kHalf>(Add(high, -low)), low};
}

template <bool kHalf>
QSWEEP_DEVICE float ZeroPoint(float low, float levels, const Divisor& divisor) {
  const float dividend = divisor.takes_all ? -low : InReach(-low, divisor);
  const float quotient = Rounded<kHalf>(Quotient(dividend, divisor));
  return NearestInteger(Clamped(quotient, 0.0f, levels));
}

template <bool kHalf>
QSWEEP_DEVICE Parameters ParametersOf(Range range, const RtnOptions& options) {
  const bool is_signed = options.grid == RtnGrid::kAbsmax ||
                         options.grid == RtnGrid::kAwqSymmetric;
  const float levels = static_cast<float>((1 << options.bits) - 1);
  const float half_range = static_cast<float>(1 << (options.bits - 1));
  const SpanAndLow grid = SpanAndLowOf<kHalf>(range, options.grid);
  Parameters p = {};
  p.scale =
      Rounded<kHalf>(Divide(grid.span, is_signed ? half_range - 1.0f : levels));
  if (options.half_scale) {
    p.scale = Rounded<true>(p.scale);
  }
  const float infinity = FloatOf(kInfinityBits);
  if (!(range.min > -infinity && range.max < infinity && p.scale < infinity)) {
    p.scale = infinity;
    p.divisor = NoDivisor();
    return p;
  }
  p.divisor = p.scale == 0 ? NoDivisor()
                           : DivisorOf(p.scale, MaxOf(-range.min, range.max));
  if (is_signed) {
    // A group of zeros stays as it is; one that a scale of 0 makes zeros of
    // gets +0.
    const bool keeps = p.scale != 0 || (range.min == 0 && range.max == 0);
    p.sign_mask = keeps ? kSignBit : 0;
    p.lowest = -half_range;
    p.highest = half_range - 1.0f;
    return p;
  }
  p.zero = options.grid == RtnGrid::kGptqSymmetric
               ? half_range
               : ZeroPoint<kHalf>(grid.low, levels, p.divisor);
  p.lowest = -p.zero;
  p.highest = levels - p.zero;
  return p;
}

// The integer a weight is rounded to, or what InReach makes of it.
template <bool kHalf>
QSWEEP_DEVICE float IntegerOf(float weight, const Parameters& p) {
  const float quotient = Rounded<kHalf>(Quotient(weight, p.divisor));
  // Clamping before rounding gives the same: the bounds are integers.
  const float integer = NearestInteger(Clamped(quotient, p.lowest, p.highest));
  return FloatOf(BitsOf(integer) | (BitsOf(weight) & p.sign_mask));
}

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_RTN_GRID_H_
