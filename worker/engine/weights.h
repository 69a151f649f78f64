#ifndef QSWEEP_WORKER_ENGINE_WEIGHTS_H_
#define QSWEEP_WORKER_ENGINE_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stop_token>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/job/model_description.h"
#include "worker/engine/block.h"
#include "worker/engine/products.h"
#include "worker/engine/thread_pool.h"
#include "worker/engine/weight_sources.h"
#include "worker/kernels/row_kernels.h"
#include "worker/model/checkpoint.h"
#include "worker/sweep/trie.h"

namespace qsweep {

// The tensors of one stage as the file holds them, widened to fp32. From them
// each variant of the stage's weights is made. Read once, then only read.
class StageTensors {
 public:
  // Reads every tensor of the stage, in parallel. Errors of
  // Checkpoint::ReadTensor; CANCELLED.
  static absl::StatusOr<StageTensors> Read(const Checkpoint& checkpoint,
                                           const ModelDescription& model,
                                           const Stage& stage, ThreadPool& pool,
                                           const std::stop_token& stop);
  // The same in the place of what is here, in whose memory where it fits. After
  // an error it is half read.
  absl::Status Replace(const Checkpoint& checkpoint,
                       const ModelDescription& model, const Stage& stage,
                       ThreadPool& pool, const std::stop_token& stop);

  // A tensor of the stage as the file has it, row-major.
  const TensorDescription& description(size_t index) const {
    return *tensors_[index].description;
  }
  std::span<const float> values(size_t index) const {
    const kernels::FloatBuffer& values = tensors_[index].values;
    return {values.data(), static_cast<size_t>(values.size())};
  }

  // Weights of a Llama block, ready for a BlockRunner, with what their schemes
  // need from `sources`.
  // `weights`: of the same mode, whose memory is used again, or none.
  // UNIMPLEMENTED QS3004: a stage that is none. UNAVAILABLE: a file of codes
  // that was there is damaged. CANCELLED. After an error `weights` is half
  // written.
  absl::Status MakeBlock(const StageVariant& variant, const ProductMode& mode,
                         const WeightSources& sources, ThreadPool& pool,
                         const std::stop_token& stop,
                         BlockWeights& weights) const;
  // The only tensor of a stage, row-major: the head, embeddings, a norm's
  // gains. Errors of kernels::FakeQuantize.
  absl::StatusOr<kernels::FloatBuffer> Make(const StageVariant& variant,
                                            const WeightSources& sources,
                                            ThreadPool& pool,
                                            const std::stop_token& stop) const;
  // The same in the tensor's own memory, which is gone from the stage then.
  absl::StatusOr<kernels::FloatBuffer> Take(const StageVariant& variant,
                                            const WeightSources& sources,
                                            ThreadPool& pool,
                                            const std::stop_token& stop) &&;

 private:
  struct Tensor {
    const TensorDescription* description = nullptr;
    kernels::FloatBuffer values;
  };
  using Codes = std::shared_ptr<const kernels::CodedTensor>;
  // Of each tensor whose scheme is calibrated.
  absl::StatusOr<std::vector<Codes>> FindCodes(
      const StageVariant& variant, const WeightSources& sources,
      ThreadPool& pool, const std::stop_token& stop) const;
  // Tensor `index` under the scheme of `variant`, which is not calibrated.
  absl::Status Write(size_t index, const StageVariant& variant,
                     const WeightSources& sources, ThreadPool& pool,
                     const std::stop_token& stop, float* out) const;

  const ModelDescription* model_ = nullptr;
  std::vector<Tensor> tensors_;  // parallel to the stage's
};

// Prepares every panel of the matrices, in parallel. CANCELLED.
absl::Status PreparePanels(std::span<Matrix* const> matrices, ThreadPool& pool,
                           const std::stop_token& stop);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_WEIGHTS_H_
