#ifndef QSWEEP_TESTS_SUPPORT_TINY_LLAMA_H_
#define QSWEEP_TESTS_SUPPORT_TINY_LLAMA_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/random.h"
#include "tests/support/model_files.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {

// A random Llama with a token per byte, as a Hugging Face directory.
struct TinyLlama {
  static constexpr int kVocabulary = 258;  // bytes, <s>, </s>

  int layers = 3;
  int hidden_size = 64;
  int intermediate_size = 96;
  int heads = 4;
  int kv_heads = 2;
  int head_dim = 16;
  int context_length = 512;
  int vocabulary_size = kVocabulary;  // embedded; the tokenizer has kVocabulary
  bool tied_head = true;
  uint64_t seed = 1;
  // Changes a tensor before it is written.
  std::function<void(const std::string& name, std::vector<float>& values)> edit;
  // Is given each tensor as it is written.
  std::function<void(const std::string& name, const std::vector<int64_t>& shape,
                     const std::vector<float>& values)>
      tensor;

  void WriteTo(const TempDir& directory) const {
    directory.Write("config.json", Config());
    directory.Write("tokenizer.json", TokenizerJson());
    directory.Write("tokenizer_config.json",
                    R"({"bos_token": "<s>", "eos_token": "</s>"})");
    directory.Write("model.safetensors", Weights());
  }

  std::string Config() const {
    return absl::StrCat(
        R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", )",
        R"("hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0)",
        ", \"hidden_size\": ", hidden_size,
        ", \"intermediate_size\": ", intermediate_size,
        ", \"num_hidden_layers\": ", layers,
        ", \"num_attention_heads\": ", heads,
        ", \"num_key_value_heads\": ", kv_heads, ", \"head_dim\": ", head_dim,
        ", \"max_position_embeddings\": ", context_length,
        ", \"vocab_size\": ", vocabulary_size,
        ", \"tie_word_embeddings\": ", tied_head ? "true" : "false",
        ", \"bos_token_id\": 256, \"eos_token_id\": 257}");
  }

 private:
  // GPT-2's letters for bytes: printable ones stand for themselves, the others
  // come from 256 on. As JSON escapes.
  static std::string TokenizerJson() {
    std::vector<std::string> entries;
    int next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 33 && byte <= 126) ||
                             (byte >= 161 && byte <= 172) || byte >= 174;
      const int letter = printable ? byte : next++;
      entries.push_back(absl::StrCat(
          "\"\\u", absl::Hex(letter, absl::kZeroPad4), "\": ", byte));
    }
    const auto special = [](const char* content, int id) {
      return absl::StrCat(
          "{\"id\": ", id, ", \"content\": \"", content,
          R"(", "single_word": false, "lstrip": false, "rstrip": false, )",
          R"("normalized": false, "special": true})");
    };
    return absl::StrCat(
        R"({"version": "1.0", "added_tokens": [)", special("<s>", 256), ", ",
        special("</s>", 257),
        R"(], "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", )",
        R"("add_prefix_space": false, "trim_offsets": true, )",
        R"("use_regex": true}, "post_processor": null, "decoder": null, )",
        R"("model": {"type": "BPE", "dropout": null, "unk_token": null, )",
        R"("continuing_subword_prefix": null, "end_of_word_suffix": null, )",
        R"("fuse_unk": false, "byte_fallback": false, "vocab": {)",
        absl::StrJoin(entries, ", "), R"(}, "merges": []}})");
  }

  std::string Weights() const {
    SafetensorsWriter writer;
    Random random(seed);
    const auto add = [&](const std::string& name,
                         const std::vector<int64_t>& shape) {
      int64_t size = 1;
      for (const int64_t dimension : shape) {
        size *= dimension;
      }
      std::vector<float> values;
      for (int64_t i = 0; i < size; ++i) {
        const double noise = random.Uniform() - 0.5;
        values.push_back(
            static_cast<float>(shape.size() == 1 ? 1 + noise : 0.6 * noise));
      }
      if (edit) {
        edit(name, values);
      }
      if (tensor) {
        tensor(name, shape, values);
      }
      writer.Add(name, shape, "F32", FloatBytes(values));
    };
    const int q = heads * head_dim;
    const int kv = kv_heads * head_dim;
    add("model.embed_tokens.weight", {vocabulary_size, hidden_size});
    for (int layer = 0; layer < layers; ++layer) {
      const std::string block = absl::StrCat("model.layers.", layer, ".");
      add(block + "input_layernorm.weight", {hidden_size});
      add(block + "self_attn.q_proj.weight", {q, hidden_size});
      add(block + "self_attn.k_proj.weight", {kv, hidden_size});
      add(block + "self_attn.v_proj.weight", {kv, hidden_size});
      add(block + "self_attn.o_proj.weight", {hidden_size, q});
      add(block + "post_attention_layernorm.weight", {hidden_size});
      add(block + "mlp.gate_proj.weight", {intermediate_size, hidden_size});
      add(block + "mlp.up_proj.weight", {intermediate_size, hidden_size});
      add(block + "mlp.down_proj.weight", {hidden_size, intermediate_size});
    }
    add("model.norm.weight", {hidden_size});
    if (!tied_head) {
      add("lm_head.weight", {vocabulary_size, hidden_size});
    }
    return writer.Bytes();
  }
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_TINY_LLAMA_H_
