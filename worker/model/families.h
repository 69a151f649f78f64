#ifndef QSWEEP_WORKER_MODEL_FAMILIES_H_
#define QSWEEP_WORKER_MODEL_FAMILIES_H_

#include <span>
#include <string>

#include "absl/strings/string_view.h"

namespace qsweep {

// What a family of architectures does to tensors on their way into a file.
struct ModelFamily {
  const char* name;               // ModelConfig::family
  const char* model_type;         // config.json: model_type
  const char* model_class;        // config.json: architectures
  const char* gguf_architecture;  // general.architecture, prefix of its keys
  bool gguf_permutes_qk;          // rows of Q and K are interleaved in GGUF
};

std::span<const ModelFamily> AllFamilies();
// nullptr: no such family.
const ModelFamily* FindFamilyByModelType(absl::string_view model_type);
const ModelFamily* FindFamilyByGgufArchitecture(absl::string_view architecture);
const ModelFamily* FindFamily(absl::string_view name);
// "llama": for messages.
std::string FamilyNames();

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_FAMILIES_H_
