#ifndef QSWEEP_WORKER_KERNELS_ROW_KERNELS_LEVELS_H_
#define QSWEEP_WORKER_KERNELS_ROW_KERNELS_LEVELS_H_

#include "worker/kernels/row_kernels.h"

namespace qsweep::kernels {

// The same loops, compiled for one kind of CPU each. Calling the functions of
// one that the CPU lacks ends the process.
const RowKernels& RowKernelsBaseline();
const RowKernels& RowKernelsAvx2();

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_ROW_KERNELS_LEVELS_H_
