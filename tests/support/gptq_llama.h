#ifndef QSWEEP_TESTS_SUPPORT_GPTQ_LLAMA_H_
#define QSWEEP_TESTS_SUPPORT_GPTQ_LLAMA_H_

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "common/base/random.h"
#include "tests/support/model_files.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_llama.h"

namespace qsweep::testing {

// A stream of codes in words of 32 bits, bit by bit.
inline std::vector<uint32_t> PackBits(const std::vector<int>& codes, int bits) {
  std::vector<uint32_t> words(codes.size() * static_cast<size_t>(bits) / 32);
  for (size_t i = 0; i < codes.size(); ++i) {
    for (size_t b = 0; b < static_cast<size_t>(bits); ++b) {
      const size_t at = i * static_cast<size_t>(bits) + b;
      words.at(at / 32) |= static_cast<uint32_t>(codes[i] >> b & 1) << at % 32;
    }
  }
  return words;
}

// A tiny Llama whose linear layers are packed as GPTQ packs them, written
// without the product's code. What its codes stand for is in `weights` then.
struct GptqLlama {
  struct Tensor {
    std::string name;
    std::vector<int64_t> shape;
    std::string dtype;
    std::string bytes;
  };

  int bits = 4;
  int64_t group_size = 32;  // -1: a row
  bool minus_one = true;    // format gptq
  bool symmetric = false;
  bool act_order = false;  // columns of a group are apart
  bool write_g_idx = true;
  bool pack_head = false;
  // "": config.json has it.
  std::string config_name = "quantize_config.json";
  // More fields of it: ", \"lm_head\": false".
  std::string more_config;
  // Bits of one module; 0: it is plain.
  std::function<int(const std::string& module)> bits_of;
  // Changes a tensor before it is written; false: leaves it out.
  std::function<bool(Tensor&)> edit;
  std::string weights_name = "model.safetensors";
  TinyLlama llama = {.layers = 2};

  std::map<std::string, std::vector<float>> weights;  // by tensor

  std::string QuantizeConfig() const {
    return absl::StrCat("{\"bits\": ", bits, ", \"group_size\": ", group_size,
                        ", \"sym\": ", symmetric ? "true" : "false",
                        ", \"desc_act\": ", act_order ? "true" : "false",
                        ", \"checkpoint_format\": \"",
                        minus_one ? "gptq" : "gptq_v2", "\"", more_config, "}");
  }

  void WriteTo(const TempDir& directory) {
    SafetensorsWriter writer;
    llama.tensor = [&](const std::string& name,
                       const std::vector<int64_t>& shape,
                       const std::vector<float>& values) {
      const std::string module(absl::StripSuffix(name, ".weight"));
      const int own_bits = bits_of ? bits_of(module) : bits;
      const bool packed =
          absl::EndsWith(module, "_proj") || (module == "lm_head" && pack_head);
      if (packed && own_bits > 0) {
        Pack(module, shape, own_bits, writer);
      } else {
        weights[name] = values;
        Add({name, shape, "F32", FloatBytes(values)}, writer);
      }
    };
    llama.WriteTo(directory);
    llama.tensor = nullptr;
    directory.Write(weights_name, writer.Bytes());
    if (weights_name != "model.safetensors") {
      std::filesystem::remove(directory / "model.safetensors");
    }
    if (!config_name.empty()) {
      directory.Write(config_name, QuantizeConfig());
    } else {
      std::string config = llama.Config();
      config.pop_back();
      directory.Write("config.json",
                      absl::StrCat(config, ", \"quantization_config\": ",
                                   QuantizeConfig(), "}"));
    }
  }

 private:
  void Add(Tensor tensor, SafetensorsWriter& writer) const {
    if (!edit || edit(tensor)) {
      writer.Add(tensor.name, tensor.shape, tensor.dtype, tensor.bytes);
    }
  }

  void Pack(const std::string& module, const std::vector<int64_t>& shape,
            int own_bits, SafetensorsWriter& writer) {
    const auto rows = static_cast<size_t>(shape[0]);
    const auto columns = static_cast<size_t>(shape[1]);
    const size_t size =
        group_size < 0 ? columns : static_cast<size_t>(group_size);
    const size_t groups = (columns + size - 1) / size;
    const int levels = 1 << own_bits;
    Random random(rows * 1000 + columns);
    const auto draw = [&](int limit) {
      return static_cast<int>(random.Uniform() * limit);
    };
    std::vector<size_t> group_of(columns);
    for (size_t c = 0; c < columns; ++c) {
      group_of[c] = act_order ? c % groups : c / size;
    }
    std::string qzeros, scales;
    std::vector<std::vector<int>> zeros(groups);
    std::vector<std::vector<float>> scale(groups);
    for (size_t g = 0; g < groups; ++g) {
      std::vector<int> stored;
      for (size_t r = 0; r < rows; ++r) {
        zeros[g].push_back(symmetric ? levels / 2 : 1 + draw(levels - 1));
        stored.push_back(zeros[g][r] - (minus_one ? 1 : 0));
        const int eighths = draw(8);  // fp16: (1 + k/8) * 2^-4
        scale[g].push_back(
            std::ldexp(1.0f + static_cast<float>(eighths) / 8, -4));
        const int half = 11 << 10 | eighths << 7;
        scales.push_back(static_cast<char>(half & 0xff));
        scales.push_back(static_cast<char>(half >> 8));
      }
      for (const uint32_t word : PackBits(stored, own_bits)) {
        AppendLittleEndian(word, qzeros);
      }
    }
    std::vector<float>& values = weights[module + ".weight"];
    std::vector<std::vector<uint32_t>> words(rows);
    for (size_t r = 0; r < rows; ++r) {
      std::vector<int> codes;
      for (size_t c = 0; c < columns; ++c) {
        codes.push_back(draw(levels));
        const size_t g = group_of[c];
        values.push_back(scale[g][r] *
                         static_cast<float>(codes[c] - zeros[g][r]));
      }
      words[r] = PackBits(codes, own_bits);
    }
    std::string qweight;
    for (size_t word = 0; word < words[0].size(); ++word) {
      for (size_t r = 0; r < rows; ++r) {
        AppendLittleEndian(words[r][word], qweight);
      }
    }
    std::string g_idx;
    for (const size_t g : group_of) {
      AppendLittleEndian(static_cast<int32_t>(g), g_idx);
    }
    const auto num_words = [&](size_t count) {
      return static_cast<int64_t>(count) * own_bits / 32;
    };
    const auto num_groups = static_cast<int64_t>(groups);
    Add({module + ".qweight", {num_words(columns), shape[0]}, "I32", qweight},
        writer);
    Add({module + ".qzeros", {num_groups, num_words(rows)}, "I32", qzeros},
        writer);
    Add({module + ".scales", {num_groups, shape[0]}, "F16", scales}, writer);
    if (write_g_idx) {
      Add({module + ".g_idx", {shape[1]}, "I32", g_idx}, writer);
    }
  }
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_GPTQ_LLAMA_H_
