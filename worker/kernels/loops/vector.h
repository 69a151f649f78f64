#ifndef QSWEEP_WORKER_KERNELS_LOOPS_VECTOR_H_
#define QSWEEP_WORKER_KERNELS_LOOPS_VECTOR_H_

// Eight floats at a time, on any CPU. Included only by the loops, which are
// compiled once per kind of CPU: everything here has internal linkage, so that
// the linker cannot put one CPU's code into another's.

#include <cstdint>

namespace qsweep::kernels {
namespace {

constexpr int kLanes = 8;
typedef float Vec
    __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef int32_t IntVec
    __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

#define QSWEEP_LOOP static inline __attribute__((always_inline))

QSWEEP_LOOP Vec Load(const float* p) {
  return *reinterpret_cast<const Vec*>(p);
}
QSWEEP_LOOP void Store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }
QSWEEP_LOOP Vec Broadcast(float x) { return Vec{x, x, x, x, x, x, x, x}; }

// Lanes added in one fixed order.
QSWEEP_LOOP double Sum(Vec v) {
  double sum = 0;
  for (int i = 0; i < kLanes; ++i) {
    sum += static_cast<double>(v[i]);
  }
  return sum;
}

// exp(x) for x <= 0 within 2 units in the last place; below -87 it stays at
// exp(-87), which is nothing beside the 1 of the maximum. NaN stays NaN.
// Cody-Waite reduction and the polynomial of Cephes' expf.
QSWEEP_LOOP Vec Exp(Vec x) {
  const Vec lowest = Broadcast(-87.0F);
  x = x < lowest ? lowest : x;
  const Vec magic = Broadcast(12582912.0F);  // 1.5 * 2^23: rounds to integer
  const Vec shifted = x * 1.44269504088896341F + magic;
  const Vec n = shifted - magic;
  Vec r = x - n * 0.693359375F;
  r = r - n * -2.12194440e-4F;
  Vec p = Broadcast(1.9875691500e-4F);
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const IntVec exponent = (__builtin_convertvector(n, IntVec) + 127) << 23;
  return p * reinterpret_cast<Vec>(exponent);
}

}  // namespace
}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_LOOPS_VECTOR_H_
