#ifndef QSWEEP_WORKER_KERNELS_LOOPS_WIDE_H_
#define QSWEEP_WORKER_KERNELS_LOOPS_WIDE_H_

// A register of floats of the CPU that is compiled for, up to AVX2. Internal
// linkage, as vector.h.

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "worker/kernels/loops/registers.h"

namespace qsweep::kernels {
namespace {

using Floats = Wide<float>::Vec;
using Ints = Wide<int32_t>::Vec;
constexpr int64_t kFloats = Wide<float>::kLanes;

inline Floats LoadFloats(const float* p) { return Wide<float>::Load(p); }
// The first `count` of a register, the rest from `rest`.
inline Floats LoadSome(const float* p, int64_t count, float rest) {
  float all[kFloats];
  for (int64_t i = 0; i < kFloats; ++i) {
    all[i] = i < count ? p[i] : rest;
  }
  return LoadFloats(all);
}
inline void StoreFloats(float* p, Floats v) { Wide<float>::Store(p, v); }
inline void StoreSome(float* p, Floats v, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    p[i] = v[i];
  }
}

// Past the caches: what is larger than they are would only push out the rest.
// p: on a multiple of 16 bytes. FinishStreams before another thread reads it.
inline void StreamFloats(float* p, Floats v) {
#if defined(__AVX2__)
  _mm_stream_ps(p, _mm256_castps256_ps128(v));
  _mm_stream_ps(p + 4, _mm256_extractf128_ps(v, 1));
#elif defined(__SSE2__)
  _mm_stream_ps(p, v);
#else
  StoreFloats(p, v);
#endif
}
// Whether `count` floats should go that way, where each part starts on a
// multiple of `step` of them.
inline bool ShouldStream(const float* p, int64_t count, int64_t step) {
  constexpr int64_t kLarge = int64_t{4} << 20;  // no cache of one core
  return count >= kLarge && step % 4 == 0 &&
         reinterpret_cast<uintptr_t>(p) % 16 == 0;
}
inline void FinishStreams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// b where one of them is not a number.
inline Floats Smaller(Floats a, Floats b) {
#if defined(__AVX2__)
  return _mm256_min_ps(a, b);
#elif defined(__SSE2__)
  return _mm_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}
inline Floats Larger(Floats a, Floats b) {
#if defined(__AVX2__)
  return _mm256_max_ps(a, b);
#elif defined(__SSE2__)
  return _mm_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

// Of all lanes.
#if defined(__SSE2__)
template <typename Join>
inline float JoinLanes(Floats v, Join join) {
#if defined(__AVX2__)
  __m128 four = join(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
#else
  __m128 four = v;
#endif
  four = join(four, _mm_movehl_ps(four, four));
  return join(four, _mm_shuffle_ps(four, four, 1))[0];
}
inline float Smallest(Floats v) {
  return JoinLanes(v, [](__m128 a, __m128 b) { return _mm_min_ps(a, b); });
}
inline float Largest(Floats v) {
  return JoinLanes(v, [](__m128 a, __m128 b) { return _mm_max_ps(a, b); });
}
#else
inline float Smallest(Floats v) {
  float least = v[0];
  for (int64_t i = 1; i < kFloats; ++i) {
    least = v[i] < least ? v[i] : least;
  }
  return least;
}
inline float Largest(Floats v) {
  float most = v[0];
  for (int64_t i = 1; i < kFloats; ++i) {
    most = v[i] > most ? v[i] : most;
  }
  return most;
}
#endif

}  // namespace
}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_LOOPS_WIDE_H_
