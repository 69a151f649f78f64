#include "worker/model/prequantized.h"

#include <array>
#include <bit>
#include <cstdint>
#include <vector>

namespace qsweep {
namespace {

constexpr int64_t kBlock = 32;
constexpr int64_t kMinLongRow = 512;

// What the stored type alone says of its blocks of 32.
bool HasAtMost16Values(TensorType type) {
  return type == TensorType::kQ4_0 || type == TensorType::kQ4_1 ||
         type == TensorType::kQ4K;
}
bool IsFloat(TensorType type) {
  return type == TensorType::kF32 || type == TensorType::kF16 ||
         type == TensorType::kBf16;
}

// Whether the values are at most `limit` different ones; 0 and -0 are the same.
// scratch: limit + 1 values.
bool AtMost(std::span<const float> values, size_t limit,
            std::vector<float>& scratch) {
  size_t distinct = 0;
  for (const float value : values) {
    bool seen = false;
    for (size_t i = 0; i < distinct; ++i) {
      seen |= scratch[i] == value;
    }
    if (!seen) {
      if (distinct == limit) {
        return false;
      }
      scratch[distinct++] = value;
    }
  }
  return true;
}

// Sees the values of a row one after another until there are too many different
// ones, which ordinary weights have after some hundred.
class DistinctValues {
 public:
  static constexpr size_t kLimit = 256;

  bool AtMostLimit(std::span<const float> row) {
    slots_.fill(kEmpty);
    size_t distinct = 0;
    for (const float value : row) {
      const uint32_t bits = std::bit_cast<uint32_t>(value + 0.0F);  // -0 is 0
      size_t slot = bits * 0x9e3779b1U >> (32 - kSlotBits);
      while (slots_[slot] != kEmpty && slots_[slot] != bits) {
        slot = (slot + 1) % slots_.size();
      }
      if (slots_[slot] == kEmpty) {
        if (distinct++ == kLimit) {
          return false;
        }
        slots_[slot] = bits;
      }
    }
    return true;
  }

 private:
  static constexpr int kSlotBits = 10;
  static constexpr uint32_t kEmpty = 0xffffffff;  // a NaN: no weight
  std::array<uint32_t, size_t{1} << kSlotBits> slots_ = {};
};

bool RowHasAtMost256(std::span<const float> row, DistinctValues& distinct) {
  return static_cast<int64_t>(row.size()) >= kMinLongRow &&
         distinct.AtMostLimit(row);
}

// Counts blocks for one of the two questions until its answer is certain.
class Share {
 public:
  explicit Share(int64_t total) : total_(total) {}
  void Add(bool yes, int64_t blocks) { (yes ? yes_ : no_) += blocks; }
  bool cannot_reach() const { return no_ * 10 > total_; }
  bool reached() const { return total_ > 0 && yes_ * 10 >= total_ * 9; }

 private:
  const int64_t total_;
  int64_t yes_ = 0;
  int64_t no_ = 0;
};

void CountRow(std::span<const float> row, bool is_float, Share& four_bits,
              Share& eight_bits, std::vector<float>& scratch,
              DistinctValues& distinct) {
  const int64_t blocks = static_cast<int64_t>(row.size()) / kBlock;
  if (!four_bits.cannot_reach()) {
    scratch.resize(17);
    for (int64_t i = 0; i < blocks; ++i) {
      const std::span<const float> block =
          row.subspan(static_cast<size_t>(i * kBlock), kBlock);
      four_bits.Add(AtMost(block, 16, scratch), 1);
    }
  }
  if (!is_float) {
    eight_bits.Add(true, blocks);
  } else if (!eight_bits.cannot_reach()) {
    eight_bits.Add(RowHasAtMost256(row, distinct), blocks);
  }
}

}  // namespace

absl::StatusOr<std::string> DetectPrequantized(
    std::span<const StoredTensor> tensors,
    std::span<const PackedWeights> packed, const Stopped& stopped) {
  int64_t total = 0;
  for (const PackedWeights& weights : packed) {
    total += weights.rows * (weights.columns / kBlock);
  }
  for (const StoredTensor& tensor : tensors) {
    total += tensor.shape[0] * (tensor.shape[1] / kBlock);
  }
  Share four_bits(total);
  Share eight_bits(total);
  for (const PackedWeights& weights : packed) {
    const int64_t blocks = weights.rows * (weights.columns / kBlock);
    four_bits.Add(weights.bits <= 4, blocks);
    eight_bits.Add(weights.bits <= 8, blocks);
  }
  std::vector<float> row;
  std::vector<float> scratch;
  DistinctValues distinct;
  for (const StoredTensor& tensor : tensors) {
    const int64_t blocks = tensor.shape[1] / kBlock;
    if (HasAtMost16Values(tensor.type)) {
      four_bits.Add(true, tensor.shape[0] * blocks);
      eight_bits.Add(true, tensor.shape[0] * blocks);
      continue;
    }
    const bool is_float = IsFloat(tensor.type);
    const size_t row_bytes =
        tensor.data.size() / static_cast<size_t>(tensor.shape[0]);
    row.resize(static_cast<size_t>(tensor.shape[1]));
    for (int64_t i = 0; i < tensor.shape[0]; ++i) {
      if (four_bits.reached()) {
        return "prequantized";  // whatever the rest holds
      }
      if (four_bits.cannot_reach() && eight_bits.reached()) {
        return "prequantized8";
      }
      if (IsStopped(stopped)) {
        return absl::CancelledError("told to stop looking at the weights");
      }
      if (four_bits.cannot_reach() &&
          (!is_float || eight_bits.cannot_reach())) {
        eight_bits.Add(!is_float, (tensor.shape[0] - i) * blocks);
        break;
      }
      Dequantize(
          tensor.type,
          tensor.data.subspan(static_cast<size_t>(i) * row_bytes, row_bytes),
          row);
      CountRow(row, is_float, four_bits, eight_bits, scratch, distinct);
    }
  }
  return four_bits.reached()    ? "prequantized"
         : eight_bits.reached() ? "prequantized8"
                                : "";
}

}  // namespace qsweep
