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

template <typename Format>
inline constexpr bool kIsFp16 = false;
template <>
inline constexpr bool kIsFp16<Fp16> = true;
template <typename Format>
inline constexpr bool kIsBf16 = false;
template <>
inline constexpr bool kIsBf16<Bf16> = true;

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

// Where what a thread holds of a span at a time lies: some vectors, the first
// at `index`, each `step` numbers behind the one before, so that neighbours'
// vectors touch.
struct Hold {
  int64_t index;
  int64_t step;
  int64_t end;   // of the span
  bool aligned;  // vectors may move whole
};

// Numbers a thread holds: enough that what a group costs a thread is shared by
// many, and that the reads in flight hide the memory's delay. Of numbers of
// half the size twice as many.
template <typename Format>
inline constexpr int kHeldOf = 4 * kPerVector<Format>;

// Those numbers as they are stored: in half the registers that 16 bits would
// take as floats.
template <typename Format>
struct Held {
  Vector16 vectors[kHeldOf<Format> / kPerVector<Format>];
};

QSWEEP_DEVICE bool IsEmpty(const Hold& hold) { return hold.index >= hold.end; }

// What the thread holds the next time.
template <typename Format>
QSWEEP_DEVICE Hold Next(Hold hold) {
  hold.index += kHeldOf<Format> / kPerVector<Format> * hold.step;
  return hold;
}

// How many numbers of vector v lie before the end.
template <typename Format>
QSWEEP_DEVICE int CountOf(const Hold& hold, int v) {
  constexpr int kVector = kPerVector<Format>;
  const int64_t left = hold.end - (hold.index + v * hold.step);
  return left >= kVector ? kVector : left > 0 ? static_cast<int>(left) : 0;
}

template <typename Format>
QSWEEP_DEVICE bool IsFull(const Hold& hold) {
  constexpr int kVectors = kHeldOf<Format> / kPerVector<Format>;
  return hold.aligned &&
         CountOf<Format>(hold, kVectors - 1) == kPerVector<Format>;
}

// Reads what is held; its first number again for what would lie past the end.
template <typename Format>
QSWEEP_DEVICE Held<Format> LoadHeld(const typename Format::Stored* base,
                                    const Hold& hold) {
  using Stored = typename Format::Stored;
  constexpr int kVector = kPerVector<Format>;
  constexpr int kVectors = kHeldOf<Format> / kVector;
  Held<Format> held;
  if (IsFull<Format>(hold)) {
    for (int v = 0; v < kVectors; ++v) {
      held.vectors[v] = Load(
          reinterpret_cast<const Vector16*>(base + hold.index + v * hold.step));
    }
    return held;
  }
  const Stored first = IsEmpty(hold) ? Stored{0} : Load(base + hold.index);
  for (int v = 0; v < kVectors; ++v) {
    const int count = CountOf<Format>(hold, v);
    Stored stored[kVector];
    for (int i = 0; i < kVector; ++i) {
      stored[i] =
          i < count ? Load(base + hold.index + v * hold.step + i) : first;
    }
    memcpy(&held.vectors[v], stored, sizeof(stored));
  }
  return held;
}

template <typename Format>
QSWEEP_DEVICE void Decode(const Vector16& vector,
                          float (&numbers)[kPerVector<Format>]) {
  typename Format::Stored stored[kPerVector<Format>];
  memcpy(stored, &vector, sizeof(vector));
  for (int i = 0; i < kPerVector<Format>; ++i) {
    numbers[i] = Format::Decode(stored[i]);
  }
}

// Writes vector v of a hold, as In's vectors lie, up to the end. full:
// IsFull<In>(hold).
template <typename In, typename Out>
QSWEEP_DEVICE void StoreVector(const float (&numbers)[kPerVector<In>],
                               const Hold& hold, bool full, int v,
                               typename Out::Stored* base) {
  constexpr int kVector = kPerVector<In>;
  StoreNumbers<Out, kVector>(numbers, full ? kVector : CountOf<In>(hold, v),
                             hold.aligned, base, hold.index + v * hold.step);
}

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_CUDA_NUMBERS_H_
