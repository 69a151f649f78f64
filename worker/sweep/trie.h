#ifndef QSWEEP_WORKER_SWEEP_TRIE_H_
#define QSWEEP_WORKER_SWEEP_TRIE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/job/configuration.h"
#include "common/job/model_description.h"
#include "common/job/quantizer.h"

namespace qsweep {

// Configurations that quantize their first k layers alike have the same hidden
// state after layer k. The planner finds those common prefixes, so that each is
// computed once: the sweep is a trie, a node per distinct prefix, walked one
// layer at a time. Pure functions over values.
//
// Three configurations of a model of three layers: a protects nothing, b layer
// 1, c layer 2. q: the layer's weights are quantized, F: as stored.
//
//   embed     layer 0            layer 1            layer 2
//   slot 0 -----q----> slot 0 -----q----> slot 0 -----q----> slot 0   leaf of a
//                        |                  +---------F----> slot 2   of c
//                        +---------F----> slot 1 -----q----> slot 1   of b
//
// 6 evaluations instead of 9, in 3 slots. Layer 1 has the groups F: 0 to 1,
// then q: 0 to 0; layer 2 has F: 0 to 2, then q: 0 to 0 and 1 to 1.

// A configuration as the trie sees it: which variant of its weights each stage
// uses. Equal numbers at one stage mean equal weights.
struct TrieWord {
  int root = 0;             // of the embeddings
  std::vector<int> layers;  // [layers]
};

// One layer evaluation: the state in slot `from` goes through the layer into
// slot `to`. The last use of a state leaves its successor in the same slot, so
// slots never outnumber the states that are alive.
struct TrieEdge {
  int from = 0;
  int to = 0;
  bool operator==(const TrieEdge&) const = default;
};

// All evaluations that use one variant of a layer's weights.
struct TrieGroup {
  int variant = 0;
  std::vector<TrieEdge> edges;  // in the order they must run
};

struct Trie {
  std::vector<int> roots;  // embedding variant of slot i
  // Groups run in order; a later group may read a slot only an earlier one
  // left alone.
  std::vector<std::vector<TrieGroup>> layers;
  std::vector<int> leaves;  // slot of each word after the last layer
  int num_slots = 0;
  int64_t layer_evaluations = 0;        // edges: what the engine must count
  int64_t naive_layer_evaluations = 0;  // words x layers
};

// All words must have the same number of layers. An empty list gives an empty
// trie.
Trie PlanTrie(std::span<const TrieWord> words);

// One variant of a stage's weights: a scheme (or nothing: as stored) per tensor
// of the stage.
using StageVariant = std::vector<std::optional<Scheme>>;

// The tensors that one step of the model reads, and every variant in use.
struct Stage {
  std::vector<int> tensors;  // indices into ModelDescription.tensors
  std::vector<StageVariant> variants;
};

// Everything the executor needs to know of a sweep, without its documents.
struct SweepPlan {
  std::vector<TrieWord> words;  // parallel to the configurations
  Trie trie;                    // of words
  Stage embedding;              // embed.token, embed.pos
  std::vector<Stage> layers;    // [layers]
  Stage final_norm;             // norm.final and its bias
  Stage head;  // the head, or embed.token where the head is tied
  struct Leaf {
    int slot = 0;
    int final_norm_variant = 0;
    int head_variant = 0;
    bool operator==(const Leaf&) const = default;
  };
  std::vector<Leaf> leaves;  // parallel to the configurations
};

// configurations: made on `model`.
SweepPlan PlanSweep(const ModelDescription& model,
                    std::span<const Configuration> configurations);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_SWEEP_TRIE_H_
