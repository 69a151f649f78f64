#ifndef QSWEEP_WORKER_SWEEP_EXECUTOR_H_
#define QSWEEP_WORKER_SWEEP_EXECUTOR_H_

#include <span>

#include "absl/status/status.h"

#include "worker/sweep/trie.h"

namespace qsweep {

// What carries out the steps of a sweep. The executor decides their order; the
// machine owns the hidden states, in numbered slots, and does the arithmetic
// for all documents at once. Every call may return CANCELLED; after an error no
// other call is made.
class SweepMachine {
 public:
  virtual ~SweepMachine() = default;

  // Fills `slot` with the embeddings of one variant of plan.embedding.
  virtual absl::Status Embed(int variant, int slot) = 0;
  // Reads the layer's weights, which are there until EndLayer. One layer at a
  // time.
  virtual absl::Status BeginLayer(int layer) = 0;
  // Takes every edge of the group through the layer with the group's variant of
  // its weights. No two edges share a slot, but for an edge's own two.
  virtual absl::Status Advance(int layer, const TrieGroup& group) = 0;
  virtual void EndLayer() = 0;

  // A configuration whose last state lies in leaf.slot.
  struct Scored {
    int configuration = 0;
    SweepPlan::Leaf leaf;
  };
  // Scores configurations against the baseline, which may be among them. The
  // slots stay valid for another Score.
  virtual absl::Status Score(const SweepPlan::Leaf& baseline,
                             std::span<const Scored> configurations) = 0;
};

// The sweep as the trie plans it: layer by layer, each variant of a layer's
// weights made once, each distinct state computed once. baseline: index of the
// configuration that others are compared with. Needs plan.trie.num_slots slots.
absl::Status RunLayerMajor(const SweepPlan& plan, int baseline,
                           SweepMachine& machine);

// The same results one configuration at a time, nothing shared: the oracle, and
// what sharing is compared with. Needs two slots.
absl::Status RunNaive(const SweepPlan& plan, int baseline,
                      SweepMachine& machine);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_SWEEP_EXECUTOR_H_
