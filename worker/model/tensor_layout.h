#ifndef QSWEEP_WORKER_MODEL_TENSOR_LAYOUT_H_
#define QSWEEP_WORKER_MODEL_TENSOR_LAYOUT_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "worker/model/tensor_type.h"

namespace qsweep {

// Where a tensor lies in a file's data section.
struct TensorExtent {
  std::string name;
  uint64_t offset = 0;  // bytes
  uint64_t size = 0;    // bytes
};

// Bytes a tensor takes. Nothing: a row is no whole number of blocks, or the
// size does not fit 63 bits. shape: no negative size.
std::optional<uint64_t> StoredBytes(std::span<const int64_t> shape,
                                    TensorType type);

// That every tensor lies inside data_size bytes and none overlaps another.
// DATA_LOSS QS3002 (outside), QS3003 (overlap); the text names the tensors.
absl::Status CheckExtents(std::vector<TensorExtent> extents, uint64_t data_size,
                          const std::string& file);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_TENSOR_LAYOUT_H_
