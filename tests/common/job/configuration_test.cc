#include "common/job/configuration.h"

#include <cmath>
#include <cstdint>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/job/canonical_spelling.h"
#include "tests/support/error_matchers.h"
#include "tests/support/model_descriptions.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::FieldOf;
using testing::Gpt2Description;
using ::testing::HasSubstr;
using testing::HintOf;

Configuration Make(const ModelDescription& model, const std::string& quantizer,
                   const std::string& layer_set) {
  const auto configuration =
      ParseConfiguration(model, quantizer, layer_set, Compute::kFp32);
  EXPECT_EQ(configuration.status(), absl::OkStatus())
      << quantizer << " " << layer_set;
  return *configuration;
}

int64_t Quantized(const ModelDescription& model, const std::string& quantizer) {
  const Configuration configuration = Make(model, quantizer, "none");
  int64_t parameters = 0;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    if (configuration.schemes[i]) {
      parameters += model.tensors[i].num_elements();
    }
  }
  return parameters;
}

TEST(InScope, FollowsThePresets_OnGpt2) {
  const ModelDescription model = Gpt2Description();
  EXPECT_EQ(Quantized(model, "upstream:p5-weights"), 124'337'664);
  EXPECT_EQ(Quantized(model, "upstream:p5-all"), 124'439'808);
  EXPECT_EQ(Quantized(model, "upstream:p5-final"), 124'337'664 - 768);
  EXPECT_EQ(Quantized(model, "upstream:fairness-cli"), 124'337'664 - 768);
  // Embeddings and linears; no norm gain.
  EXPECT_EQ(Quantized(model, "upstream:gpu"), 124'337'664 - 25 * 768);
  EXPECT_EQ(Quantized(model, "rtn"), 12 * 12 * 768 * 768);
  // gpu001 looks for "model.layers.": GPT-2 has none.
  EXPECT_EQ(CodeOf(ParseConfiguration(model, "upstream:gpu001", "none",
                                      Compute::kFp32)),
            "QS1050");
}

TEST(InScope, KeepsThirteenNorms_OnOptUnderP5Final) {
  const ModelDescription model = testing::Opt125mDescription();
  EXPECT_EQ(model.num_parameters(), 125'239'296);
  EXPECT_EQ(Quantized(model, "upstream:p5-weights") -
                Quantized(model, "upstream:p5-final"),
            13 * 768);
  EXPECT_EQ(Quantized(model, "upstream:fairness-cli"),
            Quantized(model, "upstream:p5-weights"));
}

TEST(InScope, FollowsThePresets_OnLlama) {
  const ModelDescription model = testing::Llama2Description();
  EXPECT_EQ(model.num_parameters(), 6'738'415'616);
  const int64_t linears = 32 * (202'383'360LL - 2 * 4096);
  EXPECT_EQ(Quantized(model, "rtn"), linears);
  EXPECT_EQ(Quantized(model, "upstream:gpu001"), linears);
  EXPECT_EQ(Quantized(model, "upstream:gpu"), linears + 2 * 32000LL * 4096);
  EXPECT_EQ(testing::SmolLm2Description().num_parameters(), 134'515'008);
}

TEST(InScope, TakesQueryNorms_UnderGpu001) {
  const TensorDescription norm = {
      .name = "model.layers.0.self_attn.q_norm.weight",
      .layer = 0,
      .component = Component::kQNorm,
      .shape = {64}};
  EXPECT_TRUE(InScope(Scope::kGpu001, norm));
  EXPECT_FALSE(InScope(Scope::kGpu, norm));
}

TEST(Overhead, MatchesTheEarlierWorksNumbers) {
  const ModelDescription gpt2 = Gpt2Description();
  const auto percent = [](double share) { return 100 * share; };
  EXPECT_NEAR(percent(Make(gpt2, "upstream:p5-weights", "L0").overhead.params),
              5.6890, 5e-5);
  EXPECT_NEAR(percent(Make(gpt2, "upstream:p5-all", "L0").overhead.params),
              5.6958, 5e-5);
  EXPECT_NEAR(
      percent(Make(gpt2, "upstream:p5-weights", "L0+L11").overhead.params),
      11.3781, 5e-5);
  EXPECT_NEAR(percent(Make(gpt2, "upstream:p5-all", "L0+L11").overhead.params),
              11.3916, 5e-5);
  EXPECT_NEAR(percent(Make(gpt2, "upstream:p5-final", "L0+L11").overhead.kept),
              11.4608, 5e-5);
  EXPECT_NEAR(
      percent(Make(gpt2, "upstream:p5-weights", "L0+L9+L11").overhead.params),
      17.0671, 5e-5);
  EXPECT_NEAR(
      percent(Make(gpt2, "upstream:p5-all", "L0+L9+L11").overhead.params),
      17.0875, 5e-5);
  EXPECT_NEAR(
      percent(Make(gpt2, "upstream:p5-final", "L0+L9+L11").overhead.kept),
      17.1498, 5e-5);
  EXPECT_NEAR(percent(Make(testing::Opt125mDescription(), "upstream:p5-weights",
                           "L0+L11")
                          .overhead.params),
              11.3054, 5e-5);
  const Configuration llama =
      Make(testing::Llama2Description(), "upstream:gpu", "L0+L31");
  EXPECT_NEAR(percent(llama.overhead.params), 6.007, 5e-4);
  EXPECT_DOUBLE_EQ(percent(llama.overhead.layers), 6.25);
}

TEST(Overhead, CountsBytesAgainstTheUnprotectedModel) {
  // One layer of two; 64 weights a row: b_eff = 4.5 exactly.
  const ModelDescription model = testing::LlamaDescription(
      "m", {.layers = 2, .hidden = 64, .key_value = 64, .feed_forward = 64});
  const double layer = 7 * 64 * 64;
  const double rest = 32 * 64 + 64 + 4 * 64;  // embedding and norms at 16 bits
  const double unprotected = 2 * layer * 4.5 + rest * 16;
  EXPECT_DOUBLE_EQ(Make(model, "rtn:group=64", "L0").overhead.bytes,
                   layer * (16 - 4.5) / unprotected);
  EXPECT_DOUBLE_EQ(Make(model, "rtn:group=64", "L0:int8").overhead.bytes,
                   layer * 4 / unprotected);
  EXPECT_EQ(Make(model, "rtn:group=64", "none").overhead.bytes, 0);
}

TEST(Overhead, CountsWhatIsKeptByMagnitude) {
  // As the earlier work's "5 % of the weights": no other tensor is kept.
  const ModelDescription gpt2 = Gpt2Description();
  const Overhead top5 = Make(gpt2, "upstream:p5-weights", "top5%").overhead;
  EXPECT_DOUBLE_EQ(top5.params, 6'216'883.0 / 124'439'808);
  EXPECT_DOUBLE_EQ(top5.kept, (6'216'883.0 + 102'144) / 124'439'808);
  EXPECT_EQ(top5.layers, 0);
  const ModelDescription model = testing::LlamaDescription(
      "m", {.layers = 2, .hidden = 64, .key_value = 64, .feed_forward = 64});
  const double layer = 7 * 64 * 64;
  const double rest = 32 * 64 + 64 + 4 * 64;
  const double kept = std::floor((2 * layer + rest) / 10);
  const double unprotected = 2 * layer * 4.5 + rest * 16;
  EXPECT_DOUBLE_EQ(Make(model, "rtn:group=64", "top10%").overhead.bytes,
                   kept * (16 - 4.5) / unprotected);
  // The kept ones of a layer with 8 bits, half of what is quantized.
  EXPECT_DOUBLE_EQ(Make(model, "rtn:group=64", "L0:int8+top10%").overhead.bytes,
                   (layer * 4 + kept * (16 - 6.5)) / unprotected);
  // No more than what a layer leaves.
  const Overhead most = Make(model, "rtn:group=64", "L0+top99%").overhead;
  EXPECT_DOUBLE_EQ(most.params, 2 * layer / (2 * layer + rest));
  EXPECT_DOUBLE_EQ(most.kept, 1);
}

TEST(MakeConfiguration, KeepsLargestWeights_NotBiases) {
  const ModelDescription model = testing::Opt125mDescription();
  const Configuration all = Make(model, "upstream:p5-all", "L0+top1%");
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    if (model.tensors[i].layer == 0) {
      EXPECT_FALSE(all.schemes[i]);
      continue;
    }
    ASSERT_TRUE(all.schemes[i]);
    const bool weight = model.tensors[i].name.ends_with("weight");
    EXPECT_EQ(all.schemes[i]->kept_millionths, weight ? 10'000 : 0)
        << model.tensors[i].name;
  }
  EXPECT_FALSE(all.unprotected);
  EXPECT_EQ(all.single_layer, std::nullopt);
  EXPECT_FALSE(Make(model, "rtn", "top1%").unprotected);
}

TEST(MakeConfiguration, HasADigestPerShareThatIsKept) {
  const ModelDescription model = testing::SmolLm2Description();
  const Configuration one = Make(model, "rtn", "L0+top1%");
  EXPECT_EQ(one.digest, Make(model, "rtn", "top1.0000%+L0").digest);
  std::set<Digest> digests = {one.digest};
  for (const char* other : {"L0", "L0+top1.0001%", "L1+top1%", "top1%"}) {
    EXPECT_TRUE(digests.insert(Make(model, "rtn", other).digest).second)
        << other;
  }
  EXPECT_THAT(CanonicalText(model, one),
              HasSubstr("1 q weight rtn;bits=4;gran=group;group=128;sym=1;"
                        "grid=absmax;arith=fp32;scale=fp32;top1%\n"));
}

TEST(MakeConfiguration, KeepsNoWeightsOfCalibratedQuantizers) {
  const ModelDescription model = testing::SmolLm2Description();
  for (const char* quantizer : {"gptq:group=64,texts=0123456789abcdef",
                                "awq:group=64,texts=0123456789abcdef"}) {
    const auto made =
        ParseConfiguration(model, quantizer, "L0+top5%", Compute::kFp32);
    EXPECT_EQ(CodeOf(made), "QS1013");
    EXPECT_THAT(std::string(made.status().message()),
                HasSubstr("top5% under "));
  }
}

constexpr char kCheckpoint[] =
    "checkpoint:path=/c,digest=0123456789abcdef,bits=4.5";

TEST(MakeConfiguration, TakesEveryTensorOfAReadyCheckpoint) {
  const ModelDescription model = testing::LlamaDescription(
      "m", {.layers = 2, .hidden = 64, .key_value = 64, .feed_forward = 64});
  const Configuration none = Make(model, kCheckpoint, "none");
  const Configuration first = Make(model, kCheckpoint, "L0");
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    EXPECT_TRUE(none.schemes[i]);
    EXPECT_EQ(first.schemes[i].has_value(), model.tensors[i].layer != 0);
  }
  EXPECT_TRUE(none.unprotected);
  EXPECT_EQ(first.single_layer, 0);
  EXPECT_THAT(CanonicalText(model, first), HasSubstr("0 q weight fp\n"));
  EXPECT_THAT(CanonicalText(model, first),
              HasSubstr("1 q weight checkpoint;digest=0123456789abcdef\n"));
  // Overhead is of the linear layers, which it has other bits of.
  const double layer = 7 * 64 * 64;
  const double rest = 32 * 64 + 64 + 4 * 64;
  EXPECT_DOUBLE_EQ(first.overhead.bytes,
                   layer * (16 - 4.5) / (2 * layer * 4.5 + rest * 16));
  EXPECT_DOUBLE_EQ(first.overhead.params, layer / (2 * layer + rest));
  EXPECT_DOUBLE_EQ(first.overhead.kept, (layer + rest) / (2 * layer + rest));
  EXPECT_DOUBLE_EQ(first.overhead.layers, 0.5);
  EXPECT_EQ(none.overhead.bytes, 0);
}

TEST(MakeConfiguration, NamesACheckpointByItsDigest_NotItsPath) {
  const ModelDescription model = testing::TinyLlamaDescription();
  const Configuration made = Make(model, kCheckpoint, "L0");
  EXPECT_EQ(
      made.digest,
      Make(model, "checkpoint:digest=0123456789abcdef,bits=4.5", "L0").digest);
  EXPECT_NE(
      made.digest,
      Make(model, "checkpoint:path=/c,digest=0123456789abcdee,bits=4.5", "L0")
          .digest);
  EXPECT_EQ(CodeOf(ParseConfiguration(model, "checkpoint:path=/c", "L0",
                                      Compute::kFp32)),
            "QS1003");
  EXPECT_EQ(
      CodeOf(ParseConfiguration(model, kCheckpoint, "L0:int8", Compute::kFp32)),
      "QS1042");
}

TEST(MakeConfiguration, IsTheBaseline_WhenTheWholeScopeIsProtected) {
  const ModelDescription model = testing::TinyLlamaDescription();
  const Configuration baseline = MakeBaseline(model, Compute::kFp32);
  for (const char* layer_set : {"all", "L0-1", "attn+mlp"}) {
    const Configuration made = Make(model, "rtn", layer_set);
    EXPECT_EQ(made.digest, baseline.digest);
    EXPECT_EQ(made.quantizer_text, "fp");
    EXPECT_EQ(made.layer_set_text, "all");
    EXPECT_TRUE(made.baseline());
  }
  EXPECT_FALSE(Make(model, "upstream:gpu", "L0-1").baseline());
  EXPECT_EQ(Make(model, "fp", "all").digest, baseline.digest);
}

TEST(MakeConfiguration, HasOneDigestPerMeaning) {
  const ModelDescription model = testing::TinyLlamaDescription(4);
  const Digest digest = Make(model, "rtn", "L0+L1").digest;
  EXPECT_EQ(Make(model, "rtn:bits=4,group=128", "L1+L0").digest, digest);
  EXPECT_EQ(Make(model, "rtn", "attn@L0-1+mlp@L0-1").digest, digest);
  EXPECT_EQ(Make(model, "rtn", "L0-1+bias+L3:int4").digest, digest);
  EXPECT_NE(Make(model, "rtn:bits=3", "L0+L1").digest, digest);
  EXPECT_NE(Make(model, "rtn", "L0+L1+L3:int8").digest, digest);
  EXPECT_NE(ParseConfiguration(model, "rtn", "L0+L1", Compute::kBf16)->digest,
            digest);
  EXPECT_NE(Make(testing::TinyLlamaDescription(5), "rtn", "L0+L1").digest,
            digest);
}

TEST(MakeConfiguration, HasADigestPerReplicate_ButOneBaseline) {
  const ModelDescription model = testing::TinyLlamaDescription(4);
  std::set<Digest> digests;
  for (const char* quantizer :
       {"rtn:group=4", "rtn:group=4,replicate=1", "rtn:group=4,replicate=2"}) {
    const Configuration made = Make(model, quantizer, "L0+L2:int8");
    digests.insert(made.digest);
    EXPECT_EQ(made.quantizer_text, FormatQuantizer(*ParseQuantizer(quantizer)));
    EXPECT_EQ(CanonicalSpelling(model, made),
              (Spelling{made.quantizer_text, made.layer_set_text}));
    EXPECT_EQ(Make(model, quantizer, "all").digest,
              MakeBaseline(model, Compute::kFp32).digest);
    EXPECT_TRUE(Make(model, quantizer, "none").unprotected);
  }
  EXPECT_EQ(digests.size(), 3u);
}

// Else the same rounding would be stored under two digests.
TEST(MakeConfiguration, RefusesAReplicate_ThatShiftsNoBoundary) {
  const ModelDescription model = testing::TinyLlamaDescription();  // rows of 8
  const auto make = [&](const char* quantizer, const char* layer_set) {
    return ParseConfiguration(model, quantizer, layer_set, Compute::kFp32);
  };
  QSWEEP_EXPECT_OK(make("rtn:group=16,replicate=1", "none"));  // of down: 16
  const auto longer = make("rtn:group=32,replicate=1", "none");
  EXPECT_EQ(CodeOf(longer), "QS1004");
  EXPECT_EQ(FieldOf(longer), "replicate");
  EXPECT_EQ(CodeOf(make("rtn:group=16,replicate=1", "down")), "QS1004");
  QSWEEP_EXPECT_OK(make("nf4:group=64,replicate=1", "none"));
  EXPECT_EQ(FieldOf(make("nf4:group=512,replicate=1", "none")), "replicate");
}

TEST(MakeConfiguration, RefusesWhatTheMethodCannotDo) {
  const ModelDescription model = testing::TinyLlamaDescription();
  const auto bits = ParseConfiguration(model, "nf4", "L0:int8", Compute::kFp32);
  EXPECT_EQ(testing::CodeOf(bits), "QS1042");
  EXPECT_EQ(FieldOf(bits), "layers");
  const auto group =
      ParseConfiguration(model, "hqq:group=1000", "none", Compute::kFp32);
  EXPECT_EQ(testing::CodeOf(group), "QS1043");
  EXPECT_EQ(FieldOf(group), "group");
  QSWEEP_EXPECT_OK(
      ParseConfiguration(model, "hqq:group=8", "L0:int8", Compute::kFp32));
  QSWEEP_EXPECT_OK(ParseConfiguration(model, "nf4", "L0:int4", Compute::kFp32));
}

TEST(MakeConfiguration, HasTokenizerAndTextsInTheDigest_OfCalibratedMethods) {
  ModelDescription model = testing::TinyLlamaDescription(2);
  const auto make = [&](absl::string_view quantizer) {
    return ParseConfiguration(model, quantizer, "L0", Compute::kFp32);
  };
  const auto made = make("gptq:group=4,texts=0123456789abcdef");
  QSWEEP_ASSERT_OK(made);
  const std::string text = CanonicalText(model, *made);
  EXPECT_THAT(
      text,
      HasSubstr("\ncalibration=tok=" + model.tokenizer_digest.hex() + "\n"));
  EXPECT_THAT(text,
              HasSubstr("1 q weight gptq;bits=4;gran=group;group=4;sym=1;"
                        "scale=fp32;act_order=0;static_groups=0;damp=0.01;"
                        "calib=fp;texts=0123456789abcdef\n"));
  EXPECT_NE(make("gptq:group=4,texts=0123456789abcdee")->digest, made->digest);
  const auto none = make("gptq:group=4");
  EXPECT_EQ(CodeOf(none), "QS1003");
  EXPECT_EQ(FieldOf(none), "calibration");
  EXPECT_EQ(
      CodeOf(ParseConfiguration(model, "gptq:group=4,texts=0123456789abcdef",
                                "L0:int5", Compute::kFp32)),
      "QS1042");
  const auto uneven = make("awq:group=3,texts=0123456789abcdef");
  EXPECT_EQ(CodeOf(uneven), "QS1043");
  EXPECT_EQ(FieldOf(uneven), "group");
  QSWEEP_EXPECT_OK(make("awq:group=4,texts=0123456789abcdef"));
  // The tokenizer decides nothing where there are no texts.
  const Digest rtn = make("rtn:group=4")->digest;
  model.tokenizer_digest = Digest::Of("other");
  EXPECT_EQ(make("rtn:group=4")->digest, rtn);
  EXPECT_NE(make("gptq:group=4,texts=0123456789abcdef")->digest, made->digest);
}

TEST(MakeConfiguration, TellsExactSchemesWhatIsBeforeTheirLayer) {
  const ModelDescription model = testing::TinyLlamaDescription(4);
  const std::string exact = "gptq:group=4,calib=exact,texts=0123456789abcdef";
  // The path of each layer's down projection; 0: it is kept.
  const auto paths = [&](const std::string& quantizer,
                         const std::string& layer_set) {
    const Configuration configuration = Make(model, quantizer, layer_set);
    std::vector<uint64_t> of_layer;
    for (size_t i = 0; i < model.tensors.size(); ++i) {
      if (model.tensors[i].component == Component::kDown) {
        const std::optional<Scheme>& scheme = configuration.schemes[i];
        of_layer.push_back(scheme ? scheme->calibration_path : 0);
      }
    }
    return of_layer;
  };
  const std::vector<uint64_t> none = paths(exact, "none");
  EXPECT_EQ(std::set<uint64_t>(none.begin(), none.end()).size(), 4u);
  const std::vector<uint64_t> kept = paths(exact, "L1");
  EXPECT_EQ(kept[0], none[0]);
  EXPECT_NE(kept[2], none[2]);
  EXPECT_NE(kept[3], none[3]);
  // What is in the layer itself or after it is not before it.
  const std::vector<uint64_t> parts = paths(exact, "attn@L1+L2:int8+L3:int8");
  EXPECT_EQ(parts[1], none[1]);
  EXPECT_NE(parts[2], none[2]);
  EXPECT_EQ(paths(exact, "attn@L1")[2], parts[2]);
  EXPECT_NE(paths(exact, "attn@L1")[3], parts[3]);
  EXPECT_EQ(paths("gptq:group=4,calib=qpath,texts=0123456789abcdef", "none"),
            std::vector<uint64_t>(4, 0));
  // The set is still told by what quantizers say.
  EXPECT_TRUE(Make(model, exact, "none").unprotected);
  EXPECT_EQ(Make(model, exact, "L2").single_layer, 2);
  EXPECT_NE(
      Make(model, exact, "none").digest,
      Make(model, "gptq:group=4,calib=qpath,texts=0123456789abcdef", "none")
          .digest);
}

TEST(MakeConfiguration, NamesTheSingleLayer) {
  const ModelDescription model = testing::TinyLlamaDescription(4);
  EXPECT_EQ(Make(model, "rtn", "L-1").single_layer, 3);
  EXPECT_EQ(Make(model, "rtn", "L0+L1").single_layer, std::nullopt);
  EXPECT_EQ(Make(model, "rtn", "L0+attn@L1").single_layer, std::nullopt);
  EXPECT_EQ(Make(model, "rtn", "L0+L1:int8").single_layer, std::nullopt);
  EXPECT_EQ(Make(model, "rtn", "none").single_layer, std::nullopt);
  // As L2 in all that is quantized, which for "rtn" are the linear weights.
  EXPECT_EQ(Make(model, "rtn", "attn@L2+mlp@L2").single_layer, 2);
  EXPECT_EQ(Make(model, "rtn", "L2+norm+embed").single_layer, 2);
  EXPECT_EQ(Make(model, "rtn:bits=8", "L2+L3:int8").single_layer, 2);
  EXPECT_EQ(Make(model, "rtn", "attn@L2").single_layer, std::nullopt);
  EXPECT_EQ(Make(model, "upstream:gpu", "L2").single_layer, 2);
  EXPECT_EQ(Make(model, "upstream:gpu", "L2+embed").single_layer, std::nullopt);
  EXPECT_EQ(Make(model, "upstream:gpu", "embed").single_layer, std::nullopt);
}

TEST(MakeConfiguration, IsUnprotected_HoweverNoneIsWritten) {
  const ModelDescription model = testing::TinyLlamaDescription(4);
  for (const char* layer_set : {"none", "norm", "bias", "norm+embed"}) {
    const Configuration made = Make(model, "rtn", layer_set);
    EXPECT_TRUE(made.unprotected) << layer_set;
    EXPECT_EQ(made.digest, Make(model, "rtn", "none").digest) << layer_set;
  }
  EXPECT_FALSE(Make(model, "rtn", "L0").unprotected);
  EXPECT_FALSE(Make(model, "upstream:p5-all", "norm").unprotected);
  EXPECT_FALSE(MakeBaseline(model, Compute::kFp32).unprotected);
  // The same measurements, but no anchor among those of 4 bits.
  const Configuration eight = Make(model, "rtn:bits=4", "L0-3:int8");
  EXPECT_FALSE(eight.unprotected);
  EXPECT_EQ(eight.digest, Make(model, "rtn:bits=8", "none").digest);
  EXPECT_TRUE(Make(model, "rtn:bits=8", "L0-3:int8").unprotected);
}

std::string Golden(const std::string& name) {
  std::ifstream file(QSWEEP_SOURCE_DIR "/tests/golden/" + name);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Keys of stored measurements: a change here orphans everything measured.
TEST(CanonicalText, EqualsTheGoldenVectors) {
  ModelDescription model = testing::TinyLlamaDescription();
  std::string text;
  for (const auto& [quantizer, layer_set] :
       {std::pair{"fp", "all"}, std::pair{"rtn:bits=4,group=64", "L1"},
        std::pair{"upstream:gpu,bits=8,arith=fp16", "attn@L0+L1:int3"},
        std::pair{"rtn:bits=4,group=4,replicate=3", "L1"},
        std::pair{"gptq:group=64,calib=exact,texts=0123456789abcdef",
                  "mlp@L0"}}) {
    const Configuration configuration = Make(model, quantizer, layer_set);
    const std::string canonical = CanonicalText(model, configuration);
    text += canonical + "sha256=" + configuration.digest.hex() + "\n\n";
    EXPECT_EQ(Digest::Of(canonical), configuration.digest);
  }
  EXPECT_EQ(text, Golden("configuration_digests.txt"));
}

TEST(EvaluationText, EqualsTheGoldenVectors) {
  const Digest tokenizer = Digest::Of("tokenizer");
  EXPECT_EQ(*EvaluationText("aligned", tokenizer, 0) + "\n" +
                *EvaluationText("hf-text", tokenizer, 512) + "\n",
            Golden("evaluation_texts.txt"));
}

TEST(EvaluationText, RefusesWhatThisVersionLacks) {
  EXPECT_EQ(CodeOf(EvaluationText("rolling", Digest(), 0)), "QS1052");
  EXPECT_EQ(HintOf(EvaluationText("hftext", Digest(), 0)),
            "Did you mean \"hf-text\"?");
}

}  // namespace
}  // namespace qsweep
