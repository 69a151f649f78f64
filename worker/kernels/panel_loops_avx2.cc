// Products for CPUs with AVX2 and FMA; compile options are in CMakeLists.txt.
#include "worker/kernels/loops/panels.h"
#include "worker/kernels/quantizer_levels.h"

namespace qsweep::kernels {

template <>
PanelLoops<float> PanelLoopsAvx2() {
  return MakePanelLoops<float>();
}
template <>
PanelLoops<double> PanelLoopsAvx2() {
  return MakePanelLoops<double>();
}

}  // namespace qsweep::kernels
