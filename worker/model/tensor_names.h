#ifndef QSWEEP_WORKER_MODEL_TENSOR_NAMES_H_
#define QSWEEP_WORKER_MODEL_TENSOR_NAMES_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "common/job/model_description.h"
#include "worker/model/config.h"

namespace qsweep {

// A tensor the family needs, and what it is called in a GGUF file.
struct ExpectedTensor {
  TensorDescription description;  // stored_bits not filled in
  std::string gguf_name;          // "blk.0.attn_q.weight"
};

// Every tensor of a model with this configuration, sorted by (layer,
// component, bias); a tied head is listed once, as embed.token.
std::vector<ExpectedTensor> ExpectedTensors(const ModelConfig& config);

// Tensors some files hold that change nothing: a stored copy of a tied head,
// rotary tables that follow from the configuration.
bool IsIgnoredTensor(absl::string_view file_name, const ModelConfig& config);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_TENSOR_NAMES_H_
