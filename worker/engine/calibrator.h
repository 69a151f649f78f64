#ifndef QSWEEP_WORKER_ENGINE_CALIBRATOR_H_
#define QSWEEP_WORKER_ENGINE_CALIBRATOR_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/job/model_description.h"
#include "common/job/quantizer.h"
#include "worker/engine/awq_search.h"
#include "worker/engine/block.h"
#include "worker/engine/code_cache.h"
#include "worker/engine/device.h"
#include "worker/engine/rotary.h"
#include "worker/engine/thread_pool.h"
#include "worker/engine/weights.h"
#include "worker/kernels/gptq.h"
#include "worker/kernels/row_kernels.h"
#include "worker/model/checkpoint.h"
#include "worker/sweep/trie.h"

namespace qsweep {

// Calibration texts as tokens.
struct CalibrationTokens {
  uint64_t texts = 0;                           // Scheme::calibration_texts
  std::vector<std::vector<int32_t>> documents;  // ids, one at least

  int64_t num_tokens() const;
};

// Makes the codes of the calibrated tensors of a sweep: takes the texts through
// the model layer by layer and quantizes: gptq by the Hessians of what the
// linear layers read, awq as AwqSearch does. Schemes of the mode `fp` share the
// way through the model that is not quantized; each of `qpath` has one of its
// own, through layers that it has quantized. Every sum has one order, so the
// codes do not depend on the number of threads. The columns of gptq are rounded
// on the device where it can, the rest is the CPU's. Single-thread, but for its
// own work on the pool. Everything borrowed must outlive it.
class Calibrator {
 public:
  // done: 0..1 of a way through the model. After each layer and a few times in
  // it, on the thread that called Run.
  using Progress = std::function<void(double done, const std::string& step)>;

  Calibrator(const Checkpoint& checkpoint, const ModelDescription& model,
             const SweepPlan& plan, ThreadPool& pool, Device& device,
             CodeCache& codes, std::stop_token stop, Progress progress);

  // Fills the cache with the codes that the plan needs of these texts, but for
  // what is there. memory_bytes: what it may take. INVALID_ARGUMENT QS2116:
  // fewer tokens than a layer has inputs. FAILED_PRECONDITION QS5012: a
  // singular Hessian. RESOURCE_EXHAUSTED QS5006. Errors of StageTensors and
  // CodeCache::Store. CANCELLED.
  absl::Status Run(const CalibrationTokens& tokens, int64_t memory_bytes);

 private:
  // A tensor whose codes are missing.
  struct Wanted {
    size_t tensor = 0;  // of the layer's stage
    Scheme scheme;
    BlockInput input = BlockInput::kAttention;
    int64_t rows = 0;
    int64_t columns = 0;
  };
  using Hessians = std::array<kernels::FloatBuffer, kNumBlockInputs>;

  // One way through the model.
  struct Path {
    std::optional<Scheme> scheme;  // of qpath; nothing: not quantized
    std::vector<std::vector<Wanted>> wanted;  // by layer, up to the last one
  };
  // Rows that one thread takes through a layer at a time: whole documents.
  struct Unit {
    int64_t first = 0;
    std::vector<int64_t> documents;  // rows of each
  };

  absl::StatusOr<std::vector<Path>> FindPaths(uint64_t texts) const;
  absl::StatusOr<std::optional<Wanted>> Missing(size_t layer, size_t tensor,
                                                const Scheme& scheme) const;
  // Of the stage's linear layers, the scheme's.
  StageVariant VariantOf(const Stage& stage,
                         const std::optional<Scheme>& scheme) const;
  absl::Status CheckSize(const CalibrationTokens& tokens, const Path& path,
                         int64_t memory_bytes) const;
  absl::Status Embed(const CalibrationTokens& tokens);
  absl::Status RunPath(const CalibrationTokens& tokens, const Path& path);
  // Takes the states through the layer and keeps them, where `keep` says so;
  // sums the Hessians of `wanted`.
  absl::Status Advance(const BlockWeights& weights,
                       const std::vector<Wanted>& wanted, bool keep,
                       Hessians& hessians);
  // The units first .. first + count - 1, one a thread, from the states to
  // `to`. inputs: they are looked at. visit: called with each, on its thread.
  absl::Status RunBatch(const BlockWeights& weights, float* to, size_t first,
                        size_t count, bool inputs,
                        const AwqSearch::Visit& visit = nullptr);
  absl::Status QuantizeAwq(const Stage& stage, const StageTensors& tensors,
                           const std::vector<Wanted>& wanted, int64_t positions,
                           BlockWeights& weights);
  std::string Step() const;  // for people
  absl::Status SumHessians(size_t units, Hessians& hessians);
  // Factors of Hessians, which tensors of one input share.
  struct Factors {
    std::vector<kernels::GptqFactor> all;
    std::vector<size_t> of;  // by wanted tensor, into `all`
  };
  absl::StatusOr<Factors> Factor(const StageTensors& tensors,
                                 const std::vector<Wanted>& wanted,
                                 const Hessians& hessians);
  absl::Status Quantize(const StageTensors& tensors,
                        const std::vector<Wanted>& wanted,
                        const Hessians& hessians);

  const Checkpoint& checkpoint_;
  const ModelDescription& model_;
  const ModelConfig& config_;
  const SweepPlan& plan_;
  ThreadPool& pool_;
  Device& device_;
  CodeCache& codes_;
  const std::stop_token stop_;
  const Progress progress_;

  // Of the running call.
  const int64_t stride_;
  kernels::FloatBuffer states_;     // [tokens, hidden]
  kernels::FloatBuffer discarded_;  // states that are not kept
  RotaryTable rotary_;
  std::vector<Unit> units_;
  std::vector<BlockRunner> runners_;  // per thread
  std::vector<BlockInputs> inputs_;   // per unit in flight
  size_t layer_ = 0;                  // of layers_, of the running path
  size_t layers_ = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_CALIBRATOR_H_
