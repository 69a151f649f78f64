#ifndef QSWEEP_WORKER_KERNELS_RTN_HALF_H_
#define QSWEEP_WORKER_KERNELS_RTN_HALF_H_

#include <cstdint>

#include "worker/kernels/rtn.h"

namespace qsweep::kernels {

// RtnCpu with half_arithmetic.
void RtnCpuHalf(const float* weights, RtnShape shape, RtnOptions options,
                float* out, float* scales, int16_t* codes);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_RTN_HALF_H_
