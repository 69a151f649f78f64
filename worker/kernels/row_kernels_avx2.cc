// The loops for CPUs with AVX2 and FMA; compile options are in CMakeLists.txt.
#include "worker/kernels/loops/block.h"
#include "worker/kernels/loops/head.h"
#include "worker/kernels/row_kernels_levels.h"

namespace qsweep::kernels {

const RowKernels& RowKernelsAvx2() {
  static constexpr RowKernels kKernels = {
      .name = "avx2",
      .rms_norm = RmsNorm,
      .rotate = Rotate,
      .silu_multiply = SiluMultiply,
      .add = Add,
      .round_to_bf16 = RoundToBf16,
      .to_bf16 = ToBf16,
      .add_baseline = AddBaseline,
      .add_configuration = AddConfiguration,
  };
  return kKernels;
}

}  // namespace qsweep::kernels
