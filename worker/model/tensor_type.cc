#include "worker/model/tensor_type.h"

#include <iterator>

#include "absl/strings/str_cat.h"

namespace qsweep {
namespace {

constexpr TensorTypeInfo kInfos[] = {
    {"F32", 1, 4},      {"F16", 1, 2},      {"BF16", 1, 2},
    {"Q4_0", 32, 18},   {"Q4_1", 32, 20},   {"Q5_0", 32, 22},
    {"Q5_1", 32, 24},   {"Q8_0", 32, 34},   {"Q4_K", 256, 144},
    {"Q5_K", 256, 176}, {"Q6_K", 256, 210}, {"I32", 1, 4},
};

// ggml's numbers; a gap is a type that ggml has removed.
constexpr const char* kGgufNames[] = {
    "F32",   "F16",   "Q4_0",    "Q4_1",   "Q4_2",    "Q4_3",  "Q5_0",
    "Q5_1",  "Q8_0",  "Q8_1",    "Q2_K",   "Q3_K",    "Q4_K",  "Q5_K",
    "Q6_K",  "Q8_K",  "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL",
    "IQ3_S", "IQ2_S", "IQ4_XS",  "I8",     "I16",     "I32",   "I64",
    "F64",   "IQ1_M", "BF16",
};

}  // namespace

const TensorTypeInfo& InfoOf(TensorType type) {
  return kInfos[static_cast<size_t>(type)];
}

std::string GgufTypeName(uint32_t number) {
  if (number < std::size(kGgufNames)) {
    return kGgufNames[number];
  }
  return absl::StrCat("type ", number);
}

std::optional<TensorType> TensorTypeOfGguf(uint32_t number) {
  const std::string name = GgufTypeName(number);
  for (size_t i = 0; i < static_cast<size_t>(TensorType::kI32); ++i) {
    if (name == kInfos[i].name) {
      return static_cast<TensorType>(i);
    }
  }
  return std::nullopt;
}

std::optional<TensorType> TensorTypeOfSafetensors(absl::string_view dtype) {
  for (const TensorType type : {TensorType::kF32, TensorType::kF16,
                                TensorType::kBf16, TensorType::kI32}) {
    if (dtype == InfoOf(type).name) {
      return type;
    }
  }
  return std::nullopt;
}

int64_t StoredTensor::num_elements() const {
  int64_t count = 1;
  for (const int64_t size : shape) {
    count *= size;
  }
  return count;
}

}  // namespace qsweep
