#ifndef QSWEEP_WORKER_KERNELS_QUANTIZE_H_
#define QSWEEP_WORKER_KERNELS_QUANTIZE_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/stopped.h"
#include "common/job/quantizer.h"
#include "worker/kernels/awq.h"
#include "worker/kernels/coded_tensor.h"
#include "worker/kernels/gptq.h"
#include "worker/kernels/parallel_for.h"

namespace qsweep::kernels {

// Quantizes a weight matrix and writes back the values its codes stand for.
// weights, out: [rows, cols] row-major, groups along cols (the input
// dimension); may be one buffer. A vector is one row. Finite values in, finite
// values out. The bits do not depend on `parallel`. INVALID_ARGUMENT: QS1020 a
// method this build does not have or that needs calibration, QS1042 bits,
// QS1043 group (the AWQ grid's must divide cols, HQQ's rows * cols), QS1004 an
// asymmetric absmax grid, a replicate that CheckReplicate
// (common/job/replicate.h) refuses, or weights that are too large for fp16
// where the scheme asks for it. Nothing is written after one. CANCELLED:
// `parallel` was told to stop, and the rest is not written.
absl::Status FakeQuantize(const Scheme& scheme, std::span<const float> weights,
                          int64_t rows, int64_t cols, std::span<float> out,
                          const ParallelFor& parallel = InSequence);
// What it takes beside its arguments, of a scheme that it accepts.
int64_t FakeQuantizeBytes(const Scheme& scheme, int64_t rows, int64_t cols);

// The codes of an rtn scheme with arith=fp32, which decode to what FakeQuantize
// writes, but for the sign of a zero. Shapes and errors as there. Any thread;
// one call uses one.
absl::StatusOr<CodedTensor> QuantizeToCodes(const Scheme& scheme,
                                            std::span<const float> weights,
                                            int64_t rows, int64_t cols);
// What it takes beside its arguments and its result.
int64_t QuantizeToCodesBytes(const Scheme& scheme, int64_t rows, int64_t cols);
// What a CodedTensor of a scheme with groups of a row holds.
int64_t CodedBytes(const Scheme& scheme, int64_t rows, int64_t cols);

// The first step of a calibrated method: what the inputs of a matrix say.
// hessian: [columns, columns], symmetric, 2/N sum of x x^T over the inputs.
// Errors name `tensor`. FAILED_PRECONDITION QS5012: it is singular, or not
// finite. CANCELLED: `parallel` was told to stop.
absl::StatusOr<GptqFactor> FactorHessian(const Scheme& scheme,
                                         std::span<const float> hessian,
                                         int64_t columns,
                                         absl::string_view tensor,
                                         const ParallelFor& parallel);

// The second: codes of a matrix, memory for them first. Then rows first..last -
// 1, which may be done in any order, on several threads at once. weights: of
// those rows alone. coded: of StartCoded, with this scheme and factor.
inline constexpr int64_t kQuantizeRows = 64;  // at a time are fast
CodedTensor StartCoded(const Scheme& scheme, int64_t rows,
                       const GptqFactor& factor);
void QuantizeRows(const Scheme& scheme, const GptqFactor& factor,
                  std::span<const float> weights, int64_t first, int64_t last,
                  CodedTensor& coded);

// Rows of a whole matrix, kQuantizeRows at a time: part 0 to
// QuantizeParts(rows)
// - 1. weights: [coded.rows, coded.columns].
int64_t QuantizeParts(int64_t rows);
void QuantizePart(const Scheme& scheme, const GptqFactor& factor,
                  std::span<const float> weights, int64_t part,
                  CodedTensor& coded);

// AWQ's last step, of rows alone as above. column_scales: [columns]. grams: as
// AwqLimits takes them; empty: groups are not clipped. False: it was stopped.
CodedTensor StartAwq(const Scheme& scheme, int64_t rows,
                     std::span<const float> column_scales);
bool QuantizeAwqRows(const Scheme& scheme, std::span<const float> weights,
                     std::span<const float> grams, int64_t first, int64_t last,
                     CodedTensor& coded, const Stopped& stopped = {});

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_QUANTIZE_H_
