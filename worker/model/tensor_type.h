#ifndef QSWEEP_WORKER_MODEL_TENSOR_TYPE_H_
#define QSWEEP_WORKER_MODEL_TENSOR_TYPE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace qsweep {

// How a tensor's elements are stored in a file. The Q types are ggml's blocks.
enum class TensorType {
  kF32,
  kF16,
  kBf16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ4K,
  kQ5K,
  kQ6K,
  kI32,  // words of packed weights; safetensors only
};

struct TensorTypeInfo {
  const char* name;    // as GGUF names it: "Q4_1"
  int block_elements;  // consecutive elements stored together; 1 for floats
  int block_bytes;

  double bits_per_element() const { return 8.0 * block_bytes / block_elements; }
};
const TensorTypeInfo& InfoOf(TensorType type);

// By the number in a GGUF file. Nothing: not supported, as integers are not.
std::optional<TensorType> TensorTypeOfGguf(uint32_t number);
// "Q2_K" for a GGUF type number, or "type 77".
std::string GgufTypeName(uint32_t number);
// By a safetensors dtype: "F32", "F16", "BF16", "I32". Nothing: not supported.
std::optional<TensorType> TensorTypeOfSafetensors(absl::string_view dtype);

// A tensor as a file holds it. data borrows the file's bytes.
struct StoredTensor {
  std::string name;  // the file's own name for it
  TensorType type = TensorType::kF32;
  std::vector<int64_t> shape;  // row-major, outermost first
  std::span<const uint8_t> data;

  int64_t num_elements() const;
};

// Writes the fp32 values that bytes stand for, in ggml's order of operations.
// Exact for the float types, rounded for integers. bytes: whole blocks, enough
// for out; out.size() is a multiple of block_elements.
void Dequantize(TensorType type, std::span<const uint8_t> bytes,
                std::span<float> out);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_TENSOR_TYPE_H_
