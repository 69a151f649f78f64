#ifndef QSWEEP_WORKER_KERNELS_HQQ_STEPS_H_
#define QSWEEP_WORKER_KERNELS_HQQ_STEPS_H_

#include <cstdint>

#include "worker/kernels/cuda_division.h"
#include "worker/kernels/hqq_cuda.h"
#include "worker/kernels/integer_bias.h"
#include "worker/kernels/launch.h"

// A step of hqq.cu's solver for one group, for .cu files only. Each sum has the
// order of the CPU's.
namespace qsweep::kernels::hqq {

inline constexpr int kCpuLanes = 32;  // of a sum over a group
inline constexpr int kOwn = 16;       // weights in a lane's registers
inline constexpr float kShrunkAway = 0.17f;

inline constexpr uint32_t kInfinityBits = 0x7f800000;

struct Work {
  HqqBuffers buffers;
  int64_t count;
  int64_t groups;
  int64_t group_size;
  int64_t offset;          // what the first group lacks
  int64_t group_stride;    // from a group's first weight to the next one's
  int64_t element_stride;  // from a weight of a group to its next
  float levels;            // 2^bits - 1
  bool round_zero;
};

QSWEEP_DEVICE float Magnitude(float x) {
  return FloatOf(BitsOf(x) & 0x7fffffff);
}

// The weights of a group; none behind the last.
struct Span {
  int64_t begin;
  int64_t count;
};

QSWEEP_DEVICE Span SpanOf(const Work& work, int64_t group) {
  if (group >= work.groups) {
    return {0, 0};
  }
  const int64_t first = group * work.group_stride - work.offset;
  if (work.offset == 0) {
    return {first, work.group_size};
  }
  const int64_t last = first + work.group_size;
  const int64_t begin = first > 0 ? first : 0;
  return {begin, (last < work.count ? last : work.count) - begin};
}

template <typename In>
QSWEEP_DEVICE float WeightAt(const Work& work, const Span& span, int64_t i) {
  return In::Decode(
      Load(static_cast<const typename In::Stored*>(work.buffers.weights) +
           span.begin + i * work.element_stride));
}

// As in hqq_cpu.cc, operation by operation.
QSWEEP_DEVICE float PowerOfMinus03(float x) {
  const double wide = x;
  const double cube = Multiply(Multiply(wide, wide), wide);
  double root = FloatOf(static_cast<uint32_t>(static_cast<int32_t>(Add(
      1.3 * 1064866805.0,
      -Multiply(0.3, static_cast<double>(static_cast<int32_t>(BitsOf(x))))))));
  for (int round = 0; round < 5; ++round) {
    const double square = Multiply(root, root);
    const double fifth = Multiply(Multiply(square, square), root);
    root = Multiply(
        root, Add(1.1, -Multiply(0.1, Multiply(cube, Multiply(fifth, fifth)))));
  }
  return static_cast<float>(root);
}

QSWEEP_DEVICE float Shrunk(float x) {
  const float magnitude = Magnitude(x);
  if (magnitude <= kShrunkAway) {
    return 0;
  }
  const float left = Add(magnitude, -Multiply(0.1f, PowerOfMinus03(magnitude)));
  return left > 0 ? (x < 0 ? -left : left) : 0;
}

QSWEEP_DEVICE float CodeOf(float scaled, float zero, float levels) {
  const float inside = MinOf(MaxOf(Add(scaled, zero), 0.0f), levels);
  return Add(Add(inside, kIntegerBias), -kIntegerBias);
}

// A group on the way to its zero point, the same for a whole team.
struct Solving {
  int64_t group;
  Span span;
  float inverse;
  float reciprocal;  // of it
  float zero;
};

// Of the CPU's lanes that this lane of a team stands for: in a team of n those
// that are like it modulo n.
template <int kLanes>
struct LaneSumsOf {
  float moved[kLanes];  // of q - (w - e) inverse
  float error[kLanes];  // of |x|
};

// Anything: a group that does not fit, errors that leave something after
// shrinking, numbers out of QuotientBy's reach.
template <typename In, int kTeam>
QSWEEP_DEVICE LaneSumsOf<kCpuLanes / kTeam> SumsFromMemory(const Work& work,
                                                           const Solving& s) {
  constexpr int kLanes = kCpuLanes / kTeam;
  LaneSumsOf<kLanes> sums;
  for (int l = 0; l < kLanes; ++l) {
    float moved = 0;
    float error = 0;
    for (int64_t i = ThreadIndex() % kTeam + l * kTeam; i < s.span.count;
         i += kCpuLanes) {
      const float w = WeightAt<In>(work, s.span, i);
      const float q = CodeOf(Multiply(w, s.inverse), s.zero, work.levels);
      const float x = Add(w, -Divide(Add(q, -s.zero), s.inverse));
      moved = Add(moved, Add(q, -Multiply(Add(w, -Shrunk(x)), s.inverse)));
      error = Add(error, Magnitude(x));
    }
    sums.moved[l] = moved;
    sums.error[l] = error;
  }
  return sums;
}

// False: the sums are of no use.
template <int kTeam>
QSWEEP_DEVICE bool SumsFromRegisters(const float (&weights)[kOwn], int count,
                                     const Solving& s, float levels,
                                     LaneSumsOf<kCpuLanes / kTeam>& sums) {
  constexpr int kLanes = kCpuLanes / kTeam;
  const float size = Magnitude(s.zero);
  if (s.inverse < 0x1p-60f || !(size <= 0x1p60f) ||
      (size != 0 && size < 0x1p-60f)) {
    return false;
  }
  float largest = 0;
  QSWEEP_UNROLL
  for (int l = 0; l < kLanes; ++l) {
    sums.moved[l] = sums.error[l] = 0;
  }
  QSWEEP_UNROLL
  for (int i = 0; i < kOwn; ++i) {
    if (i < count) {
      const float w = weights[i];
      const float scaled = Multiply(w, s.inverse);
      const float q = CodeOf(scaled, s.zero, levels);
      const float x =
          Add(w, -QuotientBy(s.inverse, s.reciprocal, Add(q, -s.zero)));
      float& moved = sums.moved[i % kLanes];
      float& error = sums.error[i % kLanes];
      moved = Add(moved, Add(q, -scaled));
      error = Add(error, Magnitude(x));
      largest = MaxOf(largest, Magnitude(x));
    }
  }
  return largest <= kShrunkAway;
}

struct Sums {
  float moved;
  float error;
};

// Over the CPU's lanes, halves onto halves; every lane of the team gets it.
template <int kTeam>
QSWEEP_DEVICE Sums Folded(LaneSumsOf<kCpuLanes / kTeam> sums) {
  QSWEEP_UNROLL
  for (int half = kCpuLanes / kTeam / 2; half > 0; half /= 2) {
    QSWEEP_UNROLL
    for (int l = 0; l < half; ++l) {
      sums.moved[l] = Add(sums.moved[l], sums.moved[l + half]);
      sums.error[l] = Add(sums.error[l], sums.error[l + half]);
    }
  }
  Sums all = {sums.moved[0], sums.error[0]};
  for (int mask = kTeam / 2; mask > 0; mask /= 2) {
    const Sums other = ShuffleXor(all, mask);
    all = {Add(all.moved, other.moved), Add(all.error, other.error)};
  }
  return all;
}

// A step: moves the zero point, returns the sum of |x| before it.
template <typename In, int kTeam>
QSWEEP_DEVICE float Step(const Work& work, const float (&weights)[kOwn],
                         int count, bool in_use, Solving& s) {
  LaneSumsOf<kCpuLanes / kTeam> lanes = {};
  const bool fits = work.group_size <= kOwn * kTeam;
  if (in_use && !(fits && SumsFromRegisters<kTeam>(weights, count, s,
                                                   work.levels, lanes))) {
    lanes = SumsFromMemory<In, kTeam>(work, s);
  }
  const Sums sums = Folded<kTeam>(lanes);
  const float zero = Divide(sums.moved, static_cast<float>(s.span.count));
  if (Magnitude(zero) < FloatOf(kInfinityBits)) {
    s.zero = zero;
  }
  return sums.error;
}

}  // namespace qsweep::kernels::hqq

#endif  // QSWEEP_WORKER_KERNELS_HQQ_STEPS_H_
