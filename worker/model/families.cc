#include "worker/model/families.h"

#include "absl/strings/str_join.h"

namespace qsweep {
namespace {

// A new family is a row here, its tensors in tensor_names.cc and its
// arithmetic in the engine's decoder.
constexpr ModelFamily kFamilies[] = {
    {.name = "llama",
     .model_type = "llama",
     .model_class = "LlamaForCausalLM",
     .gguf_architecture = "llama",
     .gguf_permutes_qk = true},
};

const ModelFamily* Find(const char* ModelFamily::*member,
                        absl::string_view value) {
  for (const ModelFamily& family : kFamilies) {
    if (family.*member == value) {
      return &family;
    }
  }
  return nullptr;
}

}  // namespace

std::span<const ModelFamily> AllFamilies() { return kFamilies; }

const ModelFamily* FindFamilyByModelType(absl::string_view model_type) {
  return Find(&ModelFamily::model_type, model_type);
}

const ModelFamily* FindFamilyByGgufArchitecture(
    absl::string_view architecture) {
  return Find(&ModelFamily::gguf_architecture, architecture);
}

const ModelFamily* FindFamily(absl::string_view name) {
  return Find(&ModelFamily::name, name);
}

std::string FamilyNames() {
  return absl::StrJoin(kFamilies, ", ",
                       [](std::string* out, const ModelFamily& family) {
                         out->append(family.name);
                       });
}

}  // namespace qsweep
