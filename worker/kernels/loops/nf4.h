#ifndef QSWEEP_WORKER_KERNELS_LOOPS_NF4_H_
#define QSWEEP_WORKER_KERNELS_LOOPS_NF4_H_

// The loops of Nf4Cpu. Included once per kind of CPU; with -ffp-contract=off.

#include <algorithm>
#include <cstdint>

#include "worker/kernels/loops/wide.h"
#include "worker/kernels/nf4.h"

namespace qsweep::kernels {
namespace {

inline Floats Magnitude(Floats v) {
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(v) & 0x7fffffff);
}

// The order does not matter.
inline float AbsMax(const float* weights, int64_t count) {
  Floats most[2] = {};
  int64_t i = 0;
  for (; i + 2 * kFloats <= count; i += 2 * kFloats) {
#pragma GCC unroll 2
    for (int64_t v = 0; v < 2; ++v) {
      most[v] =
          Larger(Magnitude(LoadFloats(weights + i + v * kFloats)), most[v]);
    }
  }
  for (; i < count; i += kFloats) {
    const Floats w = i + kFloats <= count
                         ? LoadFloats(weights + i)
                         : LoadSome(weights + i, count - i, 0.0f);
    most[0] = Larger(Magnitude(w), most[0]);
  }
  return Largest(Larger(most[0], most[1]));
}

void Nf4Scales(const float* weights, int64_t count, int64_t group_size,
               float* scales) {
  for (int64_t first = 0; first < count; first += group_size) {
    *scales++ = AbsMax(weights + first, std::min(group_size, count - first));
  }
}

// As a sum of comparisons. 0 * infinity, in a group of zeros, is above no
// threshold.
inline int32_t CodeOf(float x) {
  int32_t code = 0;
  for (int q = 0; q + 1 < kNf4Codes; ++q) {
    code += x > Nf4Threshold(q) ? 1 : 0;
  }
  return code;
}

#if defined(__AVX2__)
// The levels of x's codes: four comparisons, each with the threshold that those
// before it lead to.
inline Floats LevelsOf(Floats x) {
  constexpr auto t = [](int q) { return Nf4Threshold(q); };
  constexpr const float* kLevels = kNf4Levels;
  const Floats thirds = {t(1), t(5), t(9), t(13), t(1), t(5), t(9), t(13)};
  const Floats fourths = {t(0), t(2), t(4), t(6), t(8), t(10), t(12), t(14)};
  const Ints first = x > t(7);  // -1 or 0
  const Ints second =
      x > (first ? Wide<float>::All(t(11)) : Wide<float>::All(t(3)));
  Ints path = (first & 2) | (second & 1);
  const Ints third =
      x > _mm256_permutevar_ps(thirds, reinterpret_cast<__m256i>(path));
  path = path + path - third;
  const Ints fourth =
      x > _mm256_permutevar8x32_ps(fourths, reinterpret_cast<__m256i>(path));
  path = path + path - fourth;
  const __m256i code = reinterpret_cast<__m256i>(path);  // its last three bits
  const __m256 low = _mm256_permutevar8x32_ps(LoadFloats(kLevels), code);
  const __m256 high =
      _mm256_permutevar8x32_ps(LoadFloats(kLevels + kFloats), code);
  return _mm256_blendv_ps(low, high, reinterpret_cast<__m256>(first));
}
#else
inline Floats LevelsOf(Floats x) {
  Floats levels = Wide<float>::All(kNf4Levels[0]);
  for (int q = 0; q + 1 < kNf4Codes; ++q) {
    levels = x > Nf4Threshold(q) ? Wide<float>::All(kNf4Levels[q + 1]) : levels;
  }
  return levels;
}
#endif

// Groups whose scales are found together, before their weights are rounded, and
// how far ahead of its use memory is asked for: behind those.
constexpr int64_t kNf4GroupsAtOnce = 16;
constexpr int64_t kNf4PrefetchBytes = 16384;

template <bool kStreams>
void Nf4Group(const float* weights, int64_t count, float inverse, float scale,
              float* out) {
  int64_t i = 0;
  for (; i + kFloats <= count; i += kFloats) {
    __builtin_prefetch(reinterpret_cast<const char*>(weights + i) +
                       kNf4PrefetchBytes);
    const Floats values = LevelsOf(LoadFloats(weights + i) * inverse) * scale;
    if constexpr (kStreams) {
      StreamFloats(out + i, values);
    } else {
      StoreFloats(out + i, values);
    }
  }
  if (i < count) {
    StoreSome(
        out + i,
        LevelsOf(LoadSome(weights + i, count - i, 0.0f) * inverse) * scale,
        count - i);
  }
}

template <bool kStreams>
void Nf4Groups(const float* weights, int64_t count, int64_t group_size,
               const float* scales, float* out, float* absmax, uint8_t* codes) {
  const int64_t at_once = group_size * kNf4GroupsAtOnce;
  float largest[kNf4GroupsAtOnce];
  for (int64_t begin = 0; begin < count; begin += at_once) {
    const int64_t end = std::min(begin + at_once, count);
    Nf4Scales(weights + begin, end - begin, group_size, largest);
    int64_t group = begin / group_size;
    for (int64_t first = begin; first < end; first += group_size, ++group) {
      const int64_t size = std::min(group_size, end - first);
      const float own = largest[(first - begin) / group_size];
      const float inverse = 1.0f / own;
      const float scale = scales != nullptr ? scales[group] : own;
      if (absmax != nullptr) {
        absmax[group] = scale;
      }
      for (int64_t i = first; codes != nullptr && i < first + size; ++i) {
        codes[i] = static_cast<uint8_t>(CodeOf(weights[i] * inverse));
      }
      Nf4Group<kStreams>(weights + first, size, inverse, scale, out + first);
    }
  }
}

// scales: of all groups, or nullptr where each has its largest magnitude.
void Nf4(const float* weights, int64_t count, int64_t group_size,
         const float* scales, float* out, float* absmax, uint8_t* codes) {
  if (out != weights && ShouldStream(out, count, group_size)) {
    Nf4Groups<true>(weights, count, group_size, scales, out, absmax, codes);
    FinishStreams();
  } else {
    Nf4Groups<false>(weights, count, group_size, scales, out, absmax, codes);
  }
}

}  // namespace
}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_LOOPS_NF4_H_
