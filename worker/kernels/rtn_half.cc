#include "worker/kernels/rtn_half.h"

#include "worker/kernels/loops/rtn.h"

namespace qsweep::kernels {

void RtnCpuHalf(const float* weights, RtnShape shape, RtnOptions options,
                float* out, float* scales, int16_t* codes) {
  QuantizeAll<Fp16>(weights, shape, options, out, scales, codes);
}

float RoundToHalf(float value) { return NearestHalf(value); }

}  // namespace qsweep::kernels
