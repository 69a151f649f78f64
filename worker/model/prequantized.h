#ifndef QSWEEP_WORKER_MODEL_PREQUANTIZED_H_
#define QSWEEP_WORKER_MODEL_PREQUANTIZED_H_

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/statusor.h"

#include "common/base/stopped.h"
#include "worker/model/tensor_type.h"

namespace qsweep {

// A matrix that is stored as codes of so many bits.
struct PackedWeights {
  int64_t rows = 0;
  int64_t columns = 0;
  int bits = 4;
};

// Says whether weights have been through a quantizer before: "prequantized"
// when at least 90% of the blocks of 32 consecutive weights hold at most 16
// distinct values; "prequantized8" when at least 90% are stored in at most 8
// bits, or lie in rows of at least 512 weights with at most 256 distinct
// values; else "". (32 weights always have at most 256 values, so 8 bits needs
// the whole row; what is left of a row after its last whole block is not
// counted.) tensors: the block linears, 2-D; packed: those of packed files,
// which hold as many values as their bits say. Reads until the answer is
// certain: about a tenth of an ordinary model, nine tenths of a quantized one,
// nothing of one stored in 4-bit types. `stopped` is asked before each row.
// CANCELLED.
absl::StatusOr<std::string> DetectPrequantized(
    std::span<const StoredTensor> tensors,
    std::span<const PackedWeights> packed = {}, const Stopped& stopped = {});

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_PREQUANTIZED_H_
