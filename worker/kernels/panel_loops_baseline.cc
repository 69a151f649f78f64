// Products for any CPU of the target; compile options are in CMakeLists.txt.
#include "worker/kernels/loops/panels.h"
#include "worker/kernels/quantizer_levels.h"

namespace qsweep::kernels {

template <>
PanelLoops<float> PanelLoopsBaseline() {
  return MakePanelLoops<float>();
}
template <>
PanelLoops<double> PanelLoopsBaseline() {
  return MakePanelLoops<double>();
}

}  // namespace qsweep::kernels
