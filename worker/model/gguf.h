#ifndef QSWEEP_WORKER_MODEL_GGUF_H_
#define QSWEEP_WORKER_MODEL_GGUF_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"

#include "worker/model/tensor_type.h"

namespace qsweep {

// A metadata value. Unsigned and signed integers of all widths become 64 bits,
// floats double. monostate: an array of arrays, which nothing here needs.
using GgufValue = std::variant<std::monostate, uint64_t, int64_t, double, bool,
                               std::string, std::vector<std::string>,
                               std::vector<int64_t>, std::vector<double>>;

// The header of a GGUF file (version 2 or 3, little-endian). Tensors borrow the
// bytes it was parsed from.
struct Gguf {
  std::map<std::string, GgufValue> metadata;
  std::vector<StoredTensor> tensors;  // in file order
};

// Checks everything before anything is used: each tensor lies inside the file,
// has whole blocks and overlaps no other; names and keys are unique. file: for
// messages. DATA_LOSS QS3002 (shorter than the header says), QS3003 (the
// header contradicts itself); UNIMPLEMENTED QS3009 (tensor type).
absl::StatusOr<Gguf> ParseGguf(std::span<const uint8_t> bytes,
                               const std::string& file);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_GGUF_H_
