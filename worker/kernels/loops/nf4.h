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
// What a code stands for, or where it ends, in the order of paths: a path is
// minus the code's first bits.
template <typename ValueOf>
inline Floats ByPath(ValueOf value_of) {
  Floats values;
  for (int k = 0; k < kFloats; ++k) {
    values[(kFloats - k) % kFloats] = value_of(k);
  }
  return values;
}

// The levels of the codes of kMany registers: four comparisons, each with the
// threshold that those before it lead to. A comparison gives 0 or -1. Step by
// step for all of them, since each step waits for the one before.
template <int kMany>
inline void ToLevels(Floats* x) {
  constexpr auto t = [](int q) { return Nf4Threshold(q); };
  const Floats seconds = {t(3), 0, 0, t(11), t(3), 0, 0, t(11)};
  const Floats thirds = {t(1), t(13), t(9), t(5), t(1), t(13), t(9), t(5)};
  const Floats fourths = ByPath([](int k) { return Nf4Threshold(2 * k); });
  const Floats evens = ByPath([](int k) { return kNf4Levels[2 * k]; });
  const Floats odds = ByPath([](int k) { return kNf4Levels[2 * k + 1]; });
  const auto bits = [](Ints path) { return reinterpret_cast<__m256i>(path); };
  Ints path[kMany];
#pragma GCC unroll 4
  for (int v = 0; v < kMany; ++v) {
    path[v] = x[v] > t(7);
  }
#pragma GCC unroll 4
  for (int v = 0; v < kMany; ++v) {
    const Ints step = x[v] > _mm256_permutevar_ps(seconds, bits(path[v]));
    path[v] = path[v] + path[v] + step;
  }
#pragma GCC unroll 4
  for (int v = 0; v < kMany; ++v) {
    const Ints step = x[v] > _mm256_permutevar_ps(thirds, bits(path[v]));
    path[v] = path[v] + path[v] + step;
  }
#pragma GCC unroll 4
  for (int v = 0; v < kMany; ++v) {
    const Ints step = x[v] > _mm256_permutevar8x32_ps(fourths, bits(path[v]));
    x[v] = _mm256_blendv_ps(_mm256_permutevar8x32_ps(evens, bits(path[v])),
                            _mm256_permutevar8x32_ps(odds, bits(path[v])),
                            reinterpret_cast<__m256>(step));
  }
}
#else
template <int kMany>
inline void ToLevels(Floats* x) {
  for (int v = 0; v < kMany; ++v) {
    Floats levels = Wide<float>::All(kNf4Levels[0]);
    for (int q = 0; q + 1 < kNf4Codes; ++q) {
      levels =
          x[v] > Nf4Threshold(q) ? Wide<float>::All(kNf4Levels[q + 1]) : levels;
    }
    x[v] = levels;
  }
}
#endif

// Groups whose scales are found together, before their weights are rounded, and
// how far ahead of its use memory is asked for: behind those.
constexpr int64_t kNf4GroupsAtOnce = 16;
constexpr int64_t kNf4PrefetchBytes = 16384;

void Nf4Group(const float* weights, int64_t count, float inverse, float scale,
              float* out) {
  constexpr int kMany = 2;
  int64_t i = 0;
  for (; i + kMany * kFloats <= count; i += kMany * kFloats) {
    Floats x[kMany];
#pragma GCC unroll 4
    for (int v = 0; v < kMany; ++v) {
      const float* const from = weights + i + v * kFloats;
      __builtin_prefetch(reinterpret_cast<const char*>(from) +
                         kNf4PrefetchBytes);
      x[v] = LoadFloats(from) * inverse;
    }
    ToLevels<kMany>(x);
#pragma GCC unroll 4
    for (int v = 0; v < kMany; ++v) {
      float* const to = out + i + v * kFloats;
      StoreFloats(to, x[v] * scale);
    }
  }
  for (; i < count; i += kFloats) {
    const int64_t some = std::min(kFloats, count - i);
    Floats x = LoadSome(weights + i, some, 0.0f) * inverse;
    ToLevels<1>(&x);
    StoreSome(out + i, x * scale, some);
  }
}

// scales: of all groups, or nullptr where each has its largest magnitude. Past
// the caches it would be slower: the arithmetic is what takes the time.
void Nf4(const float* weights, int64_t count, int64_t group_size,
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
      Nf4Group(weights + first, size, inverse, scale, out + first);
    }
  }
}

}  // namespace
}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_LOOPS_NF4_H_
