#include "worker/sweep/trie.h"

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qsweep {
namespace {

using ::testing::ElementsAre;

constexpr int kFull = 0;
constexpr int kQuantized = 1;

// All sets of at most `most` of `layers` layers that are kept, the others
// quantized: "none", the singles, the pairs, ...
std::vector<TrieWord> ProtectAtMost(int layers, int most) {
  std::vector<TrieWord> words;
  TrieWord word{.layers =
                    std::vector<int>(static_cast<size_t>(layers), kQuantized)};
  const std::function<void(int, int)> add = [&](int first, int left) {
    words.push_back(word);
    for (int i = first; left > 0 && i < layers; ++i) {
      word.layers[static_cast<size_t>(i)] = kFull;
      add(i + 1, left - 1);
      word.layers[static_cast<size_t>(i)] = kQuantized;
    }
  };
  add(0, most);
  return words;
}

TrieWord Uniform(int layers, int variant) {
  return {.layers = std::vector<int>(static_cast<size_t>(layers), variant)};
}

// Runs the plan on states that remember which variants they went through.
std::vector<std::vector<int>> Walk(const Trie& trie) {
  std::vector<std::vector<int>> slots(static_cast<size_t>(trie.num_slots));
  for (size_t i = 0; i < trie.roots.size(); ++i) {
    slots[i] = {trie.roots[i]};
  }
  for (const std::vector<TrieGroup>& layer : trie.layers) {
    for (const TrieGroup& group : layer) {
      for (const TrieEdge& edge : group.edges) {
        std::vector<int> state = slots[static_cast<size_t>(edge.from)];
        state.push_back(group.variant);
        slots[static_cast<size_t>(edge.to)] = std::move(state);
      }
    }
  }
  std::vector<std::vector<int>> leaves;
  for (const int slot : trie.leaves) {
    leaves.push_back(slots[static_cast<size_t>(slot)]);
  }
  return leaves;
}

void ExpectEveryWordIsWalked(const std::vector<TrieWord>& words) {
  const std::vector<std::vector<int>> leaves = Walk(PlanTrie(words));
  ASSERT_EQ(leaves.size(), words.size());
  for (size_t i = 0; i < words.size(); ++i) {
    std::vector<int> want = {words[i].root};
    want.insert(want.end(), words[i].layers.begin(), words[i].layers.end());
    EXPECT_EQ(leaves[i], want) << "word " << i;
  }
}

TEST(PlanTrie, CountsAsTheTable_WhenAtMostSomeLayersAreProtected) {
  struct Case {
    int layers, most;
    int64_t configurations, shared, naive;
  };
  for (const Case& c :
       {Case{12, 1, 13, 90, 156}, Case{12, 2, 79, 376, 948},
        Case{12, 3, 299, 1091, 3588}, Case{24, 1, 25, 324, 600},
        Case{24, 2, 301, 2624, 7224}, Case{24, 3, 2325, 15274, 55800},
        Case{30, 1, 31, 495, 930}, Case{30, 2, 466, 4990, 13980},
        Case{30, 3, 4526, 36455, 135780}, Case{32, 1, 33, 560, 1056},
        Case{32, 2, 529, 6016, 16928}, Case{32, 3, 5489, 46936, 175648},
        Case{80, 1, 81, 3320, 6480}, Case{80, 2, 3241, 88640, 259280},
        Case{80, 3, 85401, 1752380, 6832080}}) {
    SCOPED_TRACE(::testing::Message() << c.layers << " layers, " << c.most);
    std::vector<TrieWord> words = ProtectAtMost(c.layers, c.most);
    EXPECT_EQ(static_cast<int64_t>(words.size()), c.configurations);
    const Trie trie = PlanTrie(words);
    EXPECT_EQ(trie.layer_evaluations, c.shared);
    EXPECT_EQ(trie.naive_layer_evaluations, c.naive);

    words.push_back(Uniform(c.layers, kFull));  // the baseline
    const Trie with_baseline = PlanTrie(words);
    EXPECT_EQ(with_baseline.layer_evaluations, c.shared + c.layers - c.most);
    EXPECT_EQ(with_baseline.naive_layer_evaluations, c.naive + c.layers);
  }
}

TEST(PlanTrie, IsThePictureInItsHeader) {
  const int q = kQuantized;
  const int f = kFull;
  const Trie trie = PlanTrie(std::vector<TrieWord>{
      {.layers = {q, q, q}}, {.layers = {q, f, q}}, {.layers = {q, q, f}}});
  const auto texts_of = [&trie](size_t layer) {
    std::vector<std::string> texts;
    for (const TrieGroup& group : trie.layers[layer]) {
      std::string text = group.variant == kFull ? "F:" : "q:";
      for (const TrieEdge& edge : group.edges) {
        absl::StrAppend(&text, " ", edge.from, " to ", edge.to);
      }
      texts.push_back(std::move(text));
    }
    return texts;
  };
  EXPECT_THAT(texts_of(0), ElementsAre("q: 0 to 0"));
  EXPECT_THAT(texts_of(1), ElementsAre("F: 0 to 1", "q: 0 to 0"));
  EXPECT_THAT(texts_of(2), ElementsAre("F: 0 to 2", "q: 0 to 0 1 to 1"));
  EXPECT_THAT(trie.leaves, ElementsAre(0, 1, 2));
  EXPECT_EQ(trie.num_slots, 3);
  EXPECT_EQ(trie.layer_evaluations, 6);
  EXPECT_EQ(trie.naive_layer_evaluations, 9);
}

TEST(PlanTrie, SharesNothingWithTheBaseline_WhenEmbeddingsAreQuantized) {
  std::vector<TrieWord> words = ProtectAtMost(30, 1);
  for (TrieWord& word : words) {
    word.root = kQuantized;
  }
  words.push_back(Uniform(30, kFull));
  EXPECT_EQ(PlanTrie(words).layer_evaluations, 495 + 30);
  EXPECT_EQ(PlanTrie(words).roots, (std::vector<int>{kQuantized, kFull}));
}

TEST(PlanTrie, Counts1116_WhenProtectOneAndQuantizeOneRunTogether) {
  constexpr int kLayers = 32;
  std::vector<TrieWord> words = ProtectAtMost(kLayers, 1);
  words.push_back(Uniform(kLayers, kFull));
  for (size_t i = 0; i < kLayers; ++i) {
    words.push_back(Uniform(kLayers, kFull));
    words.back().layers[i] = kQuantized;
  }
  const Trie trie = PlanTrie(words);
  EXPECT_EQ(trie.layer_evaluations, 1116);
  EXPECT_EQ(trie.naive_layer_evaluations, 2112);
}

TEST(PlanTrie, Counts285_WhenTriplesHoldLayer0) {
  std::vector<TrieWord> words;
  for (size_t i = 1; i < 12; ++i) {
    for (size_t j = i + 1; j < 12; ++j) {
      words.push_back(Uniform(12, kQuantized));
      words.back().layers[0] = words.back().layers[i] = words.back().layers[j] =
          kFull;
    }
  }
  ASSERT_EQ(words.size(), 55u);
  EXPECT_EQ(PlanTrie(words).layer_evaluations, 285);
  EXPECT_EQ(PlanTrie(words).naive_layer_evaluations, 660);
}

TEST(PlanTrie, TakesEveryWordThroughItsVariants_WhenSlotsAreReused) {
  std::vector<TrieWord> words = ProtectAtMost(9, 3);
  words.push_back(Uniform(9, kFull));
  for (size_t i = 0; i < 40; ++i) {  // three variants, two roots, repeats
    TrieWord word{.root = static_cast<int>(i % 2)};
    for (size_t layer = 0; layer < 9; ++layer) {
      word.layers.push_back(static_cast<int>((i * 7 + layer * i / 3) % 3));
    }
    words.push_back(word);
  }
  ExpectEveryWordIsWalked(words);
}

TEST(PlanTrie, HoldsNoMoreSlotsThanDistinctWords_WhenWordsRepeat) {
  std::vector<TrieWord> words = ProtectAtMost(6, 1);
  const size_t distinct = words.size();
  for (size_t i = 0; i < distinct; ++i) {
    words.push_back(TrieWord(words[i]));
  }
  const Trie trie = PlanTrie(words);
  EXPECT_EQ(trie.num_slots, static_cast<int>(distinct));
  EXPECT_EQ(trie.leaves[0], trie.leaves[distinct]);
}

TEST(PlanTrie, UsesEachVariantOnceALayer_WhenStatesFork) {
  std::vector<TrieWord> words = ProtectAtMost(8, 2);
  for (const std::vector<TrieGroup>& layer : PlanTrie(words).layers) {
    std::set<int> variants;
    for (const TrieGroup& group : layer) {
      EXPECT_TRUE(variants.insert(group.variant).second);
    }
    EXPECT_EQ(variants.size(), 2u);
  }
}

TEST(PlanTrie, IsEmpty_WhenThereAreNoWords) {
  const Trie trie = PlanTrie({});
  EXPECT_EQ(trie.layer_evaluations, 0);
  EXPECT_TRUE(trie.layers.empty());
}

// Two layers with one linear and one norm each, tied head.
ModelDescription SmallModel(bool tied) {
  ModelDescription model;
  model.layers = 2;
  model.tied_head = tied;
  model.tensors = {
      {.name = "embed", .layer = -1, .component = Component::kEmbedToken},
      {.name = "norm", .layer = -1, .component = Component::kFinalNorm}};
  if (!tied) {
    model.tensors.push_back(
        {.name = "head", .layer = -1, .component = Component::kHead});
  }
  for (int layer = 0; layer < 2; ++layer) {
    model.tensors.push_back({.layer = layer, .component = Component::kQ});
    model.tensors.push_back({.layer = layer, .component = Component::kNorm1});
  }
  return model;
}

Configuration Schemes(const ModelDescription& model,
                      const std::set<size_t>& quantized) {
  Configuration configuration;
  configuration.schemes.resize(model.tensors.size());
  for (const size_t i : quantized) {
    configuration.schemes[i] = Scheme{};
  }
  return configuration;
}

TEST(PlanSweep, GroupsTensorsByStage_WhenTheHeadIsTied) {
  const ModelDescription model = SmallModel(/*tied=*/true);
  const std::vector<Configuration> configurations = {
      Schemes(model, {}), Schemes(model, {2, 4}), Schemes(model, {0, 1, 2, 4})};
  const SweepPlan plan = PlanSweep(model, configurations);
  EXPECT_EQ(plan.embedding.tensors, std::vector<int>{0});
  EXPECT_EQ(plan.head.tensors, std::vector<int>{0});
  EXPECT_EQ(plan.final_norm.tensors, std::vector<int>{1});
  EXPECT_EQ(plan.layers[0].tensors, (std::vector<int>{2, 3}));
  EXPECT_EQ(plan.layers[1].tensors, (std::vector<int>{4, 5}));
  EXPECT_EQ(plan.layers[0].variants.size(), 2u);
  EXPECT_EQ(plan.trie.roots.size(), 2u);
  EXPECT_EQ(plan.trie.layer_evaluations, 6);
  EXPECT_EQ(plan.leaves[1].head_variant, 0);
  EXPECT_EQ(plan.leaves[2].head_variant, 1);
  EXPECT_EQ(plan.leaves[2].final_norm_variant, 1);
  EXPECT_EQ(plan.head.variants[1][0], Scheme{});
}

TEST(PlanSweep, SharesAllLayers_WhenOnlyTheHeadDiffers) {
  const ModelDescription model = SmallModel(/*tied=*/false);
  const std::vector<Configuration> configurations = {Schemes(model, {}),
                                                     Schemes(model, {2})};
  const SweepPlan plan = PlanSweep(model, configurations);
  EXPECT_EQ(plan.head.tensors, std::vector<int>{2});
  EXPECT_EQ(plan.trie.layer_evaluations, 2);
  EXPECT_EQ(plan.leaves[0].slot, plan.leaves[1].slot);
  EXPECT_NE(plan.leaves[0].head_variant, plan.leaves[1].head_variant);
}

}  // namespace
}  // namespace qsweep
