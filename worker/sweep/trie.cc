#include "worker/sweep/trie.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/base/check.h"

namespace qsweep {
namespace {

// The children of all states at one layer: (slot, variant) in order of first
// appearance, with the words that go there.
struct Fork {
  int slot = 0;
  int variant = 0;
  std::vector<int> words;
};

std::vector<Fork> ForksAt(std::span<const TrieWord> words, size_t layer,
                          const std::vector<int>& slot_of_word) {
  std::vector<Fork> forks;
  std::map<std::pair<int, int>, size_t> known;
  for (size_t w = 0; w < words.size(); ++w) {
    const std::pair<int, int> key = {slot_of_word[w], words[w].layers[layer]};
    const auto [it, added] = known.try_emplace(key, forks.size());
    if (added) {
      forks.push_back({.slot = key.first, .variant = key.second});
    }
    forks[it->second].words.push_back(static_cast<int>(w));
  }
  return forks;
}

// Plans one layer and moves the words to their new slots.
std::vector<TrieGroup> PlanLayer(std::span<const TrieWord> words, size_t layer,
                                 std::vector<int>& slot_of_word,
                                 int& num_slots) {
  std::vector<Fork> forks = ForksAt(words, layer, slot_of_word);
  // By variant, since each variant's weights exist once and not for long.
  std::stable_sort(
      forks.begin(), forks.end(),
      [](const Fork& a, const Fork& b) { return a.variant < b.variant; });
  std::vector<int> uses(static_cast<size_t>(num_slots), 0);
  for (const Fork& fork : forks) {
    ++uses[static_cast<size_t>(fork.slot)];
  }
  std::vector<TrieGroup> groups;
  for (const Fork& fork : forks) {
    if (groups.empty() || groups.back().variant != fork.variant) {
      groups.push_back({.variant = fork.variant});
    }
    const bool last_use = --uses[static_cast<size_t>(fork.slot)] == 0;
    const int to = last_use ? fork.slot : num_slots++;
    groups.back().edges.push_back({.from = fork.slot, .to = to});
    for (const int word : fork.words) {
      slot_of_word[static_cast<size_t>(word)] = to;
    }
  }
  return groups;
}

bool IsEmbedding(Component component) {
  return component == Component::kEmbedToken ||
         component == Component::kEmbedPosition;
}

// The number of the variant that `configuration` needs of the stage; a new one
// where no earlier configuration needed it.
int VariantOf(Stage& stage, const Configuration& configuration) {
  StageVariant variant;
  variant.reserve(stage.tensors.size());
  for (const int tensor : stage.tensors) {
    variant.push_back(configuration.schemes[static_cast<size_t>(tensor)]);
  }
  const auto it =
      std::find(stage.variants.begin(), stage.variants.end(), variant);
  if (it != stage.variants.end()) {
    return static_cast<int>(it - stage.variants.begin());
  }
  stage.variants.push_back(std::move(variant));
  return static_cast<int>(stage.variants.size()) - 1;
}

}  // namespace

Trie PlanTrie(std::span<const TrieWord> words) {
  Trie trie;
  if (words.empty()) {
    return trie;
  }
  const size_t layers = words.front().layers.size();
  std::map<int, int> slot_of_root;
  std::vector<int> slot_of_word;
  slot_of_word.reserve(words.size());
  for (const TrieWord& word : words) {
    QSWEEP_CHECK(word.layers.size() == layers);
    const auto [it, added] = slot_of_root.try_emplace(
        word.root, static_cast<int>(trie.roots.size()));
    if (added) {
      trie.roots.push_back(word.root);
    }
    slot_of_word.push_back(it->second);
  }
  trie.num_slots = static_cast<int>(trie.roots.size());
  for (size_t layer = 0; layer < layers; ++layer) {
    trie.layers.push_back(
        PlanLayer(words, layer, slot_of_word, trie.num_slots));
    for (const TrieGroup& group : trie.layers.back()) {
      trie.layer_evaluations += static_cast<int64_t>(group.edges.size());
    }
  }
  trie.leaves = std::move(slot_of_word);
  trie.naive_layer_evaluations =
      static_cast<int64_t>(words.size()) * static_cast<int64_t>(layers);
  return trie;
}

SweepPlan PlanSweep(const ModelDescription& model,
                    std::span<const Configuration> configurations) {
  SweepPlan plan;
  plan.layers.resize(static_cast<size_t>(model.layers));
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const TensorDescription& tensor = model.tensors[i];
    const int index = static_cast<int>(i);
    if (tensor.layer >= 0) {
      plan.layers[static_cast<size_t>(tensor.layer)].tensors.push_back(index);
    } else if (tensor.component == Component::kFinalNorm) {
      plan.final_norm.tensors.push_back(index);
    } else if (IsEmbedding(tensor.component)) {
      plan.embedding.tensors.push_back(index);
    }
    const Component head =
        model.tied_head ? Component::kEmbedToken : Component::kHead;
    if (tensor.layer < 0 && tensor.component == head) {
      plan.head.tensors.push_back(index);
    }
  }
  plan.words.reserve(configurations.size());
  for (const Configuration& configuration : configurations) {
    QSWEEP_CHECK(configuration.schemes.size() == model.tensors.size());
    TrieWord word;
    word.root = VariantOf(plan.embedding, configuration);
    for (Stage& layer : plan.layers) {
      word.layers.push_back(VariantOf(layer, configuration));
    }
    plan.words.push_back(std::move(word));
    plan.leaves.push_back(
        {.final_norm_variant = VariantOf(plan.final_norm, configuration),
         .head_variant = VariantOf(plan.head, configuration)});
  }
  plan.trie = PlanTrie(plan.words);
  for (size_t i = 0; i < plan.leaves.size(); ++i) {
    plan.leaves[i].slot = plan.trie.leaves[i];
  }
  return plan;
}

}  // namespace qsweep
