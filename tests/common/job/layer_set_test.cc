#include "common/job/layer_set.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/random.h"
#include "common/job/quantizer.h"
#include "tests/support/damage.h"
#include "tests/support/error_matchers.h"
#include "tests/support/model_descriptions.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::HintOf;
using Choice = ResolvedLayerSet::Choice;

ResolvedLayerSet Resolve(const std::string& text,
                         const ModelDescription& model) {
  const auto set = LayerSet::Parse(text);
  EXPECT_EQ(set.status(), absl::OkStatus()) << text;
  const auto resolved = ResolveLayerSet(*set, model);
  EXPECT_EQ(resolved.status(), absl::OkStatus()) << text;
  return *resolved;
}

// Parameters that the set protects, whatever the scope.
int64_t Protected(const std::string& text, const ModelDescription& model) {
  const ResolvedLayerSet resolved = Resolve(text, model);
  int64_t parameters = 0;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    if (resolved.tensors[i].choice == Choice::kProtected) {
      parameters += model.tensors[i].num_elements();
    }
  }
  return parameters;
}

TEST(LayerSet, KeepsOneSpellingPerItem) {
  for (const auto& [written, want] :
       {std::pair{" L0 + L11+L9:int8 ", "L0+L11+L9:int8"},
        std::pair{"L00:fp", "L0"}, std::pair{"L3-3", "L3"},
        std::pair{"attn@L0-3+mlp@even+q@L75%", "attn@L0-3+mlp@even+q@L75%"},
        std::pair{"L-3--1", "L-3--1"}, std::pair{"none", "none"},
        std::pair{" all", "all"}, std::pair{"norm+bias", "norm+bias"},
        std::pair{"top05.00%", "top5%"}, std::pair{"top.25%", "top0.25%"},
        std::pair{"top99.9999% + L0:int8", "L0:int8+top99.9999%"}}) {
    const auto set = LayerSet::Parse(written);
    QSWEEP_ASSERT_OK(set);
    EXPECT_EQ(set->text(), want);
    EXPECT_EQ(LayerSet::Parse(set->text())->text(), want);
  }
}

TEST(LayerSet, NamesThePosition_WhenTheGrammarIsBroken) {
  struct Case {
    const char* text;
    const char* code;
    const char* message;
  };
  for (const Case& c : {
           Case{"", "QS1010", "empty"},
           Case{"L0++L1", "QS1010", "position 4"},
           Case{"L0+", "QS1010", "position 4"},
           Case{"L0,L1", "QS1010", "position 3"},
           Case{"L", "QS1012", "position 1"},
           Case{"l3", "QS1010", "capital"},
           Case{"L5-3", "QS1010", "backwards"},
           Case{"L-1--2", "QS1010", "backwards"},
           Case{"L101%", "QS1010", "0% to 100%"},
           Case{"L99999999999", "QS1010", "position 2"},
           Case{"L0-", "QS1010", "position 4"},
           Case{"L0 + all", "QS1010", "position 6"},
           Case{"none:int8", "QS1010", "stands alone"},
           Case{"L0:8", "QS1010", "position 4"},
           Case{"L0:int9", "QS1042", "int9"},
           Case{"attn@", "QS1010", "position 6"},
           Case{"attn@x", "QS1010", "position 6"},
           Case{"embed@L0", "QS1010", "outside the layers"},
           Case{"atn@L0", "QS1012", "\"atn\""},
           Case{"L0+L1x", "QS1010", "position 6"},
           Case{"L0+top0%", "QS1010", "position 4"},
           Case{"top100%", "QS1010", "no share"},
           Case{"top0.00001%", "QS1010", "no share"},
           Case{"top5", "QS1010", "no share"},
           Case{"top5%%", "QS1010", "no share"},
           Case{"top-5%", "QS1010", "no share"},
           Case{"top.%", "QS1010", "no share"},
           Case{"top5%:int8", "QS1010", "no share"},
           Case{"top5%+L0+top1%", "QS1010",
                "second share of the largest "
                "weights at position 10"},
           Case{"top@L0", "QS1012", "\"top\""},
       }) {
    SCOPED_TRACE(c.text);
    const auto set = LayerSet::Parse(c.text);
    EXPECT_EQ(CodeOf(set), c.code);
    EXPECT_THAT(std::string(set.status().message()), HasSubstr(c.message));
  }
  EXPECT_EQ(HintOf(LayerSet::Parse("atn@L0")), "Did you mean \"attn\"?");
}

TEST(ResolveLayerSet, RefusesLayersTheModelLacks) {
  const ModelDescription model = testing::SmolLm2Description();
  for (const char* text : {"L99", "L30", "L-31", "L0-30", "attn@L30"}) {
    const auto resolved = ResolveLayerSet(*LayerSet::Parse(text), model);
    EXPECT_EQ(CodeOf(resolved), "QS1011") << text;
  }
  const auto resolved = ResolveLayerSet(*LayerSet::Parse("L99"), model);
  EXPECT_THAT(std::string(resolved.status().message()),
              HasSubstr("L99 is not a layer of SmolLM2-135M-Instruct, which "
                        "has L0-29"));
  EXPECT_EQ(HintOf(resolved), "Use L0 to L29, or L-1 to L-30 from the end.");
}

TEST(ResolveLayerSet, RefusesComponentsTheModelLacks) {
  const ModelDescription llama = testing::TinyLlamaDescription();
  EXPECT_EQ(CodeOf(ResolveLayerSet(*LayerSet::Parse("qkv@L0"), llama)),
            "QS1012");
  EXPECT_EQ(CodeOf(ResolveLayerSet(*LayerSet::Parse("embed.pos"), llama)),
            "QS1012");
  EXPECT_EQ(CodeOf(ResolveLayerSet(*LayerSet::Parse("q"),
                                   testing::Gpt2Description())),
            "QS1012");
  // The one word that may mean nothing: no biases, nothing to keep.
  QSWEEP_EXPECT_OK(ResolveLayerSet(*LayerSet::Parse("bias"), llama));
}

TEST(ResolveLayerSet, MapsDepthToLayers) {
  // Table of quantization.md: 75% of 12, 30, 32 and 80 layers.
  for (const auto& [layers, want] :
       {std::pair{12, "L9"}, std::pair{30, "L22"}, std::pair{32, "L24"},
        std::pair{80, "L60"}}) {
    EXPECT_EQ(Resolve("L75%", testing::TinyLlamaDescription(layers)).text,
              want);
  }
  const ModelDescription model = testing::TinyLlamaDescription(5);
  EXPECT_EQ(Resolve("L100%+L-5", model).text, "L0+L4");
  EXPECT_EQ(Resolve("even", model).text, "L0+L2+L4");
  EXPECT_EQ(Resolve("odd", model).text, "L1+L3");
  EXPECT_EQ(Resolve("L1--2", model).text, "L1-3");
}

TEST(ResolveLayerSet, IsNone_WhenItNamesNoLayer) {
  const ModelDescription model = testing::TinyLlamaDescription(1);
  for (const char* text : {"odd", "attn@odd", "odd:int8+attn@odd"}) {
    EXPECT_EQ(Resolve(text, model).text, "none") << text;
  }
  EXPECT_EQ(Resolve("attn@odd+L0:int8", model).text, "L0:int8");
}

TEST(ResolveLayerSet, KeepsAShareOfTheLargest_BesideWhatItProtects) {
  const ModelDescription model = testing::SmolLm2Description();
  const ResolvedLayerSet resolved = Resolve("L1+top5%+L0", model);
  EXPECT_EQ(resolved.text, "L0-1+top5%");
  EXPECT_EQ(resolved.kept_millionths, 50'000);
  EXPECT_THAT(resolved.layers, ElementsAre(0, 1));
  EXPECT_EQ(Resolve("top0.0625%", model).text, "top0.0625%");
  EXPECT_EQ(Resolve("none", model).kept_millionths, 0);
  // 0.5 of a weight.
  ModelDescription small = testing::TinyLlamaDescription(1);
  const auto weights = static_cast<double>(small.num_parameters());
  const int half = static_cast<int>(1e6 * 0.5 / weights);
  ASSERT_GT(half, 0);
  const std::string text = KeptShareText(half);
  EXPECT_EQ(Resolve("L0+" + text, small).kept_millionths, 0) << text;
  EXPECT_EQ(Resolve("L0+" + text, small).text, "L0");
}

// Weight-named parameters, not biases: floor(5 % of 124,337,664).
TEST(NumKept, IsThatOfTheEarlierWork_OnGpt2) {
  const ModelDescription gpt2 = testing::Gpt2Description();
  EXPECT_EQ(NumKept(gpt2, 50'000), 6'216'883);
  EXPECT_EQ(NumKept(gpt2, 999'999), 124'337'539);
  EXPECT_EQ(NumKept(gpt2, 1), 124);
  EXPECT_EQ(NumKept(gpt2, 0), 0);
}

TEST(ResolveLayerSet, LetsLaterItemsWin) {
  const ModelDescription model = testing::TinyLlamaDescription(4);
  EXPECT_EQ(Resolve("L0-3+L2:int8", model).text, "L0-1+L3+L2:int8");
  EXPECT_EQ(Resolve("L2:int8+L0-3", model).text, "L0-3");
  const ResolvedLayerSet mixed = Resolve("L0+mlp@L0:int8", model);
  EXPECT_EQ(mixed.text, "L0+mlp@L0:int8");
  EXPECT_TRUE(mixed.layers.empty());
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    if (model.tensors[i].layer == 0) {
      EXPECT_EQ(mixed.tensors[i].choice, IsMlp(model.tensors[i].component)
                                             ? Choice::kBits
                                             : Choice::kProtected);
    }
  }
}

TEST(ResolveLayerSet, JoinsWhatMeansTheSame) {
  const ModelDescription model = testing::TinyLlamaDescription(4);
  EXPECT_EQ(Resolve("L3+L0+L1+L0", model).text, "L0-1+L3");
  EXPECT_EQ(Resolve("mlp@L1+attn@L0+L2+mlp@L2", model).text,
            "L2+attn@L0+mlp@L1");
  EXPECT_EQ(Resolve("attn@even+attn@odd", model).text, "attn");
  EXPECT_EQ(Resolve("head", model).text, "embed.token");  // tied
  EXPECT_EQ(Resolve("none", model).text, "none");
}

TEST(ResolveLayerSet, FindsWholeLayers) {
  const ModelDescription model = testing::TinyLlamaDescription(3);
  EXPECT_THAT(Resolve("L0+L-1", model).layers, ElementsAre(0, 2));
  EXPECT_THAT(Resolve("attn@L1+mlp@L1+norm@L1", model).layers, ElementsAre(1));
  EXPECT_THAT(Resolve("all", model).layers, ElementsAre(0, 1, 2));
  EXPECT_TRUE(Resolve("attn@L1+embed", model).layers.empty());
}

TEST(ResolveLayerSet, OwnsTheParametersOfGpt2) {
  const ModelDescription model = testing::Gpt2Description();
  EXPECT_EQ(model.num_parameters(), 124'439'808);
  EXPECT_EQ(Protected("L0", model), 7'087'872);
  EXPECT_EQ(Protected("embed.token", model), 38'597'376);
  EXPECT_EQ(Protected("head", model), 38'597'376);
  EXPECT_EQ(Protected("embed.pos", model), 786'432);
  EXPECT_EQ(Protected("embed", model), 38'597'376 + 786'432);
  EXPECT_EQ(Protected("norm", model), 38'400);
  EXPECT_EQ(Protected("norm@L0", model), 3'072);
  EXPECT_EQ(Protected("norm.final", model), 1'536);
  EXPECT_EQ(Protected("attn@L0", model), 2'362'368);
  EXPECT_EQ(Protected("mlp@L0", model), 4'722'432);
  EXPECT_EQ(Protected("qkv@L0", model), 1'769'472 + 2'304);
  EXPECT_EQ(Protected("bias", model), 102'144);
}

// A resolved text is what workers get: it must mean the same there.
TEST(ResolveLayerSet, ParsesBackToTheSameChoices) {
  const char* const components[] = {"",      "attn@", "mlp@", "norm@",
                                    "bias@", "q@",    "up@",  "norm1@"};
  const char* const globals[] = {"attn", "norm", "bias",       "embed",
                                 "head", "q",    "norm.final", "embed.token"};
  const char* const layers[] = {"L0",   "L1-3", "L-1",   "L50%",
                                "even", "odd",  "L4--2", "L5"};
  const char* const precisions[] = {"", "", "", ":int8", ":int3", ":fp"};
  const ModelDescription model = testing::TinyLlamaDescription(7);
  Random random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    const uint64_t items = 1 + random.Below(5);
    for (uint64_t i = 0; i < items; ++i) {
      text += i == 0 ? "" : "+";
      if (random.Below(4) == 0) {
        text += globals[random.Below(std::size(globals))];
      } else {
        text += components[random.Below(std::size(components))];
        text += layers[random.Below(std::size(layers))];
      }
      text += precisions[random.Below(std::size(precisions))];
    }
    SCOPED_TRACE(text);
    const ResolvedLayerSet first = Resolve(text, model);
    const ResolvedLayerSet second = Resolve(first.text, model);
    EXPECT_EQ(second.text, first.text);
    for (size_t i = 0; i < model.tensors.size(); ++i) {
      ASSERT_EQ(first.tensors[i].choice, second.tensors[i].choice)
          << first.text << ": " << model.tensors[i].name;
      ASSERT_EQ(first.tensors[i].bits, second.tensors[i].bits);
    }
  }
}

TEST(LayerSet, ReadsOrRefusesWithACode_WhateverTheText) {
  const ModelDescription model = testing::TinyLlamaDescription(7);
  Random random(5);
  int num_resolved = 0;
  int num_refused = 0;
  for (int round = 0; round < 4000; ++round) {
    const std::string text = testing::Damaged(
        round % 2 == 0 ? "attn@L0-3+mlp@even+q@L75%+norm.final:int8"
                       : "L-3--1+embed+head:fp+up@L2,4",
        random);
    SCOPED_TRACE(text);
    const auto set = LayerSet::Parse(text);
    if (!set.ok()) {
      ASSERT_FALSE(CodeOf(set).empty()) << set.status();
      ++num_refused;
      continue;
    }
    ASSERT_EQ(LayerSet::Parse(set->text())->text(), set->text());
    const auto resolved = ResolveLayerSet(*set, model);
    ASSERT_TRUE(resolved.ok() || !CodeOf(resolved).empty());
    num_resolved += resolved.ok();
  }
  EXPECT_GT(num_resolved, 100);
  EXPECT_GT(num_refused, 100);
}

TEST(ParseLayerRange, ReadsListsAndRanges) {
  EXPECT_THAT(*ParseLayerRange("all", 3), ElementsAre(0, 1, 2));
  EXPECT_THAT(*ParseLayerRange("0,3, 2-4", 5), ElementsAre(0, 2, 3, 4));
  EXPECT_EQ(CodeOf(ParseLayerRange("0-5", 5)), "QS1011");
  for (const char* text : {"", "a", "3-1", "1,,2", "-1", "1-2-3"}) {
    EXPECT_EQ(CodeOf(ParseLayerRange(text, 5)), "QS1010") << text;
  }
}

}  // namespace
}  // namespace qsweep
