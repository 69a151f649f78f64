#ifndef QSWEEP_WORKER_KERNELS_QUANTIZE_H_
#define QSWEEP_WORKER_KERNELS_QUANTIZE_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"

#include "common/job/quantizer.h"

namespace qsweep::kernels {

// Quantizes a weight matrix and writes back the values its codes stand for.
// weights, out: [rows, cols] row-major, groups along cols (the input
// dimension); may be one buffer. A vector is one row. Finite values in, finite
// values out. Any thread; one call uses one. INVALID_ARGUMENT: QS1020 a method
// this build does not have, QS1042 bits, QS1043 group (the AWQ grid's must
// divide cols, HQQ's rows * cols), QS1004 an asymmetric absmax grid. Nothing is
// written after an error.
absl::Status FakeQuantize(const Scheme& scheme, std::span<const float> weights,
                          int64_t rows, int64_t cols, std::span<float> out);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_QUANTIZE_H_
