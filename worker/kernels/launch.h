#ifndef QSWEEP_WORKER_KERNELS_LAUNCH_H_
#define QSWEEP_WORKER_KERNELS_LAUNCH_H_

#include <cstdint>
#include <cstring>

#if !defined(__CUDACC__)
#include <bit>
#include <cmath>
#endif

#include "worker/kernels/cuda_types.h"

// The words a kernel is written in, for .cu files only. nvcc gets CUDA for
// them; a C++ compiler gets declarations, which the tests' host emulation of
// grid, block, warp and shared memory defines: one source, proved without a
// GPU. So a kernel reads and writes global memory through Load and Store alone,
// and every thread of a warp reaches each shuffle and AllLanes, every thread of
// a block each SyncBlock. Arithmetic is IEEE with one rounding for each
// operation: Add, Multiply, Divide, MultiplyAdd and SquareRoot are never
// contracted or approximated.

#if defined(__CUDACC__)
#define QSWEEP_KERNEL __global__ void
// Between QSWEEP_KERNEL and the name: so many blocks of so many threads fit a
// multiprocessor at once.
#define QSWEEP_RESIDENT(threads, blocks) __launch_bounds__(threads, blocks)
#define QSWEEP_DEVICE __device__ __forceinline__
// Before a loop whose index chooses among a thread's registers.
#define QSWEEP_UNROLL _Pragma("unroll")
// An array or struct that the block's threads share, undefined at first.
#define QSWEEP_SHARED(type, name) __shared__ type name
#else
#define QSWEEP_KERNEL void
#define QSWEEP_RESIDENT(threads, blocks)
#define QSWEEP_DEVICE inline
#define QSWEEP_UNROLL
#define QSWEEP_SHARED(type, name)                                              \
  type& name = *static_cast<type*>(::qsweep::kernels::emulation::SharedMemory( \
      __FILE__, __LINE__, sizeof(type)))
#endif

namespace qsweep::kernels {

inline constexpr int kWarpThreads = 32;
inline constexpr int kWarpBits = 5;  // 2^5 of them

// 16 bytes at a multiple of 16: the widest access.
struct alignas(16) Vector16 {
  uint32_t words[4];
};

struct Grid {
  int64_t blocks = 0;  // at most 2^31 - 1
  int threads = 0;     // of a block
};

QSWEEP_HOST_DEVICE constexpr int64_t CeilDiv(int64_t n, int64_t step) {
  return (n + step - 1) / step;
}

#if defined(__CUDACC__)

QSWEEP_DEVICE int ThreadIndex() { return static_cast<int>(threadIdx.x); }
QSWEEP_DEVICE int BlockThreads() { return static_cast<int>(blockDim.x); }
QSWEEP_DEVICE int64_t BlockIndex() { return blockIdx.x; }
QSWEEP_DEVICE int64_t NumBlocks() { return gridDim.x; }
QSWEEP_DEVICE void SyncBlock() { __syncthreads(); }

template <typename T>
QSWEEP_DEVICE T Load(const T* from) {
  return *from;
}
template <typename T>
QSWEEP_DEVICE void Store(T* to, T value) {
  *to = value;
}
// One access each, which the compiler might else take apart.
template <>
QSWEEP_DEVICE Vector16 Load(const Vector16* from) {
  const uint4 v = *reinterpret_cast<const uint4*>(from);
  return {{v.x, v.y, v.z, v.w}};
}
template <>
QSWEEP_DEVICE void Store(Vector16* to, Vector16 value) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(__cvta_generic_to_global(to)), "r"(value.words[0]),
                 "r"(value.words[1]), "r"(value.words[2]), "r"(value.words[3])
               : "memory");
}

// Stays as it is, but what was computed from it is computed again: fewer
// registers for a few instructions more.
QSWEEP_DEVICE void Forget(Vector16& v) {
  asm volatile(""
               : "+r"(v.words[0]), "+r"(v.words[1]), "+r"(v.words[2]),
                 "+r"(v.words[3]));
}

// Asks for the 128 bytes around an address in global memory, which are then in
// the L2 cache when they are read.
QSWEEP_DEVICE void Prefetch(const void* address) {
  asm volatile("prefetch.global.L2 [%0];"
               :
               : "l"(__cvta_generic_to_global(address)));
}

// The value of the lane whose index differs by lane_mask.
template <typename T>
QSWEEP_DEVICE T ShuffleXor(T value, int lane_mask) {
  uint32_t words[sizeof(T) / 4];
  memcpy(words, &value, sizeof(T));
  for (uint32_t& word : words) {
    word = __shfl_xor_sync(0xffffffffu, word, lane_mask);
  }
  memcpy(&value, words, sizeof(T));
  return value;
}

// The value of lane `from`, which each lane chooses.
template <typename T>
QSWEEP_DEVICE T ShuffleFrom(T value, int from) {
  static_assert(sizeof(T) == 4);
  return __shfl_sync(0xffffffffu, value, from);
}
// Whether it is true in every lane of the warp.
QSWEEP_DEVICE bool AllLanes(bool value) {
  return __all_sync(0xffffffffu, value) != 0;
}

QSWEEP_DEVICE float Add(float a, float b) { return __fadd_rn(a, b); }
QSWEEP_DEVICE float Multiply(float a, float b) { return __fmul_rn(a, b); }
QSWEEP_DEVICE float Divide(float a, float b) { return __fdiv_rn(a, b); }
QSWEEP_DEVICE float MultiplyAdd(float a, float b, float c) {
  return __fmaf_rn(a, b, c);
}
QSWEEP_DEVICE double Add(double a, double b) { return __dadd_rn(a, b); }
QSWEEP_DEVICE double Multiply(double a, double b) { return __dmul_rn(a, b); }
QSWEEP_DEVICE double Divide(double a, double b) { return __ddiv_rn(a, b); }
QSWEEP_DEVICE double MultiplyAdd(double a, double b, double c) {
  return __fma_rn(a, b, c);
}
QSWEEP_DEVICE float SquareRoot(float x) { return __fsqrt_rn(x); }
// To the nearest integer, halves to even; the sign stays.
QSWEEP_DEVICE float RoundToInteger(float x) { return rintf(x); }
// -0 is below +0; of NaN and a number, the number.
QSWEEP_DEVICE float MinOf(float a, float b) { return fminf(a, b); }
QSWEEP_DEVICE float MaxOf(float a, float b) { return fmaxf(a, b); }

QSWEEP_DEVICE uint32_t BitsOf(float x) { return __float_as_uint(x); }
QSWEEP_DEVICE float FloatOf(uint32_t bits) { return __uint_as_float(bits); }
QSWEEP_DEVICE uint64_t BitsOf(double x) {
  return static_cast<uint64_t>(__double_as_longlong(x));
}
QSWEEP_DEVICE double DoubleOf(uint64_t bits) {
  return __longlong_as_double(static_cast<long long>(bits));
}
// fp16 as its bits; to the nearest, halves to even, infinity from 65520 on.
QSWEEP_DEVICE float FloatOfHalf(uint16_t bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}
QSWEEP_DEVICE uint16_t HalfOf(float x) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

// Starts the kernel; asynchronous. 0, or the CUDA error of the launch.
template <typename... Parameters, typename... Arguments>
int Launch(void (*kernel)(Parameters...), Grid grid, Stream stream,
           Arguments... arguments) {
  kernel<<<static_cast<unsigned>(grid.blocks),
           static_cast<unsigned>(grid.threads), 0, stream>>>(arguments...);
  return static_cast<int>(cudaGetLastError());
}

#else

int ThreadIndex();
int BlockThreads();
int64_t BlockIndex();
int64_t NumBlocks();
void SyncBlock();

namespace emulation {

// A launch has run to its end when RunGrid returns: 0, or 1 after anything that
// CUDA leaves undefined.
int RunGrid(Grid grid, void (*body)(const void*), const void* context);
// The running block's memory of one QSWEEP_SHARED.
void* SharedMemory(const char* file, int line, int64_t size);
void CheckAccess(const void* address, size_t size, size_t alignment);
// Puts in place of the value that of the lane whose index differs by lane_mask,
// or of lane `from`.
void ExchangeXor(void* value, int size, int lane_mask);
void ExchangeFrom(void* value, int size, int from);

}  // namespace emulation

template <typename T>
T Load(const T* from) {
  emulation::CheckAccess(from, sizeof(T), alignof(T));
  return *from;
}
template <typename T>
void Store(T* to, T value) {
  emulation::CheckAccess(to, sizeof(T), alignof(T));
  *to = value;
}
inline void Forget(Vector16&) {}
inline void Prefetch(const void* address) {
  emulation::CheckAccess(address, 1, 1);
}
template <typename T>
T ShuffleXor(T value, int lane_mask) {
  emulation::ExchangeXor(&value, sizeof(T), lane_mask);
  return value;
}
template <typename T>
T ShuffleFrom(T value, int from) {
  static_assert(sizeof(T) == 4);
  emulation::ExchangeFrom(&value, sizeof(T), from);
  return value;
}
inline bool AllLanes(bool value) {
  int all = value ? 1 : 0;
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    all &= ShuffleXor(all, mask);
  }
  return all != 0;
}

// Compiled with -ffp-contract=off.
inline float Add(float a, float b) { return a + b; }
inline float Multiply(float a, float b) { return a * b; }
inline float Divide(float a, float b) { return a / b; }
inline float MultiplyAdd(float a, float b, float c) {
  return std::fma(a, b, c);
}
inline double Add(double a, double b) { return a + b; }
inline double Multiply(double a, double b) { return a * b; }
inline double Divide(double a, double b) { return a / b; }
inline double MultiplyAdd(double a, double b, double c) {
  return std::fma(a, b, c);
}
inline float SquareRoot(float x) { return std::sqrt(x); }
inline float RoundToInteger(float x) { return std::nearbyint(x); }
inline float MinOf(float a, float b) {
  return a < b || b != b || (a == b && std::signbit(a)) ? a : b;
}
inline float MaxOf(float a, float b) {
  return a > b || b != b || (a == b && !std::signbit(a)) ? a : b;
}
inline uint32_t BitsOf(float x) { return std::bit_cast<uint32_t>(x); }
inline float FloatOf(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint64_t BitsOf(double x) { return std::bit_cast<uint64_t>(x); }
inline double DoubleOf(uint64_t bits) { return std::bit_cast<double>(bits); }
float FloatOfHalf(uint16_t bits);
uint16_t HalfOf(float x);

template <typename... Parameters, typename... Arguments>
int Launch(void (*kernel)(Parameters...), Grid grid, Stream,
           Arguments... arguments) {
  const auto call = [&] { kernel(arguments...); };
  return emulation::RunGrid(
      grid,
      [](const void* context) { (*static_cast<decltype(&call)>(context))(); },
      &call);
}

#endif

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_LAUNCH_H_
