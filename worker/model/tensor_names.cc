#include "worker/model/tensor_names.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace qsweep {
namespace {

struct BlockTensor {
  Component component;
  const char* name;       // after "model.layers.N."
  const char* gguf_name;  // after "blk.N."
};

// In the order of Component.
constexpr BlockTensor kLlamaBlock[] = {
    {Component::kQ, "self_attn.q_proj.weight", "attn_q.weight"},
    {Component::kK, "self_attn.k_proj.weight", "attn_k.weight"},
    {Component::kV, "self_attn.v_proj.weight", "attn_v.weight"},
    {Component::kO, "self_attn.o_proj.weight", "attn_output.weight"},
    {Component::kGate, "mlp.gate_proj.weight", "ffn_gate.weight"},
    {Component::kUp, "mlp.up_proj.weight", "ffn_up.weight"},
    {Component::kDown, "mlp.down_proj.weight", "ffn_down.weight"},
    {Component::kNorm1, "input_layernorm.weight", "attn_norm.weight"},
    {Component::kNorm2, "post_attention_layernorm.weight", "ffn_norm.weight"},
};

std::vector<int64_t> ShapeOf(Component component, const ModelConfig& config) {
  const int64_t hidden = config.hidden_size;
  const int64_t queries = int64_t{config.heads} * config.head_dim;
  const int64_t keys = int64_t{config.kv_heads} * config.head_dim;
  switch (component) {
    case Component::kQ:
      return {queries, hidden};
    case Component::kK:
    case Component::kV:
      return {keys, hidden};
    case Component::kO:
      return {hidden, queries};
    case Component::kGate:
    case Component::kUp:
      return {config.intermediate_size, hidden};
    case Component::kDown:
      return {hidden, config.intermediate_size};
    case Component::kEmbedToken:
    case Component::kHead:
      return {config.vocabulary_size, hidden};
    default:
      return {hidden};  // norms
  }
}

ExpectedTensor Make(Component component, int layer, std::string name,
                    std::string gguf_name, const ModelConfig& config) {
  ExpectedTensor tensor;
  tensor.description.name = std::move(name);
  tensor.description.layer = layer;
  tensor.description.component = component;
  tensor.description.shape = ShapeOf(component, config);
  tensor.gguf_name = std::move(gguf_name);
  return tensor;
}

}  // namespace

std::vector<ExpectedTensor> ExpectedTensors(const ModelConfig& config) {
  std::vector<ExpectedTensor> tensors;
  tensors.push_back(Make(Component::kEmbedToken, -1,
                         "model.embed_tokens.weight", "token_embd.weight",
                         config));
  if (!config.tied_head) {
    tensors.push_back(
        Make(Component::kHead, -1, "lm_head.weight", "output.weight", config));
  }
  tensors.push_back(Make(Component::kFinalNorm, -1, "model.norm.weight",
                         "output_norm.weight", config));
  for (int layer = 0; layer < config.layers; ++layer) {
    for (const BlockTensor& block : kLlamaBlock) {
      tensors.push_back(
          Make(block.component, layer,
               absl::StrCat("model.layers.", layer, ".", block.name),
               absl::StrCat("blk.", layer, ".", block.gguf_name), config));
    }
  }
  return tensors;
}

bool IsIgnoredTensor(absl::string_view file_name, const ModelConfig& config) {
  return file_name == "rope_freqs.weight" ||  // read with the configuration
         absl::EndsWith(file_name, "rotary_emb.inv_freq") ||
         (config.tied_head && file_name == "lm_head.weight");
}

}  // namespace qsweep
