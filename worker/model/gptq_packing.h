#ifndef QSWEEP_WORKER_MODEL_GPTQ_PACKING_H_
#define QSWEEP_WORKER_MODEL_GPTQ_PACKING_H_

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/base/stopped.h"
#include "worker/model/gptq_config.h"
#include "worker/model/tensor_type.h"

namespace qsweep {

// How GPTQ checkpoints pack the weight matrix of a linear module, [rows,
// columns] = [outputs, inputs]. Codes are a stream of bits along the inputs,
// lowest first, in little-endian words of 32; for 4 bits:
//
//   bit             31..28 27..24 23..20 19..16 15..12 11..8  7..4   3..0
//   qweight[k][row]  8k+7   8k+6   8k+5   8k+4   8k+3  8k+2   8k+1   8k
//
//   qweight  int32  [columns * bits / 32, rows]
//   qzeros   int32  [groups, rows * bits / 32]   packed along the rows
//   scales   fp16   [groups, rows]
//   g_idx    int32  [columns]                    the group of a column
//
// weight = scales[g][row] * (code - zero[g][row]), g = g_idx[column].

// The tensors of one module; g_idx may be nullptr: column / group_size.
struct GptqTensors {
  const StoredTensor* qweight = nullptr;
  const StoredTensor* qzeros = nullptr;
  const StoredTensor* scales = nullptr;
  const StoredTensor* g_idx = nullptr;
};

// A packed matrix that was checked. Borrows what the tensors borrow.
struct GptqMatrix {
  GptqTensors tensors;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t groups = 0;
  GptqModule module;
  bool zeros_minus_one = false;

  // Of codes, scales, zeros and groups, per weight.
  double stored_bits() const;
  // Zero points of 0 that v1 stores as all ones, which some programs wrote over
  // their neighbours.
  int64_t num_wrapped_zeros() const;
  // Writes the weights, row-major; exact products in fp32. out: rows * columns.
  // `stopped` is asked before each 32 columns. CANCELLED.
  absl::Status Unpack(std::span<float> out, const Stopped& stopped = {}) const;
};

// Checks every size, type and group number before anything is used. module and
// file: for messages. DATA_LOSS QS3012 a shape that does not fit, QS3003 a
// group that there is not, QS3011 zero points that are not those of a symmetric
// quantizer; UNIMPLEMENTED QS3009 a type.
absl::StatusOr<GptqMatrix> CheckGptqMatrix(const GptqTensors& tensors,
                                           int64_t rows, int64_t columns,
                                           const GptqModule& module,
                                           bool zeros_minus_one,
                                           const std::string& name,
                                           const std::string& file);

// A matrix as codes, to be packed. Borrowed.
struct GptqCodes {
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t groups = 0;
  int bits = 4;                              // 2, 3, 4, 8
  std::span<const uint8_t> codes;            // [rows, columns]
  std::span<const uint8_t> zeros;            // [rows, groups]
  std::span<const float> scales;             // [rows, groups], values of fp16
  std::span<const int32_t> group_of_column;  // [columns]
};

// Whether rows and columns fill whole words.
bool CanPackGptq(int64_t rows, int64_t columns, int bits);

// The bytes of the four tensors, zero points as they are (gptq_v2).
struct GptqBytes {
  std::string qweight;
  std::string qzeros;
  std::string scales;
  std::string g_idx;
};
GptqBytes PackGptq(const GptqCodes& codes);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_GPTQ_PACKING_H_
