#ifndef QSWEEP_WORKER_ENGINE_WEIGHTS_H_
#define QSWEEP_WORKER_ENGINE_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <stop_token>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/job/model_description.h"
#include "worker/engine/block.h"
#include "worker/engine/code_cache.h"
#include "worker/engine/products.h"
#include "worker/engine/thread_pool.h"
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

  // A tensor of the stage as the file has it, row-major.
  const TensorDescription& description(size_t index) const {
    return *tensors_[index].description;
  }
  std::span<const float> values(size_t index) const {
    const kernels::FloatBuffer& values = tensors_[index].values;
    return {values.data(), static_cast<size_t>(values.size())};
  }

  // Weights of a Llama block; those of calibrated schemes from `codes`, which
  // must have them. FAILED_PRECONDITION: a stage that is none. UNAVAILABLE: a
  // file of codes that was there is gone.
  absl::StatusOr<BlockWeights> MakeBlock(const StageVariant& variant,
                                         const CodeCache& codes,
                                         ThreadPool& pool,
                                         const std::stop_token& stop) const;
  // A single matrix: the head.
  absl::StatusOr<Matrix> MakeMatrix(const StageVariant& variant) const;
  // A single tensor, row-major: embeddings, a norm's gains.
  absl::StatusOr<kernels::FloatBuffer> MakePlain(
      const StageVariant& variant) const;

 private:
  struct Tensor {
    const TensorDescription* description = nullptr;
    kernels::FloatBuffer values;
  };

  // The tensor's values under the scheme of `variant`: its own, or quantized
  // into `scratch`.
  absl::StatusOr<const float*> Values(size_t index, const StageVariant& variant,
                                      const CodeCache* codes,
                                      kernels::FloatBuffer& scratch) const;

  const ModelDescription* model_ = nullptr;
  std::vector<Tensor> tensors_;  // parallel to the stage's
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_WEIGHTS_H_
