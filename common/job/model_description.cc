#include "common/job/model_description.h"

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"

namespace qsweep {
namespace {

// Far above any model there is; keeps hostile descriptions from costing much.
constexpr int kMostLayers = 10'000;
constexpr size_t kMostTensors = 1'000'000;

constexpr auto kComponentNames =
    std::to_array<std::pair<Component, const char*>>({
        {Component::kQ, "q"},
        {Component::kK, "k"},
        {Component::kV, "v"},
        {Component::kO, "o"},
        {Component::kQkv, "qkv"},
        {Component::kGate, "gate"},
        {Component::kUp, "up"},
        {Component::kDown, "down"},
        {Component::kNorm1, "norm1"},
        {Component::kNorm2, "norm2"},
        {Component::kQNorm, "q_norm"},
        {Component::kKNorm, "k_norm"},
        {Component::kEmbedToken, "embed.token"},
        {Component::kEmbedPosition, "embed.pos"},
        {Component::kHead, "head"},
        {Component::kFinalNorm, "norm.final"},
    });

bool IsOutsideBlocks(Component component) {
  return component == Component::kEmbedToken ||
         component == Component::kEmbedPosition ||
         component == Component::kHead || component == Component::kFinalNorm;
}

auto TensorOrder(const TensorDescription& tensor) {
  return std::tie(tensor.layer, tensor.component, tensor.bias, tensor.name);
}

// The element count, or nothing: a dimension below 1, or more than an int64.
std::optional<int64_t> CheckedElements(const std::vector<int64_t>& shape) {
  int64_t elements = 1;
  for (const int64_t size : shape) {
    if (size < 1 || elements > std::numeric_limits<int64_t>::max() / size) {
      return std::nullopt;
    }
    elements *= size;
  }
  return elements;
}

absl::Status ValidateTensor(const ModelDescription& model, size_t index) {
  const TensorDescription& tensor = model.tensors[index];
  const std::string field = absl::StrCat("tensors[", index, "]");
  if (tensor.name.empty()) {
    return MakeError(kBadValue, "a tensor has no name", field);
  }
  const bool outside = IsOutsideBlocks(tensor.component);
  if (outside ? tensor.layer != -1
              : tensor.layer < 0 || tensor.layer >= model.layers) {
    return MakeError(kBadValue,
                     absl::StrCat("tensor ", tensor.name, " is in layer ",
                                  tensor.layer, " of ", model.layers),
                     field);
  }
  if (tensor.shape.empty() || !CheckedElements(tensor.shape)) {
    return MakeError(kBadValue,
                     absl::StrCat("tensor ", tensor.name, " has a bad shape"),
                     field);
  }
  if (!(tensor.stored_bits > 0 && tensor.stored_bits <= 64)) {
    return MakeError(
        kBadValue,
        absl::StrCat("tensor ", tensor.name, " has impossible stored bits"),
        field);
  }
  if (index > 0 &&
      TensorOrder(model.tensors[index - 1]) >= TensorOrder(tensor)) {
    return MakeError(
        kBadValue,
        absl::StrCat("tensor ", tensor.name, " is given twice or out of order"),
        field);
  }
  return absl::OkStatus();
}

}  // namespace

absl::string_view ComponentName(Component component) {
  for (const auto& [value, name] : kComponentNames) {
    if (value == component) {
      return name;
    }
  }
  QSWEEP_CHECK(false);
}

std::optional<Component> ParseComponent(absl::string_view name) {
  for (const auto& [value, known] : kComponentNames) {
    if (name == known) {
      return value;
    }
  }
  return std::nullopt;
}

bool IsLinear(Component component) {
  return IsAttention(component) || IsMlp(component);
}

bool IsAttention(Component component) {
  return component == Component::kQ || component == Component::kK ||
         component == Component::kV || component == Component::kO ||
         component == Component::kQkv;
}

bool IsMlp(Component component) {
  return component == Component::kGate || component == Component::kUp ||
         component == Component::kDown;
}

bool IsNorm(Component component) {
  return component == Component::kNorm1 || component == Component::kNorm2 ||
         component == Component::kQNorm || component == Component::kKNorm ||
         component == Component::kFinalNorm;
}

int64_t TensorDescription::num_elements() const {
  int64_t elements = 1;
  for (const int64_t size : shape) {
    elements *= size;
  }
  return elements;
}

int64_t TensorDescription::stored_bytes() const {
  return static_cast<int64_t>(static_cast<double>(num_elements()) *
                              stored_bits / 8);
}

int64_t ModelDescription::stored_bytes() const {
  int64_t bytes = 0;
  for (const TensorDescription& tensor : tensors) {
    bytes += tensor.stored_bytes();
  }
  return bytes;
}

int64_t ModelDescription::num_parameters() const {
  int64_t parameters = 0;
  for (const TensorDescription& tensor : tensors) {
    parameters += tensor.num_elements();
  }
  return parameters;
}

void SortTensors(ModelDescription& model) {
  std::sort(model.tensors.begin(), model.tensors.end(),
            [](const TensorDescription& a, const TensorDescription& b) {
              return TensorOrder(a) < TensorOrder(b);
            });
}

absl::Status ValidateModelDescription(const ModelDescription& model) {
  if (model.digest.empty()) {
    return MakeError(kBadValue, "the model has no digest", "digest");
  }
  if (model.tokenizer_digest.empty()) {
    return MakeError(kBadValue, "the model's tokenizer has no digest",
                     "tokenizer_digest");
  }
  if (model.layers < 1 || model.layers > kMostLayers) {
    return MakeError(kBadValue,
                     absl::StrCat("the model has ", model.layers, " layers"),
                     "layers");
  }
  if (model.hidden_size < 1 || model.vocabulary_size < 1 ||
      model.context_length < 1) {
    return MakeError(kBadValue,
                     "hidden size, vocabulary and context must be positive",
                     "hidden_size");
  }
  if (model.tensors.empty() || model.tensors.size() > kMostTensors) {
    return MakeError(
        kBadValue,
        absl::StrCat("the model has ", model.tensors.size(), " tensors"),
        "tensors");
  }
  int64_t parameters = 0;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    if (const absl::Status valid = ValidateTensor(model, i); !valid.ok()) {
      return valid;
    }
    const int64_t elements = model.tensors[i].num_elements();
    if (parameters > std::numeric_limits<int64_t>::max() - elements) {
      return MakeError(kBadValue, "the model has too many parameters",
                       "tensors");
    }
    parameters += elements;
  }
  return absl::OkStatus();
}

}  // namespace qsweep
