#ifndef QSWEEP_WORKER_ENGINE_COMMANDS_GPTQ_FORMAT_H_
#define QSWEEP_WORKER_ENGINE_COMMANDS_GPTQ_FORMAT_H_

#include "absl/status/status.h"
#include "nlohmann/json_fwd.hpp"

#include "common/job/configuration.h"
#include "common/job/model_description.h"

namespace qsweep {

// Whether a GPTQ checkpoint holds the configuration without changing a weight.
// INVALID_ARGUMENT QS1004: the field to change named; QS1042: bits that fill no
// words.
absl::Status CheckGptqFormat(const ModelDescription& model,
                             const Configuration& configuration);

// quantize_config.json, and quantization_config of config.json. Modules that
// are kept or have bits of their own are in `dynamic`. configuration: of which
// CheckGptqFormat says yes.
nlohmann::ordered_json GptqConfigJson(const ModelDescription& model,
                                      const Configuration& configuration);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_COMMANDS_GPTQ_FORMAT_H_
