#ifndef QSWEEP_TESTS_SUPPORT_MODEL_DESCRIPTIONS_H_
#define QSWEEP_TESTS_SUPPORT_MODEL_DESCRIPTIONS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/job/model_description.h"

namespace qsweep::testing {

// Descriptions of published models, built from their shapes: no files needed.

inline void AddTensor(ModelDescription& model, std::string name, int layer,
                      Component component, std::vector<int64_t> shape,
                      bool bias = false) {
  model.tensors.push_back({.name = std::move(name),
                           .layer = layer,
                           .component = component,
                           .bias = bias,
                           .shape = std::move(shape),
                           .stored_bits = 16});
}

// A weight and its bias.
inline void AddWithBias(ModelDescription& model, const std::string& name,
                        int layer, Component component,
                        const std::vector<int64_t>& shape) {
  AddTensor(model, name + ".weight", layer, component, shape);
  AddTensor(model, name + ".bias", layer, component, {shape.front()}, true);
}

inline ModelDescription StartModel(const std::string& name,
                                   const std::string& family, int layers,
                                   int hidden, int vocabulary, bool tied) {
  return {.digest = Digest::Of(name),
          .tokenizer_digest = Digest::Of(name + " tokenizer"),
          .name = name,
          .family = family,
          .layers = layers,
          .hidden_size = hidden,
          .vocabulary_size = vocabulary,
          .context_length = 2048,
          .tied_head = tied};
}

struct LlamaShape {
  int layers = 2;
  int64_t hidden = 8;
  int64_t key_value = 4;  // key/value heads x head size
  int64_t feed_forward = 16;
  int64_t vocabulary = 32;
  bool tied = true;
};

inline ModelDescription LlamaDescription(const std::string& name,
                                         const LlamaShape& shape) {
  ModelDescription model =
      StartModel(name, "llama", shape.layers, static_cast<int>(shape.hidden),
                 static_cast<int>(shape.vocabulary), shape.tied);
  const int64_t d = shape.hidden;
  const int64_t ff = shape.feed_forward;
  AddTensor(model, "model.embed_tokens.weight", -1, Component::kEmbedToken,
            {shape.vocabulary, d});
  if (!shape.tied) {
    AddTensor(model, "lm_head.weight", -1, Component::kHead,
              {shape.vocabulary, d});
  }
  AddTensor(model, "model.norm.weight", -1, Component::kFinalNorm, {d});
  for (int i = 0; i < shape.layers; ++i) {
    const std::string p = absl::StrCat("model.layers.", i, ".");
    const std::string attn = p + "self_attn.";
    AddTensor(model, attn + "q_proj.weight", i, Component::kQ, {d, d});
    AddTensor(model, attn + "k_proj.weight", i, Component::kK,
              {shape.key_value, d});
    AddTensor(model, attn + "v_proj.weight", i, Component::kV,
              {shape.key_value, d});
    AddTensor(model, attn + "o_proj.weight", i, Component::kO, {d, d});
    AddTensor(model, p + "mlp.gate_proj.weight", i, Component::kGate, {ff, d});
    AddTensor(model, p + "mlp.up_proj.weight", i, Component::kUp, {ff, d});
    AddTensor(model, p + "mlp.down_proj.weight", i, Component::kDown, {d, ff});
    AddTensor(model, p + "input_layernorm.weight", i, Component::kNorm1, {d});
    AddTensor(model, p + "post_attention_layernorm.weight", i,
              Component::kNorm2, {d});
  }
  SortTensors(model);
  return model;
}

inline ModelDescription TinyLlamaDescription(int layers = 2) {
  return LlamaDescription(absl::StrCat("tiny-llama-", layers),
                          {.layers = layers});
}

inline ModelDescription SmolLm2Description() {
  return LlamaDescription("SmolLM2-135M-Instruct", {.layers = 30,
                                                    .hidden = 576,
                                                    .key_value = 192,
                                                    .feed_forward = 1536,
                                                    .vocabulary = 49152,
                                                    .tied = true});
}

inline ModelDescription Llama2Description() {
  return LlamaDescription("Llama-2-7b-hf", {.layers = 32,
                                            .hidden = 4096,
                                            .key_value = 4096,
                                            .feed_forward = 11008,
                                            .vocabulary = 32000,
                                            .tied = false});
}

inline ModelDescription Gpt2Description() {
  constexpr int64_t d = 768;
  ModelDescription model = StartModel("gpt2", "gpt2", 12, d, 50257, true);
  AddTensor(model, "transformer.wte.weight", -1, Component::kEmbedToken,
            {50257, d});
  AddTensor(model, "transformer.wpe.weight", -1, Component::kEmbedPosition,
            {1024, d});
  AddWithBias(model, "transformer.ln_f", -1, Component::kFinalNorm, {d});
  for (int i = 0; i < 12; ++i) {
    const std::string p = absl::StrCat("transformer.h.", i, ".");
    AddWithBias(model, p + "ln_1", i, Component::kNorm1, {d});
    AddWithBias(model, p + "attn.c_attn", i, Component::kQkv, {3 * d, d});
    AddWithBias(model, p + "attn.c_proj", i, Component::kO, {d, d});
    AddWithBias(model, p + "ln_2", i, Component::kNorm2, {d});
    AddWithBias(model, p + "mlp.c_fc", i, Component::kUp, {4 * d, d});
    AddWithBias(model, p + "mlp.c_proj", i, Component::kDown, {d, 4 * d});
  }
  SortTensors(model);
  return model;
}

inline ModelDescription Opt125mDescription() {
  constexpr int64_t d = 768;
  ModelDescription model = StartModel("opt-125m", "opt", 12, d, 50272, true);
  const std::string top = "model.decoder.";
  AddTensor(model, top + "embed_tokens.weight", -1, Component::kEmbedToken,
            {50272, d});
  AddTensor(model, top + "embed_positions.weight", -1,
            Component::kEmbedPosition, {2050, d});
  AddWithBias(model, top + "final_layer_norm", -1, Component::kFinalNorm, {d});
  for (int i = 0; i < 12; ++i) {
    const std::string p = absl::StrCat(top, "layers.", i, ".");
    const std::string attn = p + "self_attn.";
    AddWithBias(model, attn + "q_proj", i, Component::kQ, {d, d});
    AddWithBias(model, attn + "k_proj", i, Component::kK, {d, d});
    AddWithBias(model, attn + "v_proj", i, Component::kV, {d, d});
    AddWithBias(model, attn + "out_proj", i, Component::kO, {d, d});
    AddWithBias(model, p + "self_attn_layer_norm", i, Component::kNorm1, {d});
    AddWithBias(model, p + "fc1", i, Component::kUp, {4 * d, d});
    AddWithBias(model, p + "fc2", i, Component::kDown, {d, 4 * d});
    AddWithBias(model, p + "final_layer_norm", i, Component::kNorm2, {d});
  }
  SortTensors(model);
  return model;
}

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_MODEL_DESCRIPTIONS_H_
