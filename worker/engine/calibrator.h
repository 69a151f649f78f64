#ifndef QSWEEP_WORKER_ENGINE_CALIBRATOR_H_
#define QSWEEP_WORKER_ENGINE_CALIBRATOR_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/job/model_description.h"
#include "common/job/quantizer.h"
#include "worker/engine/block.h"
#include "worker/engine/calibration_states.h"
#include "worker/engine/code_cache.h"
#include "worker/engine/device.h"
#include "worker/engine/gptq_layer.h"
#include "worker/engine/thread_pool.h"
#include "worker/engine/weights.h"
#include "worker/kernels/coded_tensor.h"
#include "worker/model/checkpoint.h"
#include "worker/sweep/calibration_plan.h"
#include "worker/sweep/trie.h"

namespace qsweep {

// Calibration texts as tokens.
struct CalibrationTokens {
  uint64_t texts = 0;                           // Scheme::calibration_texts
  std::vector<std::vector<int32_t>> documents;  // ids, one at least

  int64_t num_tokens() const;
};

// Makes the codes of the calibrated tensors of a sweep: takes the texts through
// the model as PlanCalibration says and quantizes: gptq by the Hessians of what
// the linear layers read, awq as AwqSearch does. Every sum has one order, so
// the codes of a tensor depend on what its scheme says and on the texts alone:
// not on other configurations, nor on the number of threads. The columns of
// gptq are rounded on the device where it can, the rest is the CPU's.
// Single-thread, but for its own work on the pool. Everything borrowed must
// outlive it.
class Calibrator {
 public:
  // done: 0..1 of all steps. After each step and a few times in it, on the
  // thread that called Run.
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
  // What a step quantizes, by method.
  struct Linears {
    std::vector<CalibratedLinear> gptq;
    std::vector<CalibratedLinear> awq;
  };

  absl::StatusOr<std::vector<Linears>> FindLinears() const;
  absl::Status CheckTokens(const CalibrationTokens& tokens,
                           const std::vector<Linears>& linears) const;
  absl::Status CheckMemory(const CalibrationTokens& tokens,
                           const std::vector<Linears>& linears,
                           int64_t memory_bytes) const;
  absl::Status RunStep(const CalibrationStep& step, const Linears& linears);
  // Quantizes `linears`, and takes the states on where `to` is a slot, with
  // `weights`, which are not quantized.
  absl::Status Look(const CalibrationStep& step, const Linears& linears,
                    const StageTensors& tensors, std::optional<int> to,
                    BlockWeights& weights);
  absl::Status QuantizeAwq(const CalibrationStep& step,
                           const std::vector<CalibratedLinear>& linears,
                           const StageTensors& tensors, BlockWeights& weights);
  // Takes all units through the layer; gptq, or nullptr: is given their inputs.
  absl::Status Advance(const CalibrationStep& step, const BlockWeights& weights,
                       std::optional<int> to, GptqLayer* gptq);
  absl::Status Store(const StageTensors& tensors,
                     const CalibratedLinear& linear,
                     kernels::CodedTensor coded);
  // part: 0..1 of the running step.
  void Report(const CalibrationStep& step, double part) const;

  const Checkpoint& checkpoint_;
  const ModelDescription& model_;
  const ModelConfig& config_;
  const SweepPlan& sweep_;
  ThreadPool& pool_;
  Device& device_;
  CodeCache& codes_;
  // No calibrated scheme needs the next two.
  const LargestWeights largest_;
  const ReadyCheckpoints checkpoints_{""};
  const WeightSources sources_{codes_, largest_, checkpoints_};
  const std::stop_token stop_;
  const Progress progress_;

  // Of the running call.
  CalibrationPlan plan_;
  size_t done_ = 0;  // steps
  std::optional<CalibrationStates> states_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_CALIBRATOR_H_
