#ifndef QSWEEP_WORKER_KERNELS_CUDA_NUMBERS_H_
#define QSWEEP_WORKER_KERNELS_CUDA_NUMBERS_H_

#include <cstdint>

#include "worker/kernels/launch.h"

// Number formats of device buffers, for .cu files only.
namespace qsweep::kernels {

struct Fp32 {
  using Stored = float;
  QSWEEP_DEVICE static float Decode(float stored) { return stored; }
  QSWEEP_DEVICE static float Encode(float value) { return value; }
};

struct Fp16 {
  using Stored = uint16_t;
  QSWEEP_DEVICE static float Decode(uint16_t stored) {
    return FloatOfHalf(stored);
  }
  QSWEEP_DEVICE static uint16_t Encode(float value) { return HalfOf(value); }
};

struct Bf16 {
  using Stored = uint16_t;
  QSWEEP_DEVICE static float Decode(uint16_t stored) {
    return FloatOf(static_cast<uint32_t>(stored) << 16);
  }
  // By hand, since sm_75 has no instruction for it. NaN: the quiet one alone.
  QSWEEP_DEVICE static uint16_t Encode(float value) {
    const uint32_t bits = BitsOf(value);
    const uint32_t to_even = bits >> 16 & 1;
    return static_cast<uint16_t>((bits + 0x7fff + to_even) >> 16);
  }
};

// Numbers of a format in 16 bytes.
template <typename Format>
inline constexpr int kPerVector =
    static_cast<int>(16 / sizeof(typename Format::Stored));

inline bool IsAligned16(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % 16 == 0;
}

// Reads the kCount numbers from `index` on that lie before `end` and returns
// how many those are. aligned: a vector at a time; base and index allow it.
template <typename Format, int kCount>
QSWEEP_DEVICE int LoadNumbers(const typename Format::Stored* base,
                              int64_t index, int64_t end, bool aligned,
                              float* numbers) {
  constexpr int kVector = kPerVector<Format>;
  if (index >= end) {
    return 0;
  }
  if (aligned && index + kCount <= end) {
    for (int i = 0; i < kCount; i += kVector) {
      const Vector16 vector =
          Load(reinterpret_cast<const Vector16*>(base + index + i));
      typename Format::Stored stored[kVector];
      memcpy(stored, &vector, sizeof(vector));
      for (int j = 0; j < kVector; ++j) {
        numbers[i + j] = Format::Decode(stored[j]);
      }
    }
    return kCount;
  }
  const int count =
      index + kCount <= end ? kCount : static_cast<int>(end - index);
  for (int i = 0; i < kCount; ++i) {
    if (i < count) {
      numbers[i] = Format::Decode(Load(base + index + i));
    }
  }
  return count;
}

// The reverse: writes the first `count` of kCount numbers from `index` on.
template <typename Format, int kCount>
QSWEEP_DEVICE void StoreNumbers(const float* numbers, int count, bool aligned,
                                typename Format::Stored* base, int64_t index) {
  constexpr int kVector = kPerVector<Format>;
  if (aligned && count == kCount) {
    for (int i = 0; i < kCount; i += kVector) {
      typename Format::Stored stored[kVector];
      for (int j = 0; j < kVector; ++j) {
        stored[j] = Format::Encode(numbers[i + j]);
      }
      Vector16 vector;
      memcpy(&vector, stored, sizeof(vector));
      Store(reinterpret_cast<Vector16*>(base + index + i), vector);
    }
    return;
  }
  for (int i = 0; i < kCount; ++i) {
    if (i < count) {
      Store(base + index + i, Format::Encode(numbers[i]));
    }
  }
}

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_CUDA_NUMBERS_H_
