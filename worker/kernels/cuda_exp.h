#ifndef QSWEEP_WORKER_KERNELS_CUDA_EXP_H_
#define QSWEEP_WORKER_KERNELS_CUDA_EXP_H_

#include <cstdint>

#include "worker/kernels/launch.h"

// Exponentials with the same bits on every device, for .cu files only.
namespace qsweep::kernels {

// exp(x) for x <= 0 within 2 units in the last place; below -87 it stays at
// exp(-87), which is nothing beside the 1 of the maximum. NaN stays NaN.
// Cody-Waite reduction and the polynomial of Cephes' expf.
QSWEEP_DEVICE float ExpOf(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: rounds to integer
  x = x < -87.0f ? -87.0f : x;
  const float shifted = MultiplyAdd(x, 1.44269504088896341f, kMagic);
  const float n = Add(shifted, -kMagic);
  const float high = MultiplyAdd(n, -0.693359375f, x);
  const float r = MultiplyAdd(n, 2.12194440e-4f, high);
  float p = 1.9875691500e-4f;
  p = MultiplyAdd(p, r, 1.3981999507e-3f);
  p = MultiplyAdd(p, r, 8.3334519073e-3f);
  p = MultiplyAdd(p, r, 4.1665795894e-2f);
  p = MultiplyAdd(p, r, 1.6666665459e-1f);
  p = MultiplyAdd(p, r, 5.0000001201e-1f);
  p = Add(MultiplyAdd(p, Multiply(r, r), r), 1.0f);
  // The integer in the low bits of `shifted`, as an exponent.
  const uint32_t exponent = BitsOf(shifted) - BitsOf(kMagic) + 127;
  return Multiply(p, FloatOf(exponent << 23));
}

// exp(x) for x <= 0 within 4e-16 of it; 0 below -700. NaN stays NaN.
QSWEEP_DEVICE double ExpOf(double x) {
  constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52
  if (x < -700.0) {
    return 0;
  }
  const double shifted = MultiplyAdd(x, 1.4426950408889634074, kMagic);
  const double n = Add(shifted, -kMagic);
  const double high = MultiplyAdd(n, -0.693147180369123816490, x);
  const double r = MultiplyAdd(n, -1.90821492927058770002e-10, high);
  // Taylor: r is at most ln 2 / 2, and r^14 / 14! is 4e-18.
  constexpr double kInverseFactorials[] = {1.0 / 479001600,
                                           1.0 / 39916800,
                                           1.0 / 3628800,
                                           1.0 / 362880,
                                           1.0 / 40320,
                                           1.0 / 5040,
                                           1.0 / 720,
                                           1.0 / 120,
                                           1.0 / 24,
                                           1.0 / 6,
                                           0.5,
                                           1.0,
                                           1.0};
  double p = 1.0 / 6227020800.0;
  for (const double inverse : kInverseFactorials) {
    p = MultiplyAdd(p, r, inverse);
  }
  const uint64_t exponent = BitsOf(shifted) - BitsOf(kMagic) + 1023;
  return Multiply(p, DoubleOf(exponent << 52));
}

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_CUDA_EXP_H_
