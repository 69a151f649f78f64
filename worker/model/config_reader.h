#ifndef QSWEEP_WORKER_MODEL_CONFIG_READER_H_
#define QSWEEP_WORKER_MODEL_CONFIG_READER_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "worker/model/config.h"
#include "worker/model/gguf.h"

namespace qsweep {

// Both check that values are positive and fit each other, and refuse what would
// change the arithmetic without being implemented (other rotary scalings,
// biases, activations, experts). file: for messages. DATA_LOSS QS3003 (not
// JSON), QS3006 (no rope base), QS3011 (missing or wrong value);
// UNIMPLEMENTED QS3004 with what is supported.

// config.json of a Hugging Face directory; how its weights are packed is read
// elsewhere (gptq_config.h).
absl::StatusOr<ModelConfig> ReadConfigJson(absl::string_view json,
                                           const std::string& file);

// llama.* metadata, and the rope_freqs tensor of Llama 3.1 files.
absl::StatusOr<ModelConfig> ReadGgufConfig(const Gguf& gguf,
                                           const std::string& file);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_CONFIG_READER_H_
