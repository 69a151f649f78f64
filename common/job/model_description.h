#ifndef QSWEEP_COMMON_JOB_MODEL_DESCRIPTION_H_
#define QSWEEP_COMMON_JOB_MODEL_DESCRIPTION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "common/base/digest.h"

namespace qsweep {

// What a parameter is. Free of proto.
enum class Component {
  kQ,
  kK,
  kV,
  kO,    // attention projections
  kQkv,  // fused (GPT-2)
  kGate,
  kUp,
  kDown,  // MLP
  kNorm1,
  kNorm2,  // before attention, before MLP
  kQNorm,
  kKNorm,  // per head
  kEmbedToken,
  kEmbedPosition,
  kHead,
  kFinalNorm,  // outside the blocks
};

// "q", "qkv", "norm1", "q_norm", "embed.token", "embed.pos", "head",
// "norm.final".
absl::string_view ComponentName(Component component);
// The component of that name, or nothing.
std::optional<Component> ParseComponent(absl::string_view name);
bool IsLinear(
    Component component);  // block linears: what scope=linear quantizes
bool IsAttention(Component component);  // q k v o qkv
bool IsMlp(Component component);        // gate up down
bool IsNorm(Component component);       // norm1 norm2 q_norm k_norm norm.final

struct TensorDescription {
  std::string name;  // Hugging Face parameter name:
                     // "model.layers.0.self_attn.q_proj.weight"
  int layer = -1;    // block index; -1: outside the blocks
  Component component = Component::kQ;
  bool bias = false;           // the additive bias of that component
  std::vector<int64_t> shape;  // row-major [out, in] for linears
  double stored_bits = 32;     // per element, in the file

  int64_t num_elements() const;
  int64_t stored_bytes() const;  // in the file
};

// What a job needs to know of a checkpoint, without its weights. Value type.
struct ModelDescription {
  Digest digest;  // SHA-256 over config and every weight file's SHA-256
  Digest tokenizer_digest;
  std::string name;    // for people
  std::string family;  // "llama"
  int layers = 0;
  int hidden_size = 0;
  int vocabulary_size = 0;
  int context_length = 0;  // tokens
  bool tied_head =
      false;  // head and embed.token are one tensor, listed once as embed.token
  std::string prequantized;  // "", "prequantized" or "prequantized8":
                             // quantization.md 9.5
  std::vector<TensorDescription> tensors;  // sorted by (layer, component, bias)

  int64_t num_parameters() const;  // tied counted once
  int64_t stored_bytes() const;    // of all tensors, in the files
};

// Puts tensors into (layer, component, bias, name) order.
void SortTensors(ModelDescription& model);

// Whether a description that came from a file or the network can be worked
// with. INVALID_ARGUMENT QS1004, the field named: digests missing, no layers or
// too many, a tensor with an impossible layer, shape or size, or out of order.
absl::Status ValidateModelDescription(const ModelDescription& model);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_MODEL_DESCRIPTION_H_
