#include "worker/kernels/loops/rtn.h"
#include "worker/kernels/quantizer_loops.h"
#include "worker/kernels/rtn.h"

namespace qsweep::kernels {

void RtnCpu(const float* weights, RtnShape shape, RtnOptions options,
            float* out, float* scales, int16_t* codes) {
  const QuantizerLoops& loops = BestQuantizerLoops();
  (options.half_arithmetic ? loops.rtn_half : loops.rtn)(
      weights, shape, options, out, scales, codes);
}

float RoundToHalf(float value) { return NearestHalf(value); }

}  // namespace qsweep::kernels
