#ifndef QSWEEP_COMMON_JOB_LAYER_SET_COMPONENTS_H_
#define QSWEEP_COMMON_JOB_LAYER_SET_COMPONENTS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "common/job/model_description.h"

namespace qsweep {

// A component word of the selector language and the tensors it means.
struct SelectorComponent {
  const char* name;
  bool in_blocks;  // may be followed by "@" and layers
  bool (*matches)(const TensorDescription& tensor);
};

// In the order resolved texts print them; nullptr: no such word.
const SelectorComponent* FindSelectorComponent(absl::string_view name);
std::vector<std::string> SelectorComponentNames();

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_LAYER_SET_COMPONENTS_H_
