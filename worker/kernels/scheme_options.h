#ifndef QSWEEP_WORKER_KERNELS_SCHEME_OPTIONS_H_
#define QSWEEP_WORKER_KERNELS_SCHEME_OPTIONS_H_

#include <cstdint>

#include "absl/status/status.h"

#include "common/job/quantizer.h"
#include "worker/kernels/gptq_options.h"
#include "worker/kernels/hqq.h"
#include "worker/kernels/nf4.h"
#include "worker/kernels/rtn.h"

namespace qsweep::kernels {

// What a scheme says to the kernels, on the CPU and on a device alike.

// INVALID_ARGUMENT: QS1020 a method that needs calibration, QS1042 bits, QS1043
// group (the AWQ grid's must divide cols, HQQ's rows * cols), QS1004 an
// asymmetric absmax grid, or a replicate that CheckReplicate refuses.
absl::Status CheckPlainScheme(const Scheme& scheme, int64_t rows, int64_t cols);

// Of a scheme that CheckPlainScheme accepts.
RtnShape RtnShapeOf(const Scheme& scheme, int64_t rows, int64_t cols);
RtnOptions RtnOptionsOf(const Scheme& scheme);
Nf4Options Nf4OptionsOf(const Scheme& scheme);
HqqOptions HqqOptionsOf(const Scheme& scheme);

// Of a gptq scheme.
GptqOptions GptqOptionsOf(const Scheme& scheme);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_SCHEME_OPTIONS_H_
