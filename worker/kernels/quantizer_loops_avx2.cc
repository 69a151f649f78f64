// The loops for CPUs with AVX2 and FMA; compile options are in CMakeLists.txt.
#include "worker/kernels/loops/columns.h"
#include "worker/kernels/quantizer_levels.h"

namespace qsweep::kernels {

const QuantizerLoops& QuantizerLoopsAvx2() {
  static const QuantizerLoops kLoops = {
      .name = "avx2",
      .fp32 = PanelLoopsAvx2<float>(),
      .fp64 = PanelLoopsAvx2<double>(),
      .round_columns = RoundColumns,
  };
  return kLoops;
}

}  // namespace qsweep::kernels
