#ifndef QSWEEP_WORKER_ENGINE_CPU_MACHINE_H_
#define QSWEEP_WORKER_ENGINE_CPU_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "worker/engine/block.h"
#include "worker/engine/head.h"
#include "worker/engine/pass.h"
#include "worker/engine/products.h"
#include "worker/engine/rotary.h"
#include "worker/engine/state_store.h"
#include "worker/engine/thread_pool.h"
#include "worker/engine/weights.h"
#include "worker/kernels/row_kernels.h"
#include "worker/sweep/trie.h"

namespace qsweep {

// A Llama-architecture decoder on the CPU: products by libtorch, the rest by
// the row kernels. Single-thread, but for
// its own parallel work on the pool. Everything borrowed must outlive it.
class CpuMachine : public PassMachine {
 public:
  // native_bf16: products in bf16 are the CPU's own. Errors: those of
  // StateStore::Create.
  static absl::StatusOr<std::unique_ptr<PassMachine>> Start(PassContext context,
                                                            bool native_bf16,
                                                            ThreadPool& pool);

  absl::Status Embed(int variant, int slot) override;
  absl::Status BeginLayer(int layer) override;
  absl::Status Advance(int layer, const TrieGroup& group) override;
  void EndLayer() override;
  absl::Status Score(const SweepPlan::Leaf& baseline,
                     std::span<const Scored> configurations) override;

  int64_t rows_advanced() const override { return rows_advanced_; }

  // Rows one thread takes through a layer at a time, whole documents.
  static constexpr int64_t kMaxUnitRows = 1024;
  // Configurations that share one computation of the baseline's logits.
  static constexpr size_t kScoredTogether = 64;

 private:
  // A copy of a slot under a variant of the final norm other than the slot's.
  struct NormedCopy {
    int slot = 0;
    int final_norm_variant = 0;
    const float* rows = nullptr;  // [rows, hidden]
  };

  CpuMachine(PassContext context, const ProductMode& mode, StateStore states,
             ThreadPool& pool);

  absl::Status LoadHeads(std::vector<size_t> variants);
  absl::Status LoadHeadAndNorms(std::span<const SweepPlan::Leaf> leaves);
  absl::Status NormalizeLeaves(std::span<const SweepPlan::Leaf> leaves);
  absl::Status Normalize(const float* from, int variant, float* to);
  HeadInput Input(const SweepPlan::Leaf& leaf);
  float* RowsOf(int slot) { return states_[static_cast<size_t>(slot)]; }
  absl::Status ScoreGroup(const SweepPlan::Leaf& baseline,
                          std::span<const Scored> configurations);
  struct Group;  // configurations that are scored together
  void SumFinishedDocuments(Group& group);

  const PassContext context_;
  const ProductMode mode_;
  const ModelConfig& config_;
  const SweepPlan& plan_;
  ThreadPool& pool_;
  const PassRows rows_;
  const int64_t stride_;
  RotaryTable rotary_;
  StateStore states_;  // [rows, hidden] each: of the slots, then the copies'
  std::vector<std::optional<int>> final_norms_done_;  // variant, per slot
  std::vector<BlockRunner> runners_;                  // per thread
  StageTensors layer_;                             // of the last one that began
  BlockWeights block_;                             // the variant in use
  std::vector<kernels::FloatBuffer> final_norms_;  // per variant
  std::vector<Matrix> heads_;                      // per variant
  std::vector<NormedCopy> copies_;
  HeadScorer head_scorer_;
  double work_done_ = 0;
  int64_t rows_advanced_ = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_CPU_MACHINE_H_
