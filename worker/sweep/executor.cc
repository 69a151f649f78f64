#include "worker/sweep/executor.h"

#include <cstddef>
#include <vector>

#include "common/base/status_macros.h"

namespace qsweep {
namespace {

// Takes one configuration alone from the embeddings to its last state in
// `slot`.
absl::Status RunAlone(const TrieWord& word, int slot, SweepMachine& machine) {
  QSWEEP_RETURN_IF_ERROR(machine.Embed(word.root, slot));
  for (size_t layer = 0; layer < word.layers.size(); ++layer) {
    const int index = static_cast<int>(layer);
    QSWEEP_RETURN_IF_ERROR(machine.BeginLayer(index));
    QSWEEP_RETURN_IF_ERROR(
        machine.Advance(index, {.variant = word.layers[layer],
                                .edges = {{.from = slot, .to = slot}}}));
    machine.EndLayer();
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunLayerMajor(const SweepPlan& plan, int baseline,
                           SweepMachine& machine) {
  for (size_t slot = 0; slot < plan.trie.roots.size(); ++slot) {
    QSWEEP_RETURN_IF_ERROR(
        machine.Embed(plan.trie.roots[slot], static_cast<int>(slot)));
  }
  for (size_t layer = 0; layer < plan.trie.layers.size(); ++layer) {
    const int index = static_cast<int>(layer);
    QSWEEP_RETURN_IF_ERROR(machine.BeginLayer(index));
    for (const TrieGroup& group : plan.trie.layers[layer]) {
      QSWEEP_RETURN_IF_ERROR(machine.Advance(index, group));
    }
    machine.EndLayer();
  }
  std::vector<SweepMachine::Scored> scored;
  for (size_t i = 0; i < plan.leaves.size(); ++i) {
    scored.push_back(
        {.configuration = static_cast<int>(i), .leaf = plan.leaves[i]});
  }
  return machine.Score(plan.leaves[static_cast<size_t>(baseline)], scored);
}

absl::Status RunNaive(const SweepPlan& plan, int baseline,
                      SweepMachine& machine) {
  constexpr int kBaselineSlot = 0;
  constexpr int kOwnSlot = 1;
  SweepPlan::Leaf baseline_leaf = plan.leaves[static_cast<size_t>(baseline)];
  baseline_leaf.slot = kBaselineSlot;
  QSWEEP_RETURN_IF_ERROR(RunAlone(plan.words[static_cast<size_t>(baseline)],
                                  kBaselineSlot, machine));
  for (size_t i = 0; i < plan.words.size(); ++i) {
    const int index = static_cast<int>(i);
    SweepMachine::Scored scored = {.configuration = index,
                                   .leaf = baseline_leaf};
    if (index != baseline) {
      scored.leaf = plan.leaves[i];
      scored.leaf.slot = kOwnSlot;
      QSWEEP_RETURN_IF_ERROR(RunAlone(plan.words[i], kOwnSlot, machine));
    }
    QSWEEP_RETURN_IF_ERROR(machine.Score(baseline_leaf, {&scored, 1}));
  }
  return absl::OkStatus();
}

}  // namespace qsweep
