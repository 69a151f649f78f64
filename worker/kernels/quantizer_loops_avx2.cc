// The loops for CPUs with AVX2 and FMA; compile options are in CMakeLists.txt.
#include "worker/kernels/loops/columns.h"
#include "worker/kernels/loops/nf4.h"
#include "worker/kernels/loops/rtn.h"
#include "worker/kernels/quantizer_levels.h"

namespace qsweep::kernels {

const QuantizerLoops& QuantizerLoopsAvx2() {
  static const QuantizerLoops kLoops = {
      .name = "avx2",
      .fused = true,
      .fp32 = PanelLoopsAvx2<float>(),
      .fp64 = PanelLoopsAvx2<double>(),
      .round_columns = RoundColumns,
      .rtn = QuantizeAll<Fp32>,
      .rtn_half = QuantizeAll<Fp16>,
      .rtn_range = RtnRange,
      .rtn_in_range = RtnInRange,
      .nf4 = Nf4,
      .nf4_scales = Nf4Scales,
  };
  return kLoops;
}

}  // namespace qsweep::kernels
