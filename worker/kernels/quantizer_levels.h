#ifndef QSWEEP_WORKER_KERNELS_QUANTIZER_LEVELS_H_
#define QSWEEP_WORKER_KERNELS_QUANTIZER_LEVELS_H_

#include "worker/kernels/quantizer_loops.h"

namespace qsweep::kernels {

// The same loops, compiled for one kind of CPU each. Calling the functions of
// one that the CPU lacks ends the process.
const QuantizerLoops& QuantizerLoopsBaseline();
const QuantizerLoops& QuantizerLoopsAvx2();
const QuantizerLoops& QuantizerLoopsAvx512();

// Those of their parts that are compiled with fused products.
template <typename T>
PanelLoops<T> PanelLoopsBaseline();
template <typename T>
PanelLoops<T> PanelLoopsAvx2();
template <typename T>
PanelLoops<T> PanelLoopsAvx512();

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_QUANTIZER_LEVELS_H_
