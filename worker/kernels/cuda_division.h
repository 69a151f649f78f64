#ifndef QSWEEP_WORKER_KERNELS_CUDA_DIVISION_H_
#define QSWEEP_WORKER_KERNELS_CUDA_DIVISION_H_

#include "worker/kernels/launch.h"

// For .cu files only.
namespace qsweep::kernels {

// x / by, to the last bit what Divide gives, in a quarter of its instructions,
// for a divisor that is used often: reciprocal is Divide(1, by). The method is
// Markstein's. by: positive, 2^-60 to 2^15; x: 0, or of a magnitude from 2^-90
// to 2^60, so that no operation leaves the normal numbers.
QSWEEP_DEVICE float QuotientBy(float by, float reciprocal, float x) {
  const float guess = Multiply(x, reciprocal);
  const float rest = MultiplyAdd(-by, guess, x);
  return MultiplyAdd(rest, reciprocal, guess);
}

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_CUDA_DIVISION_H_
