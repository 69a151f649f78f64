// Checkpoints whose weights GPTQ has packed.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"
#include "tests/support/gptq_llama.h"
#include "tests/support/temp_dir.h"
#include "worker/model/checkpoint.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::FieldOf;
using testing::GptqLlama;
using ::testing::HasSubstr;
using testing::HintOf;
using testing::TempDir;

constexpr char kQ[] = "model.layers.1.self_attn.q_proj";

// What a model of this kind is read as. It must open.
ModelDescription ExpectRead(GptqLlama model) {
  const TempDir directory;
  model.WriteTo(directory);
  const auto checkpoint = Checkpoint::Open(directory.path());
  QSWEEP_EXPECT_OK(checkpoint);
  if (!checkpoint.ok()) {
    return {};
  }
  for (const auto& [name, expected] : model.weights) {
    std::vector<float> got(expected.size());
    QSWEEP_EXPECT_OK((*checkpoint)->ReadTensor(name, got));
    EXPECT_EQ(got, expected) << name;
    EXPECT_EQ((*checkpoint)->FindPlain(name).has_value(),
              !(absl::EndsWith(name, "_proj.weight") ||
                (model.pack_head && name == "lm_head.weight")) ||
                  (model.bits_of &&
                   model.bits_of(name.substr(0, name.size() - 7)) == 0));
  }
  const auto description = (*checkpoint)->Describe("");
  QSWEEP_EXPECT_OK(description);
  return *description;
}

TEST(GptqCheckpoint, ReadsEveryKindOfPacking) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const int64_t group_size : {int64_t{-1}, int64_t{32}, int64_t{128}}) {
      for (const bool minus_one : {false, true}) {
        for (const bool act_order : {false, true}) {
          SCOPED_TRACE(absl::StrCat(bits, " bits, group ", group_size, ", v",
                                    minus_one ? 1 : 2, ", act ", act_order));
          const ModelDescription model = ExpectRead({.bits = bits,
                                                     .group_size = group_size,
                                                     .minus_one = minus_one,
                                                     .act_order = act_order});
          EXPECT_EQ(model.prequantized,
                    bits == 8 ? "prequantized8" : "prequantized");
        }
      }
    }
  }
}

TEST(GptqCheckpoint, FindsTheConfiguration_WhereverItIs) {
  ExpectRead({.config_name = ""});
  ExpectRead({.symmetric = true, .write_g_idx = false});
  ExpectRead({.weights_name = "gptq_model-4bit-32g.safetensors"});
  ExpectRead(
      {.group_size = -1, .weights_name = "gptq_model-4bit--1g.safetensors"});
  ExpectRead({.llama = {.layers = 1, .tied_head = false}});
}

TEST(GptqCheckpoint, ReadsAPackedHead_WhenTheConfigurationSaysSo) {
  GptqLlama model{
      .pack_head = true,
      .more_config = R"(, "lm_head": true)",
      .llama = {.layers = 1, .vocabulary_size = 288, .tied_head = false}};
  ExpectRead(model);
  model.more_config = "";
  const TempDir directory;
  model.WriteTo(directory);
  const auto checkpoint = Checkpoint::Open(directory.path());
  EXPECT_EQ(CodeOf(checkpoint), "QS3011");
  EXPECT_THAT(std::string(checkpoint.status().message()),
              HasSubstr("'lm_head' is packed, but"));
}

TEST(GptqCheckpoint, ReadsModulesWithBitsOfTheirOwn_AndPlainOnes) {
  const ModelDescription model =
      ExpectRead({.more_config = R"(, "dynamic": {"-:.*\\.0\\..*": {},
                          "+:.*q_proj": {"bits": 8}})",
                  .bits_of = [](const std::string& module) {
                    return absl::StrContains(module, ".0.")      ? 0
                           : absl::StrContains(module, "q_proj") ? 8
                                                                 : 4;
                  }});
  EXPECT_EQ(model.prequantized, "");  // half of it is not
  for (const TensorDescription& tensor : model.tensors) {
    if (tensor.name == absl::StrCat(kQ, ".weight")) {
      // 64 x 64 codes, 2 x 64 zero points, as many scales, 64 groups.
      EXPECT_EQ(tensor.stored_bits,
                (4096 * 8 + 128 * 8 + 128 * 16 + 64 * 32) / 4096.0);
    } else if (tensor.name == "model.layers.0.mlp.up_proj.weight") {
      EXPECT_EQ(tensor.stored_bits, 32);
    }
  }
}

TEST(GptqCheckpoint, IgnoresABias_ThatIsZero) {
  for (const bool zero : {true, false}) {
    GptqLlama model;
    model.edit = [zero](GptqLlama::Tensor& tensor) {
      if (tensor.name == absl::StrCat(kQ, ".g_idx")) {
        tensor = {absl::StrCat(kQ, ".bias"),
                  {64},
                  "F16",
                  std::string(128, zero ? '\0' : '\1')};
      }
      return true;
    };
    const TempDir directory;
    model.WriteTo(directory);
    EXPECT_EQ(CodeOf(Checkpoint::Open(directory.path())),
              zero ? "OK" : "QS3004");
  }
}

absl::StatusOr<Digest> DigestOf(const TempDir& directory) {
  const auto checkpoint = Checkpoint::Open(directory.path());
  if (!checkpoint.ok()) {
    return checkpoint.status();
  }
  const auto description = (*checkpoint)->Describe("");
  return description.ok() ? absl::StatusOr<Digest>(description->digest)
                          : description.status();
}

TEST(GptqCheckpoint, HasADigest_ThatTellsTheFormats) {
  const TempDir directory;
  GptqLlama model;
  model.WriteTo(directory);
  const auto v1 = DigestOf(directory);
  QSWEEP_ASSERT_OK(v1);
  model.minus_one = false;
  directory.Write("quantize_config.json", model.QuantizeConfig());
  const auto v2 = DigestOf(directory);
  QSWEEP_ASSERT_OK(v2);
  EXPECT_NE(*v1, *v2);
}

TEST(GptqCheckpoint, RefusesTwoConfigurations_ThatDisagree) {
  const TempDir directory;
  GptqLlama model{.config_name = ""};
  model.WriteTo(directory);
  directory.Write("quantize_config.json", model.QuantizeConfig());
  QSWEEP_EXPECT_OK(Checkpoint::Open(directory.path()));
  model.minus_one = false;
  directory.Write("quantize_config.json", model.QuantizeConfig());
  const auto checkpoint = Checkpoint::Open(directory.path());
  EXPECT_EQ(CodeOf(checkpoint), "QS3011");
  EXPECT_EQ(FieldOf(checkpoint), directory / "quantize_config.json");
  EXPECT_FALSE(HintOf(checkpoint).empty());
}

TEST(GptqCheckpoint, RefusesWeights_ThatTheConfigurationDenies) {
  struct Case {
    const char* name;
    GptqLlama model;
    const char* code;
    const char* text;
  };
  const auto without = [](const char* part) {
    return [part](GptqLlama::Tensor& tensor) {
      return tensor.name != absl::StrCat(kQ, part);
    };
  };
  for (Case& c : std::vector<Case>{
           {"packed, not said",
            {.more_config = R"(, "dynamic": {"-:.*q_proj":
            {}})"},
            "QS3011",
            "is packed, but the configuration says that"},
           {"said, not packed",
            {.bits_of = [](const std::string& m) { return m == kQ ? 0 : 4; }},
            "QS3011",
            "q_proj' is not packed, but"},
           {"other bits than said",
            {.bits_of = [](const std::string& m) { return m == kQ ? 8 : 4; }},
            "QS3012",
            "q_proj.qweight' has shape [16, 64]"},
           {"no codes",
            {.edit = without(".qweight")},
            "QS3008",
            "q_proj.qweight"},
           {"no zero points",
            {.edit = without(".qzeros")},
            "QS3008",
            "q_proj.qzeros"},
           {"no scales",
            {.edit = without(".scales")},
            "QS3008",
            "q_proj.scales"},
           {"no configuration",
            {.config_name = "other.json"},
            "QS3011",
            "neither config.json nor quantize_config.json"},
           {"symmetric as said",
            {.more_config = R"(, "dynamic":
            {".*q_proj": {"sym": true}})"},
            "QS3011",
            "sym=true"},
           {"a matrix of integers",
            {.edit =
                 [](GptqLlama::Tensor& tensor) {
                   if (tensor.name == "model.norm.weight") {
                     tensor.dtype = "I32";
                   }
                   return true;
                 }},
            "QS3009",
            "model.norm.weight' is stored as I32"},
       }) {
    SCOPED_TRACE(c.name);
    const TempDir directory;
    c.model.WriteTo(directory);
    const auto checkpoint = Checkpoint::Open(directory.path());
    EXPECT_EQ(CodeOf(checkpoint), c.code);
    EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(c.text));
    EXPECT_FALSE(HintOf(checkpoint).empty());
  }
}

TEST(GptqCheckpoint, NamesTheTensor_WhenAScaleIsNotFinite) {
  GptqLlama model;
  model.edit = [](GptqLlama::Tensor& tensor) {
    if (tensor.name == absl::StrCat(kQ, ".scales")) {
      tensor.bytes[2] = '\0';
      tensor.bytes[3] = '\x7c';  // infinity
    }
    return true;
  };
  const TempDir directory;
  model.WriteTo(directory);
  const auto checkpoint = Checkpoint::Open(directory.path());
  QSWEEP_ASSERT_OK(checkpoint);
  std::vector<float> out(64 * 64);
  const absl::Status status =
      (*checkpoint)->ReadTensor(absl::StrCat(kQ, ".weight"), out);
  EXPECT_EQ(CodeOf(status), "QS3007");
  EXPECT_THAT(std::string(status.message()), HasSubstr(kQ));
}

TEST(GptqCheckpoint, RefusesAFile_ThatIsCutAnywhere) {
  const TempDir directory;
  GptqLlama model{.llama = {.layers = 1}};
  model.WriteTo(directory);
  const std::string path = directory / "model.safetensors";
  std::ifstream in(path, std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(in), {}};
  for (size_t size = 0; size < whole.size(); size += whole.size() / 50) {
    directory.Write("model.safetensors", whole.substr(0, size));
    const std::string code = CodeOf(Checkpoint::Open(directory.path()));
    EXPECT_TRUE(code == "QS3002" || code == "QS3003") << size << ": " << code;
  }
}

// Whatever a byte of the header or the numbers becomes: an answer.
TEST(GptqCheckpoint, AnswersWithACode_WhateverAByteBecomes) {
  const TempDir directory;
  GptqLlama model{.act_order = true, .llama = {.layers = 1}};
  model.WriteTo(directory);
  const std::string path = directory / "model.safetensors";
  std::ifstream in(path, std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(in), {}};
  Random random(3);
  int refused = 0;
  for (int i = 0; i < 300; ++i) {
    std::string damaged = whole;
    // Half of them in the header.
    const size_t range = i % 2 == 0 ? 3000 : whole.size();
    damaged[static_cast<size_t>(random.Uniform() *
                                static_cast<double>(range))] =
        static_cast<char>(random.Uniform() * 256);
    directory.Write("model.safetensors", damaged);
    const auto checkpoint = Checkpoint::Open(directory.path());
    if (!checkpoint.ok()) {
      ++refused;
      EXPECT_TRUE(absl::StartsWith(CodeOf(checkpoint), "QS3"));
      continue;
    }
    std::vector<float> out(64 * 64);
    const absl::Status read =
        (*checkpoint)
            ->ReadTensor("model.layers.0.self_attn.q_proj.weight", out);
    EXPECT_TRUE(read.ok() || CodeOf(read) == "QS3007");
  }
  EXPECT_GT(refused, 50);
}

}  // namespace
}  // namespace qsweep
