// Products for CPUs with AVX-512; compile options are in CMakeLists.txt.
#include "worker/kernels/loops/panels.h"
#include "worker/kernels/quantizer_levels.h"

namespace qsweep::kernels {

template <>
PanelLoops<float> PanelLoopsAvx512() {
  return MakePanelLoops<float>();
}
template <>
PanelLoops<double> PanelLoopsAvx512() {
  return MakePanelLoops<double>();
}

}  // namespace qsweep::kernels
