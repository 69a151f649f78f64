#ifndef QSWEEP_WORKER_ENGINE_BLOCK_PLACES_H_
#define QSWEEP_WORKER_ENGINE_BLOCK_PLACES_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/job/model_description.h"

namespace qsweep {

// A tensor as the matrix that quantizers take: a vector is one row.
inline int64_t RowsOf(const TensorDescription& tensor) {
  return tensor.shape.size() < 2 ? 1 : tensor.shape[0];
}
inline int64_t ColumnsOf(const TensorDescription& tensor) {
  return tensor.num_elements() / RowsOf(tensor);
}

// Where a tensor of a Llama block goes, on the CPU and on a GPU: Block is
// BlockWeights or DeviceBlock.
template <typename Block>
struct BlockPlace {
  decltype(Block::qkv)* matrix = nullptr;
  decltype(Block::norm1)* gains = nullptr;
  size_t part = 0;  // of qkv: queries, keys, values
};

// UNIMPLEMENTED QS3004: a Llama block has no such tensor.
template <typename Block>
absl::StatusOr<BlockPlace<Block>> PlaceOf(const TensorDescription& tensor,
                                          Block& block) {
  using Place = BlockPlace<Block>;
  if (!tensor.bias) {
    switch (tensor.component) {
      case Component::kQ:
        return Place{.matrix = &block.qkv, .part = 0};
      case Component::kK:
        return Place{.matrix = &block.qkv, .part = 1};
      case Component::kV:
        return Place{.matrix = &block.qkv, .part = 2};
      case Component::kO:
        return Place{.matrix = &block.o};
      case Component::kGate:
        return Place{.matrix = &block.gate};
      case Component::kUp:
        return Place{.matrix = &block.up};
      case Component::kDown:
        return Place{.matrix = &block.down};
      case Component::kNorm1:
        return Place{.gains = &block.norm1};
      case Component::kNorm2:
        return Place{.gains = &block.norm2};
      default:
        break;
    }
  }
  return MakeError(
      kUnsupportedArchitecture,
      absl::StrCat("A Llama block has no tensor '", tensor.name, "'."));
}

// How many rows each part of qkv has.
using QkvRows = std::array<int64_t, 3>;

inline int64_t FirstRowOf(size_t part, const QkvRows& rows) {
  int64_t first = 0;
  for (size_t before = 0; before < part; ++before) {
    first += rows[before];
  }
  return first;
}

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_BLOCK_PLACES_H_
