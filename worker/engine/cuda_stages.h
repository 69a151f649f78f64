#ifndef QSWEEP_WORKER_ENGINE_CUDA_STAGES_H_
#define QSWEEP_WORKER_ENGINE_CUDA_STAGES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <future>
#include <optional>
#include <stop_token>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/job/model_description.h"
#include "worker/engine/cuda_memory.h"
#include "worker/engine/thread_pool.h"
#include "worker/kernels/cuda_types.h"
#include "worker/model/checkpoint.h"
#include "worker/sweep/trie.h"

namespace qsweep {

// Threads of the host for what the device waits for: the cores, at most eight.
int NumHostThreads();

// The tensors of one stage in device memory, as the file has them or widened to
// fp32.
struct DeviceStage {
  struct Tensor {
    const TensorDescription* description = nullptr;
    kernels::FloatType type = kernels::FloatType::kFp32;
    DeviceBuffer values;
  };
  std::vector<Tensor> tensors;  // parallel to the stage's
};

// Brings stages to the GPU, the next one while the GPU computes with another: a
// thread of its own, with up to eight copiers, copies a file's bytes piece by
// piece into page-locked buffers, from which they are uploaded. Its calls come
// from one thread. Everything borrowed must outlive it.
class StageLoader {
 public:
  StageLoader(const Checkpoint& checkpoint, const ModelDescription& model,
              std::stop_token stop);
  ~StageLoader();
  StageLoader(const StageLoader&) = delete;
  StageLoader& operator=(const StageLoader&) = delete;

  // Starts to load a stage, which must outlive the loader; nothing where one is
  // being loaded or waits to be taken.
  void Prefetch(const Stage& stage);
  // The stage, all its values finite; waits for it, or loads it now. Errors of
  // Checkpoint::ReadTensor; DATA_LOSS QS3007; QS5006, QS5013; CANCELLED.
  absl::StatusOr<DeviceStage> Take(const Stage& stage);

 private:
  absl::StatusOr<DeviceStage> TakeOrLoad(const Stage& stage);
  absl::StatusOr<DeviceStage> Load(const Stage& stage);
  absl::Status LoadTensor(DeviceStage::Tensor& tensor);
  absl::Status Upload(const char* from, int64_t bytes, char* to);

  const Checkpoint& checkpoint_;
  const ModelDescription& model_;
  const std::stop_token stop_;
  ThreadPool copiers_;                    // used by one Load at a time
  std::array<StagingBuffer, 4> staging_;  // made by the first Load
  size_t next_staging_ = 0;
  const Stage* prefetching_ = nullptr;  // what the next two are of
  std::future<absl::StatusOr<DeviceStage>> prefetched_;
  std::optional<DeviceStage> waiting_;  // to be taken
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_CUDA_STAGES_H_
