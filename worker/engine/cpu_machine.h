#ifndef QSWEEP_WORKER_ENGINE_CPU_MACHINE_H_
#define QSWEEP_WORKER_ENGINE_CPU_MACHINE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "common/job/model_description.h"
#include "worker/engine/block.h"
#include "worker/engine/code_cache.h"
#include "worker/engine/head.h"
#include "worker/engine/products.h"
#include "worker/engine/rotary.h"
#include "worker/engine/thread_pool.h"
#include "worker/engine/weights.h"
#include "worker/kernels/row_kernels.h"
#include "worker/model/checkpoint.h"
#include "worker/sweep/executor.h"
#include "worker/sweep/trie.h"

namespace qsweep {

// Sums over one document's tokens under one configuration.
struct DocumentSums {
  // A token without a finite loss on either side is in `tokens` and
  // `nonfinite` alone, so that the losses stay sums over the same tokens.
  void Add(const kernels::TokenScore& score);

  double nll = 0;
  double nll_fp = 0;
  double kl = 0;
  uint64_t tokens = 0;
  uint64_t top1 = 0;
  uint64_t nonfinite = 0;
  bool final = false;
};

// The documents that go through the model together, and their results.
struct Pass {
  std::vector<std::span<const int32_t>> documents;  // ids, two at least
  // [configurations][documents]: filled by CpuMachine::Score.
  std::vector<std::vector<DocumentSums>> sums;
};

// A Llama-architecture decoder on the CPU: products by libtorch, the rest by
// the row kernels. Single-thread, but for
// its own parallel work on the pool. Everything borrowed must outlive it.
class CpuMachine : public SweepMachine {
 public:
  // Called on the thread that runs the sweep, after each step: what has been
  // done of WorkOf's total, and the step for people. Sums of finished documents
  // are in the pass.
  using Progress =
      std::function<void(double work_done, const std::string& step)>;

  // codes: of every calibrated tensor of the plan.
  CpuMachine(const Checkpoint& checkpoint, const ModelDescription& model,
             const SweepPlan& plan, const CodeCache& codes, ThreadPool& pool,
             std::stop_token stop, int num_slots, Pass& pass,
             Progress progress);

  absl::Status Embed(int variant, int slot) override;
  absl::Status BeginLayer(int layer) override;
  absl::Status Advance(int layer, const TrieGroup& group) override;
  void EndLayer() override;
  absl::Status Score(const SweepPlan::Leaf& baseline,
                     std::span<const Scored> configurations) override;

  // Rows that the products of a layer have been computed for: layer
  // evaluations times the rows of the pass.
  int64_t rows_advanced() const { return rows_advanced_; }

  // Multiplications of one row through a layer, and through the head.
  static double LayerWork(const ModelConfig& config);
  static double HeadWork(const ModelConfig& config);
  // Bytes a slot takes per row.
  static int64_t StateBytes(const ModelConfig& config);

 private:
  struct DocumentRows {
    int64_t first = 0;
    int64_t count = 0;
  };
  struct Slot {
    kernels::FloatBuffer rows;      // [rows, hidden]
    std::optional<int> final_norm;  // variant already applied
  };
  // A copy of a slot under a variant of the final norm other than the slot's.
  struct NormedCopy {
    int slot = 0;
    int final_norm_variant = 0;
    kernels::FloatBuffer rows;
  };

  absl::Status LoadHead(std::span<const SweepPlan::Leaf> leaves);
  absl::Status NormalizeLeaves(std::span<const SweepPlan::Leaf> leaves);
  absl::Status Normalize(const float* from, int variant, float* to);
  HeadInput Input(const SweepPlan::Leaf& leaf) const;
  absl::Status ScoreGroup(const SweepPlan::Leaf& baseline,
                          std::span<const Scored> configurations);
  struct Group;  // configurations that are scored together
  void SumFinishedDocuments(Group& group);

  const Checkpoint& checkpoint_;
  const ModelDescription& model_;
  const ModelConfig& config_;
  const SweepPlan& plan_;
  const CodeCache& codes_;
  ThreadPool& pool_;
  const std::stop_token stop_;
  Pass& pass_;
  const Progress progress_;

  std::vector<DocumentRows> documents_;  // of pass_, stacked
  int64_t num_rows_ = 0;
  std::vector<int32_t> gold_;  // [rows]
  const int64_t stride_;
  RotaryTable rotary_;
  std::vector<Slot> slots_;
  std::vector<BlockRunner> runners_;  // per thread
  std::optional<StageTensors> layer_;
  std::vector<kernels::FloatBuffer> final_norms_;  // per variant
  std::vector<Matrix> heads_;                      // per variant
  std::vector<NormedCopy> copies_;
  HeadScorer head_scorer_;
  double work_done_ = 0;
  int64_t rows_advanced_ = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_CPU_MACHINE_H_
