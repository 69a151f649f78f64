#include "worker/model/config_reader.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "tests/support/error_matchers.h"
#include "tests/support/model_files.h"
#include "worker/model/rope_factors.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::FieldOf;
using testing::FloatBytes;
using testing::GgufWriter;
using ::testing::HasSubstr;
using testing::HintOf;

using Json = nlohmann::json;

Json Llama() {
  return Json::parse(R"({
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 100, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 2048, "rope_theta": 10000.0,
    "tie_word_embeddings": true})");
}

absl::StatusOr<ModelConfig> Read(const Json& json) {
  return ReadConfigJson(json.dump(), "config.json");
}

TEST(ReadConfigJson, ReadsEveryValue) {
  const auto config = Read(Llama());
  QSWEEP_ASSERT_OK(config);
  EXPECT_EQ(config->family, "llama");
  EXPECT_EQ(config->layers, 3);
  EXPECT_EQ(config->hidden_size, 64);
  EXPECT_EQ(config->intermediate_size, 96);
  EXPECT_EQ(config->heads, 4);
  EXPECT_EQ(config->kv_heads, 2);
  EXPECT_EQ(config->head_dim, 16);
  EXPECT_EQ(config->vocabulary_size, 100);
  EXPECT_EQ(config->context_length, 2048);
  EXPECT_EQ(config->rms_eps, 1e-5);
  EXPECT_EQ(config->rope_theta, 10000);
  EXPECT_FALSE(config->rope_scaling);
  EXPECT_TRUE(config->tied_head);
}

TEST(ReadConfigJson, TakesTheFamilysDefaults_ForWhatIsLeftOut) {
  Json json = Llama();
  json.erase("num_key_value_heads");
  json.erase("tie_word_embeddings");
  json.erase("rms_norm_eps");
  json["head_dim"] = nullptr;
  json["rope_scaling"] = nullptr;
  const auto config = Read(json);
  QSWEEP_ASSERT_OK(config);
  EXPECT_EQ(config->kv_heads, 4);
  EXPECT_EQ(config->head_dim, 16);
  EXPECT_EQ(config->rms_eps, 1e-6);
  EXPECT_FALSE(config->tied_head);
}

TEST(ReadConfigJson, TakesHeadDim_ThatIsNotHiddenSizeOverHeads) {
  Json json = Llama();
  json["head_dim"] = 32;
  const auto config = Read(json);
  QSWEEP_ASSERT_OK(config);
  EXPECT_EQ(config->head_dim, 32);
}

TEST(ReadConfigJson, FindsTheRopeBase_InOldAndNewFiles) {
  Json json = Llama();
  json.erase("rope_theta");
  EXPECT_EQ(CodeOf(Read(json)), "QS3006");
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5e5}};
  const auto config = Read(json);
  QSWEEP_ASSERT_OK(config);
  EXPECT_EQ(config->rope_theta, 5e5);
}

TEST(ReadConfigJson, ReadsLlama3Scaling_UnderEitherName) {
  const Json scaling = {{"rope_type", "llama3"},
                        {"factor", 32.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 8192}};
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    Json json = Llama();
    json[key] = scaling;
    const auto config = Read(json);
    QSWEEP_ASSERT_OK(config);
    ASSERT_TRUE(config->rope_scaling) << key;
    EXPECT_EQ(config->rope_scaling->factor, 32);
    EXPECT_EQ(config->rope_scaling->original_context_length, 8192);
  }
  Json incomplete = Llama();
  incomplete["rope_scaling"] = {{"rope_type", "llama3"}, {"factor", 8.0}};
  EXPECT_EQ(CodeOf(Read(incomplete)), "QS3011");
}

TEST(ReadConfigJson, RefusesWhatItCannotRun_AndSaysWhy) {
  struct Case {
    const char* key;
    const char* value;
    const char* code;
    const char* text;
  };
  for (const Case& c : {
           Case{"model_type", R"("gpt2")", "QS3004", "supported: llama"},
           Case{"model_type", "null", "QS3004", "supported: llama"},
           Case{"hidden_act", R"("gelu")", "QS3004", "'gelu'"},
           Case{"attention_bias", "true", "QS3004", "attention_bias"},
           Case{"mlp_bias", "true", "QS3004", "mlp_bias"},
           Case{"partial_rotary_factor", "0.5", "QS3004", "partial"},
           Case{"rope_scaling", R"({"type": "yarn"})", "QS3004", "'yarn'"},
           Case{"num_hidden_layers", "0", "QS3011", "layers is 0"},
           Case{"num_hidden_layers", "-1", "QS3011", "num_hidden_layers"},
           Case{"num_hidden_layers", "10001", "QS3011", "more than 10000"},
           Case{"num_hidden_layers", "3000000000", "QS3011",
                "num_hidden_layers"},
           Case{"hidden_size", "null", "QS3011", "no hidden_size"},
           Case{"hidden_size", R"("64")", "QS3011", "hidden_size"},
           Case{"num_attention_heads", "0", "QS3011", "heads is 0"},
           Case{"num_key_value_heads", "3", "QS3011", "multiple of 3"},
           Case{"head_dim", "15", "QS3011", "odd"},
           Case{"rms_norm_eps", "-1", "QS3011", "epsilon"},
           Case{"rope_theta", "0", "QS3011", "rope base"},
           Case{"tie_word_embeddings", "1", "QS3011", "tie_word_embeddings"},
       }) {
    SCOPED_TRACE(c.key);
    Json json = Llama();
    json[c.key] = Json::parse(c.value);
    const auto config = Read(json);
    EXPECT_EQ(CodeOf(config), c.code);
    EXPECT_EQ(FieldOf(config), "config.json");
    EXPECT_FALSE(HintOf(config).empty());
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(c.text));
  }
}

TEST(ReadConfigJson, NeverCrashes_OnATruncatedFile) {
  const std::string text = Llama().dump();
  for (size_t size = 0; size < text.size(); ++size) {
    EXPECT_EQ(CodeOf(ReadConfigJson(text.substr(0, size), "config.json")),
              "QS3003");
  }
}

struct GgufCase {
  bool with_rope_base = true;
  std::string architecture = "llama";
  std::string extra_text_key;
  uint32_t experts = 0;
  std::vector<float> rope_factors;
};

absl::StatusOr<ModelConfig> ReadGguf(const GgufCase& c) {
  GgufWriter writer;
  writer.AddString("general.architecture", c.architecture);
  writer.AddUint("llama.block_count", 2);
  writer.AddUint("llama.context_length", 256);
  writer.AddUint("llama.embedding_length", 512);
  writer.AddUint("llama.feed_forward_length", 64);
  writer.AddUint("llama.attention.head_count", 4);
  writer.AddUint("llama.attention.head_count_kv", 2);
  writer.AddFloat("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  writer.AddUint("llama.expert_count", c.experts);
  writer.AddStrings("tokenizer.ggml.tokens", {"a", "b", "c"});
  if (c.with_rope_base) {
    writer.AddFloat("llama.rope.freq_base", 5e5f);
  }
  if (!c.extra_text_key.empty()) {
    writer.AddString(c.extra_text_key, "yarn");
  }
  if (!c.rope_factors.empty()) {
    writer.AddTensor({.name = "rope_freqs.weight",
                      .shape = {c.rope_factors.size()},
                      .data = FloatBytes(c.rope_factors)});
  }
  const std::string bytes = writer.Bytes();
  const auto gguf = ParseGguf(
      {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "m.gguf");
  return gguf.ok() ? ReadGgufConfig(*gguf, "m.gguf") : gguf.status();
}

TEST(ReadGgufConfig, ReadsEveryValue) {
  const auto config = ReadGguf({});
  QSWEEP_ASSERT_OK(config);
  EXPECT_EQ(config->layers, 2);
  EXPECT_EQ(config->head_dim, 128);
  EXPECT_EQ(config->kv_heads, 2);
  EXPECT_EQ(config->vocabulary_size, 3);  // from the tokens
  EXPECT_EQ(config->rope_theta, 5e5);
  EXPECT_TRUE(config->tied_head);  // no output.weight
}

TEST(ReadGgufConfig, RefusesWhatItCannotRun) {
  EXPECT_EQ(CodeOf(ReadGguf({.with_rope_base = false})), "QS3006");
  EXPECT_EQ(CodeOf(ReadGguf({.architecture = "qwen2"})), "QS3004");
  EXPECT_EQ(CodeOf(ReadGguf({.experts = 8})), "QS3004");
  EXPECT_EQ(CodeOf(ReadGguf({.extra_text_key = "llama.rope.scaling.type"})),
            "QS3004");
}

TEST(ReadGgufConfig, RecognisesTheStoredFactors_OfPublishedLlama3Models) {
  for (const double factor : {8.0, 32.0}) {
    std::vector<float> factors;
    for (const double value :
         Llama3RopeFactors({.factor = factor}, 5e5, /*head_dim=*/128)) {
      factors.push_back(static_cast<float>(value));
    }
    const auto config = ReadGguf({.rope_factors = factors});
    QSWEEP_ASSERT_OK(config);
    ASSERT_TRUE(config->rope_scaling);
    EXPECT_EQ(config->rope_scaling->factor, factor);
    factors[40] *= 1.01f;
    EXPECT_EQ(CodeOf(ReadGguf({.rope_factors = factors})), "QS3004");
  }
}

// transformers 4.x, _compute_llama3_parameters with theta 5e5, head size 128,
// factor 8, low 1, high 4, original 8192: base / scaled frequency.
TEST(Llama3RopeFactors, ScaleByWavelength) {
  const std::vector<double> factors =
      Llama3RopeFactors({}, 5e5, /*head_dim=*/128);
  EXPECT_EQ(factors[0], 1);
  EXPECT_EQ(factors[28], 1);
  EXPECT_GT(factors[32], 1);
  EXPECT_LT(factors[32], 8);
  EXPECT_EQ(factors[63], 8);
}

}  // namespace
}  // namespace qsweep
