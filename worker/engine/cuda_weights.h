#ifndef QSWEEP_WORKER_ENGINE_CUDA_WEIGHTS_H_
#define QSWEEP_WORKER_ENGINE_CUDA_WEIGHTS_H_

#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/job/model_description.h"
#include "worker/engine/cuda_memory.h"
#include "worker/engine/cuda_products.h"
#include "worker/engine/cuda_stages.h"
#include "worker/engine/thread_pool.h"
#include "worker/engine/weight_sources.h"
#include "worker/kernels/coded_tensor.h"
#include "worker/kernels/cuda_types.h"
#include "worker/sweep/trie.h"

namespace qsweep {

// One variant of a Llama block's weights in device memory. Matrices of the type
// that is computed in; norms of fp32.
struct DeviceBlock {
  DeviceBuffer memory;  // of all of them
  const float* norm1 = nullptr;
  DeviceMatrix qkv;
  DeviceMatrix o;
  const float* norm2 = nullptr;
  DeviceMatrix gate;
  DeviceMatrix up;
  DeviceMatrix down;
};

// A tensor under a scheme, in a buffer of its own.
struct DeviceTensor {
  DeviceBuffer memory;
  DeviceMatrix matrix;
};

// Makes variants of stages' weights, in buffers that it keeps between calls. On
// the thread that computes. Everything borrowed must outlive it.
class WeightMaker {
 public:
  WeightMaker(const ModelDescription& model, const WeightSources& sources,
              std::stop_token stop);

  // FAILED_PRECONDITION: a stage that is no Llama block. UNAVAILABLE: a file of
  // codes is gone. INVALID_ARGUMENT QS1004: weights too large for the scheme's
  // fp16. QS5006, QS5013; CANCELLED.
  absl::Status MakeBlock(const DeviceStage& stage, const StageVariant& variant,
                         kernels::FloatType type, DeviceBlock& block);
  // Of a stage of one tensor, as a matrix; a vector is one row.
  absl::StatusOr<DeviceTensor> MakeTensor(const DeviceStage& stage,
                                          const StageVariant& variant,
                                          kernels::FloatType type);
  // Gives its buffers back.
  void Release();

 private:
  // What the host has of a tensor: its codes where the scheme is calibrated,
  // its values where a ready checkpoint has them.
  struct FromHost {
    std::shared_ptr<const kernels::CodedTensor> codes;
    std::vector<float> values;
  };

  absl::StatusOr<std::vector<FromHost>> FindOnHost(const DeviceStage& stage,
                                                   const StageVariant& variant);
  absl::Status Make(const DeviceStage::Tensor& tensor,
                    const std::optional<Scheme>& scheme, const FromHost& host,
                    kernels::FloatType type, void* out);
  absl::Status CheckHalf(const DeviceStage::Tensor& tensor,
                         const Scheme& scheme, const void* values,
                         kernels::FloatType type);
  absl::StatusOr<std::vector<float>> Decode(const kernels::CodedTensor& codes);
  // Into values_.
  absl::Status Upload(std::span<const float> values);

  const ModelDescription& model_;
  const WeightSources sources_;
  const std::stop_token stop_;
  ThreadPool decoders_;
  DeviceBuffer workspace_;
  DeviceBuffer values_;  // fp32, before they are rounded to another type
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_CUDA_WEIGHTS_H_
