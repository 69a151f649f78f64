#include "worker/model/tensor_layout.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"

namespace qsweep {

std::optional<uint64_t> StoredBytes(std::span<const int64_t> shape,
                                    TensorType type) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  const TensorTypeInfo& info = InfoOf(type);
  const int64_t row = shape.empty() ? 1 : shape.back();
  if (row % info.block_elements != 0) {
    return std::nullopt;
  }
  int64_t bytes = info.block_bytes;
  if (row / info.block_elements > kMax / bytes) {
    return std::nullopt;
  }
  bytes *= row / info.block_elements;
  for (size_t i = 0; i + 1 < shape.size(); ++i) {
    if (shape[i] != 0 && bytes > kMax / shape[i]) {
      return std::nullopt;
    }
    bytes *= shape[i];
  }
  return static_cast<uint64_t>(bytes);
}

absl::Status CheckExtents(std::vector<TensorExtent> extents, uint64_t data_size,
                          const std::string& file) {
  for (const TensorExtent& extent : extents) {
    if (extent.offset > data_size || extent.size > data_size - extent.offset) {
      return MakeError(
          kTruncatedModel,
          absl::StrCat("tensor '", extent.name, "' takes ", extent.size,
                       " bytes at ", extent.offset, ", but only ", data_size,
                       " bytes of data are there"),
          file, "Download the file again.");
    }
  }
  std::sort(extents.begin(), extents.end(),
            [](const TensorExtent& a, const TensorExtent& b) {
              return std::pair(a.offset, a.size) < std::pair(b.offset, b.size);
            });
  for (size_t i = 1; i < extents.size(); ++i) {
    const TensorExtent& before = extents[i - 1];
    if (extents[i].offset < before.offset + before.size) {
      return MakeError(kCorruptModel,
                       absl::StrCat("tensors '", before.name, "' and '",
                                    extents[i].name, "' overlap"),
                       file, "Download or convert the file again.");
    }
  }
  return absl::OkStatus();
}

}  // namespace qsweep
