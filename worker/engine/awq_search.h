#ifndef QSWEEP_WORKER_ENGINE_AWQ_SEARCH_H_
#define QSWEEP_WORKER_ENGINE_AWQ_SEARCH_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <stop_token>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/job/quantizer.h"
#include "worker/engine/block.h"
#include "worker/engine/thread_pool.h"
#include "worker/engine/weights.h"
#include "worker/kernels/coded_tensor.h"
#include "worker/kernels/row_kernels.h"
#include "worker/model/config.h"

namespace qsweep {

// AWQ of one block: looks for the column scales that change what the block's
// halves add least, and for the limits of groups, over calibration texts. Every
// sum has one order, so what is found does not depend on the number of threads.
// Single-thread, but for its own work on the pool. Everything borrowed must
// outlive it.
class AwqSearch {
 public:
  // A linear layer of the block: a tensor of the stage, and what it reads.
  struct Linear {
    size_t tensor = 0;
    BlockInput input = BlockInput::kAttention;
  };
  // Called once for each unit of positions, the first of which is
  // `first_position`; from several threads at once.
  using Visit = std::function<void(size_t unit, int64_t first_position,
                                   const BlockInputs& inputs)>;
  // Takes all texts through the block with these weights, unit by unit in their
  // order, some at a time, for as long as `enough` between these is false.
  using RunBlock =
      std::function<absl::Status(const BlockWeights& weights, const Visit&,
                                 const std::function<bool()>& enough)>;

  // What one takes at most: of a block whose widest input, and widest group of
  // inputs, are these.
  static int64_t Bytes(const ModelConfig& config, int64_t positions,
                       size_t units, int64_t columns, int64_t group,
                       int threads);

  // weights: not quantized; changed and changed back. positions, units: of all
  // texts.
  AwqSearch(const ModelConfig& config, const StageTensors& tensors,
            std::vector<Linear> linears, BlockWeights& weights,
            int64_t positions, size_t units, ThreadPool& pool,
            std::stop_token stop, RunBlock run_block);

  // Looks at the block's inputs and outputs. Before the next.
  // FAILED_PRECONDITION QS5012: inputs that are not finite. CANCELLED.
  absl::Status Measure();
  // The codes of a linear layer. CANCELLED.
  absl::StatusOr<kernels::CodedTensor> Quantize(const Scheme& scheme,
                                                const Linear& linear);

 private:
  using Scales = std::vector<float>;

  bool HasScales(BlockInput input) const;
  absl::StatusOr<const Scales*> FindScales(const Scheme& scheme,
                                           BlockInput input);
  // The linear layers that read `input` as they are stored under the scheme.
  absl::Status Replace(const Scheme& scheme, BlockInput input,
                       const Scales& scales);
  absl::Status Restore(BlockInput input);
  // What a BlockRunner reads of their matrices, after they were written.
  absl::Status PreparePanels(BlockInput input);
  // Squared error of what the half of the block that reads `input` adds; more
  // than `least` where it is found to be that.
  absl::StatusOr<double> Loss(BlockInput input, double least);
  float* PlaceOf(const Linear& linear);
  // As kernels::AwqLimits takes them.
  absl::StatusOr<std::vector<float>> Grams(const Scheme& scheme,
                                           BlockInput input,
                                           const Scales& scales);

  const ModelConfig& config_;
  const StageTensors& tensors_;
  const std::vector<Linear> linears_;
  BlockWeights& weights_;
  const int64_t positions_;
  const size_t units_;
  ThreadPool& pool_;
  const std::stop_token stop_;
  const RunBlock run_block_;

  const int64_t sample_step_;  // every so many positions one is looked at
  std::array<std::vector<float>, kNumBlockInputs> magnitudes_;
  std::array<std::vector<float>, kNumBlockInputs> samples_;
  std::array<kernels::FloatBuffer, 2> outputs_;  // [positions, hidden]
  std::map<std::pair<Scheme, BlockInput>, Scales> scales_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_AWQ_SEARCH_H_
