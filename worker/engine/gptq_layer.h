#ifndef QSWEEP_WORKER_ENGINE_GPTQ_LAYER_H_
#define QSWEEP_WORKER_ENGINE_GPTQ_LAYER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/job/quantizer.h"
#include "worker/engine/block.h"
#include "worker/engine/device.h"
#include "worker/engine/thread_pool.h"
#include "worker/engine/weights.h"
#include "worker/kernels/coded_tensor.h"
#include "worker/kernels/gptq.h"
#include "worker/kernels/row_kernels.h"

namespace qsweep {

// A linear layer of a block that is to be quantized by what it reads.
struct CalibratedLinear {
  size_t tensor = 0;  // of the block's stage
  Scheme scheme;
  BlockInput input = BlockInput::kAttention;
  int64_t rows = 0;
  int64_t columns = 0;
};

// GPTQ of one block: sums the Hessians of what linear layers read, then
// quantizes the layers. Every sum has one order, so the codes do not depend on
// the number of threads. Columns are rounded on the device where it can.
// Single-thread, but for its own work on the pool. Everything borrowed must
// outlive it.
class GptqLayer {
 public:
  GptqLayer(std::vector<CalibratedLinear> linears, ThreadPool& pool,
            Device& device, std::stop_token stop);

  // What one takes at most, codes included.
  static int64_t Bytes(std::span<const CalibratedLinear> linears);

  // Adds inputs of the block, one unit after another. CANCELLED.
  absl::Status Add(std::span<const BlockInputs> units);

  // The codes of each, after `positions` inputs in all. FAILED_PRECONDITION
  // QS5012: a singular Hessian. Errors of store. CANCELLED.
  using Store = std::function<absl::Status(const CalibratedLinear& linear,
                                           kernels::CodedTensor coded)>;
  absl::Status Quantize(const StageTensors& tensors, int64_t positions,
                        const Store& store);

 private:
  // Factors of Hessians, which tensors of one input share.
  struct Factors {
    std::vector<kernels::GptqFactor> all;
    std::vector<size_t> of;  // by linear layer, into `all`
  };
  absl::StatusOr<Factors> Factor(const StageTensors& tensors) const;

  const std::vector<CalibratedLinear> linears_;
  ThreadPool& pool_;
  Device& device_;
  const std::stop_token stop_;
  // Upper triangles until Quantize; empty where nothing reads the input.
  std::array<kernels::FloatBuffer, kNumBlockInputs> hessians_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_GPTQ_LAYER_H_
