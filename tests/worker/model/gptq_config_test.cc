#include "worker/model/gptq_config.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::FieldOf;
using ::testing::HasSubstr;
using testing::HintOf;

// With more fields than bits and group_size.
absl::StatusOr<GptqConfig> ReadConfig(const std::string& more) {
  return GptqConfig::ReadQuantizeConfig(
      absl::StrCat(R"({"bits": 4, "group_size": 128)", more, "}"), "q.json");
}

constexpr char kLayer3Q[] = "model.layers.3.self_attn.q_proj";

TEST(GptqConfig, ReadsWhatAutoGptqWrites) {
  const auto config = ReadConfig(R"(, "damp_percent": 0.1, "desc_act": true,
      "static_groups": false, "sym": false, "true_sequential": true,
      "model_name_or_path": "x", "model_file_base_name": "model")");
  QSWEEP_ASSERT_OK(config);
  EXPECT_EQ(config->common(),
            (GptqModule{.bits = 4, .group_size = 128, .symmetric = false}));
  EXPECT_TRUE(config->zeros_minus_one());
  EXPECT_EQ(*config->Find(kLayer3Q, false), config->common());
  EXPECT_EQ(*config->Find("lm_head", true), std::nullopt);
}

TEST(GptqConfig, ReadsWhatGptqModelWrites) {
  const auto config = GptqConfig::ReadQuantizeConfig(  // version 7.7.0
      R"({"bits": 4,
          "dynamic": {"-:.*\\.1\\.mlp.*": {}, "+:.*q_proj": {"bits": 8}},
          "group_size": 32, "desc_act": false, "lm_head": true,
          "method": "gptq", "quant_method": "gptq", "format": "gptq_v2",
          "checkpoint_format": "gptq_v2", "pack_dtype": "int32",
          "meta": {"quantizer": ["gptqmodel:7.7.0"], "damp_percent": 0.05,
                   "static_groups": false, "gptaq": null,
                   "act_group_aware": true,
                   "hessian": {"staging_dtype": "float32"}},
          "sym": true})",
      "q.json");
  QSWEEP_ASSERT_OK(config);
  EXPECT_EQ(config->common(), (GptqModule{.bits = 4, .group_size = 32}));
  EXPECT_FALSE(config->zeros_minus_one());
  EXPECT_EQ(*config->Find("lm_head", true), config->common());
  EXPECT_EQ(*config->Find("model.layers.1.mlp.up_proj", false), std::nullopt);
  EXPECT_EQ(*config->Find(kLayer3Q, false),
            (GptqModule{.bits = 8, .group_size = 32}));
}

TEST(GptqConfig, IsPartOfConfigJson) {
  const auto config = GptqConfig::ReadConfigJson(
      R"({"model_type": "llama", "quantization_config":
          {"bits": 8, "group_size": -1, "quant_method": "gptq"}})",
      "config.json");
  QSWEEP_ASSERT_OK(config);
  ASSERT_TRUE(config->has_value());
  EXPECT_EQ((*config)->common(), (GptqModule{.bits = 8, .group_size = 0}));
  const auto none = GptqConfig::ReadConfigJson(
      R"({"quantization_config": null})", "config.json");
  QSWEEP_ASSERT_OK(none);
  EXPECT_FALSE(none->has_value());
}

TEST(GptqConfig, TakesTheFirstPatternThatFitsFromTheStart) {
  const auto config = ReadConfig(R"(, "dynamic": {
      "-:.*\\.3\\.self_attn\\.k_proj": {},
      "+:.*\\.3\\..*": {"bits": 8, "group_size": 32},
      ".*\\.3\\..*": {"bits": 2},
      "layers": {"bits": 2},
      "model\\.layers\\.(?:4|5)\\.": {"sym": false}})");
  QSWEEP_ASSERT_OK(config);
  EXPECT_EQ(*config->Find("model.layers.3.self_attn.k_proj", false),
            std::nullopt);
  EXPECT_EQ(*config->Find(kLayer3Q, false),
            (GptqModule{.bits = 8, .group_size = 32}));
  EXPECT_EQ(*config->Find("model.layers.0.mlp.up_proj", false),
            config->common());
  EXPECT_EQ(*config->Find("model.layers.5.mlp.up_proj", false),
            (GptqModule{.bits = 4, .group_size = 128, .symmetric = false}));
}

TEST(GptqConfig, LeavesModulesAlone_ThatItDoesNotName) {
  for (const char* list : {R"([["self_attn.q_proj"], ["mlp.up_proj"]])",
                           R"(["self_attn.q_proj", "mlp.up_proj"])"}) {
    const auto config =
        ReadConfig(absl::StrCat(", \"modules_in_block_to_quantize\": ", list));
    QSWEEP_ASSERT_OK(config);
    EXPECT_EQ(*config->Find(kLayer3Q, false), config->common());
    EXPECT_EQ(*config->Find("model.layers.3.mlp.down_proj", false),
              std::nullopt);
  }
}

TEST(GptqConfig, ComparesWhatItSays) {
  const auto config = ReadConfig(R"(, "dynamic": {"a": {"bits": 8}})");
  QSWEEP_ASSERT_OK(config);
  EXPECT_TRUE(config->SameAs(
      *ReadConfig(R"(, "dynamic": {"a": {"bits": 8}}, "x": 1)")));
  for (const char* other :
       {"", R"(, "dynamic": {"a": {"bits": 2}})",
        R"(, "dynamic": {"b": {"bits": 8}})", R"(, "dynamic": {"-:a": {}})",
        R"(, "dynamic": {"a": {"bits": 8}}, "sym": false)",
        R"(, "dynamic": {"a": {"bits": 8}}, "lm_head": true)",
        R"(, "dynamic": {"a": {"bits": 8}}, "checkpoint_format": "gptq_v2")",
        R"(, "dynamic": {"a": {"bits": 8}},
           "modules_in_block_to_quantize": ["x"])"}) {
    const auto read = ReadConfig(other);
    QSWEEP_ASSERT_OK(read);
    EXPECT_FALSE(config->SameAs(*read)) << other;
  }
}

TEST(GptqConfig, RefusesWhatItCannotRead) {
  struct Case {
    const char* json;
    const char* code;
    const char* text;
  };
  for (const Case& c : {
           Case{"", "QS3003", "not a JSON object"},
           Case{"[1]", "QS3003", "not a JSON object"},
           Case{R"({"bits": 4, "gro)", "QS3003", "not a JSON object"},
           Case{R"({"group_size": 128})", "QS3011", "no bits"},
           Case{R"({"bits": 4})", "QS3011", "no group_size"},
           Case{R"({"bits": "4", "group_size": 128})", "QS3011", "bits"},
           Case{R"({"bits": -4, "group_size": 128})", "QS3011", "bits"},
           Case{R"({"bits": 5, "group_size": 128})", "QS3009", "5 bits"},
           Case{R"({"bits": 4, "group_size": 0})", "QS3011", "group_size"},
           Case{R"({"bits": 4, "group_size": -128})", "QS3011", "group_size"},
           Case{R"({"bits": 4, "group_size": 1.5})", "QS3011", "group_size"},
           Case{R"({"bits": 4, "group_size": 99999999999})", "QS3011",
                "group_size"},
           Case{R"({"bits": 4, "group_size": 128, "sym": "yes"})", "QS3011",
                "sym"},
           Case{R"({"bits": 4, "group_size": 128, "lm_head": 1})", "QS3011",
                "lm_head"},
           Case{R"({"quant_method": "awq"})", "QS3009", "'awq'"},
           Case{R"({"method": "bitsandbytes"})", "QS3009", "'bitsandbytes'"},
           Case{R"({"checkpoint_format": "marlin"})", "QS3009", "'marlin'"},
           Case{R"({"is_marlin_format": true})", "QS3009", "'marlin'"},
           Case{R"({"format": "gptq", "checkpoint_format": "gptq_v2"})",
                "QS3011", "checkpoint_format is 'gptq_v2'"},
           Case{R"({"pack_dtype": "int64"})", "QS3009", "int64"},
           Case{R"({"bits": 4, "group_size": 1, "dynamic": []})", "QS3011",
                "dynamic"},
           Case{R"({"bits": 4, "group_size": 1, "dynamic": {"a": 3}})",
                "QS3011", "'a' is not an object"},
           Case{R"({"bits": 4, "group_size": 1, "dynamic": {"a":
                {"bits": 7}}})",
                "QS3009", "7 bits"},
           Case{R"({"bits": 4, "group_size": 1, "dynamic": {"a":
                {"group_size": -2}}})",
                "QS3011", "group_size"},
           Case{R"({"bits": 4, "group_size": 1, "dynamic": {"-:(a": {}}})",
                "QS3009", "the pattern '-:(a'"},
           Case{R"({"bits": 4, "group_size": 1,
                "modules_in_block_to_quantize": [[3]]})",
                "QS3011", "modules_in_block_to_quantize"},
           Case{R"({"bits": 4, "group_size": 1,
                "modules_in_block_to_quantize": "x"})",
                "QS3011", "modules_in_block_to_quantize"},
       }) {
    SCOPED_TRACE(c.json);
    const auto config = GptqConfig::ReadQuantizeConfig(c.json, "q.json");
    EXPECT_EQ(CodeOf(config), c.code);
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(c.text));
    EXPECT_EQ(FieldOf(config), "q.json");
    EXPECT_FALSE(HintOf(config).empty());
  }
}

TEST(GptqConfig, GivesUpAPattern_ThatTakesTooLong) {
  const auto config = ReadConfig(
      R"(, "dynamic": {".*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*\\d\\d\\d": {}})");
  QSWEEP_ASSERT_OK(config);
  const auto module = config->Find(kLayer3Q, false);
  EXPECT_EQ(CodeOf(module), "QS3009");
  EXPECT_THAT(std::string(module.status().message()), HasSubstr("steps"));
}

}  // namespace
}  // namespace qsweep
