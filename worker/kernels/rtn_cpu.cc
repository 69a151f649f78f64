#include "worker/kernels/loops/rtn.h"
#include "worker/kernels/rtn.h"
#include "worker/kernels/rtn_half.h"

namespace qsweep::kernels {

void RtnCpu(const float* weights, RtnShape shape, RtnOptions options,
            float* out, float* scales, int16_t* codes) {
  if (options.half_arithmetic) {
    RtnCpuHalf(weights, shape, options, out, scales, codes);
  } else {
    QuantizeAll<Fp32>(weights, shape, options, out, scales, codes);
  }
}

}  // namespace qsweep::kernels
