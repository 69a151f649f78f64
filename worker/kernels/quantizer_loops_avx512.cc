// The loops for CPUs with AVX-512: the products and the columns of GPTQ. What
// waits for memory is that of AVX2. Compile options are in CMakeLists.txt.
#include "worker/kernels/loops/columns.h"
#include "worker/kernels/quantizer_levels.h"

namespace qsweep::kernels {

const QuantizerLoops& QuantizerLoopsAvx512() {
  static const QuantizerLoops kLoops = [] {
    QuantizerLoops loops = QuantizerLoopsAvx2();
    loops.name = "avx512";
    loops.fp32 = PanelLoopsAvx512<float>();
    loops.fp64 = PanelLoopsAvx512<double>();
    loops.round_columns = RoundColumns;
    return loops;
  }();
  return kLoops;
}

}  // namespace qsweep::kernels
