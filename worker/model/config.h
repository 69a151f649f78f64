#ifndef QSWEEP_WORKER_MODEL_CONFIG_H_
#define QSWEEP_WORKER_MODEL_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>

namespace qsweep {

// Rescaling of rotary frequencies by wavelength (Llama 3.1); quantization.md 6.
struct Llama3RopeScaling {
  double factor = 8;
  double low_frequency_factor = 1;
  double high_frequency_factor = 4;
  double original_context_length = 8192;
};

// The hyper-parameters of a Llama-architecture decoder, from config.json or
// GGUF metadata.
struct ModelConfig {
  std::string family;  // "llama"
  int layers = 0;
  int hidden_size = 0;
  int intermediate_size = 0;
  int heads = 0;
  int kv_heads = 0;  // divides heads
  int head_dim = 0;  // need not be hidden_size / heads
  int vocabulary_size = 0;
  int context_length = 0;  // tokens
  double rms_eps = 1e-5;
  double rope_theta = 0;  // always given by the file: QS3006 otherwise
  std::optional<Llama3RopeScaling> rope_scaling;
  bool tied_head = false;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_CONFIG_H_
