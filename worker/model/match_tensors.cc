#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/model/checkpoint_parts.h"
#include "worker/model/families.h"
#include "worker/model/tensor_names.h"

namespace qsweep {
namespace {

// Finds the tensors of a model one by one and notes which it has used.
class Matcher {
 public:
  Matcher(bool gguf, Parts& parts)
      : gguf_(gguf),
        family_(*FindFamily(parts.config.family)),
        parts_(parts),
        file_(parts.weights.front()->path()) {}

  absl::Status Match(ExpectedTensor expected) {
    std::optional<GptqModule> module;
    const TensorDescription& description = expected.description;
    const bool head = description.component == Component::kHead;
    const std::string name(absl::StripSuffix(description.name, ".weight"));
    if (parts_.packing && !description.bias &&
        (head || IsLinear(description.component))) {
      QSWEEP_ASSIGN_OR_RETURN(module, parts_.packing->Find(name, head));
    }
    QSWEEP_RETURN_IF_ERROR(CheckWhetherPacked(name, module.has_value()));
    return module ? MatchPacked(std::move(expected.description), name, *module)
                  : MatchPlain(std::move(expected));
  }

  // That nothing is left over.
  absl::Status CheckRest() const {
    for (const auto& [name, located] : parts_.found) {
      if (!used_.contains(name) && !IsIgnoredTensor(name, parts_.config)) {
        return MakeError(
            kUnsupportedArchitecture,
            absl::StrCat("tensor '", name, "' is no part of the family '",
                         parts_.config.family,
                         "'; leaving it out would change the model"),
            located.file, absl::StrCat("Supported families: ", FamilyNames()));
      }
    }
    return absl::OkStatus();
  }

 private:
  const Located* Find(const std::string& name) {
    const auto it = parts_.found.find(name);
    if (it == parts_.found.end()) {
      return nullptr;
    }
    used_.insert(name);
    return &it->second;
  }

  absl::Status Missing(const std::string& name) const {
    return MakeError(kMissingTensor,
                     absl::StrCat("the model lacks the tensor '", name, "'"),
                     file_, "Download the model again.");
  }

  // Another reader of the same files would go by the configuration alone, and
  // measure something else.
  absl::Status CheckWhetherPacked(const std::string& module,
                                  bool packed) const {
    const bool has_codes = parts_.found.contains(module + ".qweight");
    const bool has_plain = parts_.found.contains(module + ".weight");
    const std::string& file = parts_.packing ? parts_.packing->file() : file_;
    if (has_codes && !packed) {
      return MakeError(
          kBadModelConfig,
          absl::StrCat("'", module, "' is packed, but ",
                       parts_.packing
                           ? "the configuration says that it is not"
                           : "neither config.json nor quantize_config.json "
                             "says how"),
          file, "Download the model again, with its configuration files.");
    }
    if (packed && has_plain) {
      return MakeError(
          kBadModelConfig,
          absl::StrCat("'", module,
                       "' is not packed, but the configuration says so"),
          file, "Configuration and weights are of different models.");
    }
    return absl::OkStatus();
  }

  absl::Status MatchPacked(TensorDescription description,
                           const std::string& name, const GptqModule& module) {
    GptqTensors tensors;
    const Located* codes = nullptr;
    for (const auto& [part, tensor] : {std::pair{".qweight", &tensors.qweight},
                                       std::pair{".qzeros", &tensors.qzeros},
                                       std::pair{".scales", &tensors.scales},
                                       std::pair{".g_idx", &tensors.g_idx}}) {
      const Located* const found = Find(name + part);
      if (found != nullptr) {
        *tensor = &found->tensor;
      } else if (tensor != &tensors.g_idx) {
        return Missing(name + part);
      }
      codes = codes == nullptr ? found : codes;
    }
    QSWEEP_ASSIGN_OR_RETURN(
        GptqMatrix matrix,
        CheckGptqMatrix(tensors, description.shape[0], description.shape[1],
                        module, parts_.packing->zeros_minus_one(), name,
                        codes->file));
    IgnoreZeroBias(name + ".bias");
    description.stored_bits = matrix.stored_bits();
    parts_.tensors.push_back({.description = std::move(description),
                              .source = *codes,
                              .packed = matrix});
    return absl::OkStatus();
  }

  // AutoGPTQ stores a bias for every module, all zeros where there was none.
  void IgnoreZeroBias(const std::string& name) {
    const auto it = parts_.found.find(name);
    if (it == parts_.found.end()) {
      return;
    }
    const std::span<const uint8_t> bytes = it->second.tensor.data;
    if (std::all_of(bytes.begin(), bytes.end(),
                    [](uint8_t byte) { return byte == 0; })) {
      used_.insert(name);
    }
  }

  absl::Status MatchPlain(ExpectedTensor expected) {
    TensorDescription& description = expected.description;
    const std::string& name = gguf_ ? expected.gguf_name : description.name;
    const Located* const found = Find(name);
    if (found == nullptr) {
      return Missing(name);
    }
    const StoredTensor& stored = found->tensor;
    if (stored.shape != description.shape) {
      return MakeError(
          kTensorShapeMismatch,
          absl::StrCat("tensor '", name, "' has shape [",
                       absl::StrJoin(stored.shape, ", "),
                       "], the configuration says [",
                       absl::StrJoin(description.shape, ", "), "]"),
          found->file, "Configuration and weights are of different models.");
    }
    if (stored.type == TensorType::kI32) {
      return MakeError(kUnsupportedTensorType,
                       absl::StrCat("tensor '", name, "' is stored as I32"),
                       found->file, "Use F32, F16 or BF16 weights.");
    }
    description.stored_bits = InfoOf(stored.type).bits_per_element();
    ModelTensor tensor{.description = std::move(description), .source = *found};
    if (gguf_ && family_.gguf_permutes_qk) {
      const Component component = tensor.description.component;
      tensor.interleaved_heads =
          component == Component::kQ   ? parts_.config.heads
          : component == Component::kK ? parts_.config.kv_heads
                                       : 0;
    }
    parts_.tensors.push_back(std::move(tensor));
    return absl::OkStatus();
  }

  const bool gguf_;
  const ModelFamily& family_;
  Parts& parts_;
  const std::string& file_;  // for messages
  std::set<std::string> used_;
};

}  // namespace

absl::Status MatchTensors(bool gguf, Parts& parts) {
  Matcher matcher(gguf, parts);
  for (ExpectedTensor& expected : ExpectedTensors(parts.config)) {
    QSWEEP_RETURN_IF_ERROR(matcher.Match(std::move(expected)));
  }
  return matcher.CheckRest();
}

}  // namespace qsweep
