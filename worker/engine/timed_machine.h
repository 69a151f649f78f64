#ifndef QSWEEP_WORKER_ENGINE_TIMED_MACHINE_H_
#define QSWEEP_WORKER_ENGINE_TIMED_MACHINE_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"

#include "common/job/model_description.h"
#include "worker/sweep/executor.h"
#include "worker/sweep/trie.h"

namespace qsweep {

// A machine that also tells how long another one lets a sweep wait for the
// weights of its layers. Borrows all three. Single-thread.
class TimedMachine : public SweepMachine {
 public:
  TimedMachine(const ModelDescription& model, const SweepPlan& plan,
               SweepMachine& machine)
      : model_(model), plan_(plan), machine_(machine) {}

  absl::Status Embed(int variant, int slot) override {
    return machine_.Embed(variant, slot);
  }
  absl::Status BeginLayer(int layer) override;
  absl::Status Advance(int layer, const TrieGroup& group) override {
    return machine_.Advance(layer, group);
  }
  void EndLayer() override { machine_.EndLayer(); }
  absl::Status Score(const SweepPlan::Leaf& baseline,
                     std::span<const Scored> configurations) override {
    return machine_.Score(baseline, configurations);
  }

  // Stored bytes of the layers begun, each as often as it was.
  int64_t bytes() const { return bytes_; }
  double seconds() const { return seconds_; }

 private:
  const ModelDescription& model_;
  const SweepPlan& plan_;
  SweepMachine& machine_;
  int64_t bytes_ = 0;
  double seconds_ = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_TIMED_MACHINE_H_
