#ifndef QSWEEP_WORKER_ENGINE_CUDA_MACHINE_H_
#define QSWEEP_WORKER_ENGINE_CUDA_MACHINE_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

#include "common/job/model_description.h"
#include "common/job/quantizer.h"
#include "worker/engine/pass.h"
#include "worker/model/config.h"
#include "worker/sweep/trie.h"

namespace qsweep {

// A Llama-architecture decoder on a GPU. Hidden states, norms, softmax and sums
// are fp32; the products read weights and inputs in fp32 or, with
// Compute::kFp16, in fp16. Errors of every call: QS5006, QS5013.
absl::StatusOr<std::unique_ptr<PassMachine>> MakeCudaMachine(
    PassContext context);

// Bytes of a slot's row, and of the weights and buffers beside the slots of a
// pass whose longest document has longest_rows.
int64_t CudaStateBytes(const ModelConfig& config);
int64_t CudaWorkingBytes(const ModelConfig& config,
                         const ModelDescription& model, const SweepPlan& plan,
                         Compute compute, int64_t longest_rows);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_CUDA_MACHINE_H_
