#ifndef QSWEEP_WORKER_ENGINE_CUDA_HEAD_H_
#define QSWEEP_WORKER_ENGINE_CUDA_HEAD_H_

#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <vector>

#include "absl/status/status.h"

#include "worker/engine/cuda_memory.h"
#include "worker/engine/cuda_products.h"
#include "worker/kernels/cuda_types.h"
#include "worker/kernels/row_kernels.h"
#include "worker/model/config.h"

namespace qsweep {

// Final states in device memory, and what they go through.
struct DeviceHeadInput {
  const float* rows = nullptr;   // [rows, hidden], before the final norm
  const float* gains = nullptr;  // [hidden], of the final norm
  DeviceMatrix head;             // [vocabulary, hidden]
};

// Scores rows of final states against the tokens that follow, as HeadScorer
// does on the CPU: logits exist for a tile of rows and some columns of the
// vocabulary at a time, the baseline's once, each configuration's beside it.
// Owns its buffers. config must outlive it.
class DeviceHeadScorer {
 public:
  DeviceHeadScorer(const ModelConfig& config, kernels::FloatType type)
      : config_(config), type_(type) {}

  // Configurations that fit beside the baseline, and what the buffers take for
  // so many.
  static int64_t ScoredTogether(const ModelConfig& config,
                                kernels::FloatType type);
  static int64_t Bytes(const ModelConfig& config, kernels::FloatType type);

  // The products that a head is made of.
  static std::vector<DeviceProduct> Products(const ModelConfig& config);

  // inputs: the baseline first; at most ScoredTogether besides. gold: [rows]
  // ids to predict, device memory. scores: [inputs, rows], each input against
  // the baseline. tile_done: after each tile of rows, with the end of what is
  // final. CANCELLED; QS5006, QS5013.
  absl::Status Score(std::span<const DeviceHeadInput> inputs,
                     const int32_t* gold, int64_t num_rows,
                     std::span<kernels::TokenScore> scores,
                     const std::stop_token& stop,
                     const std::function<void(int64_t end)>& tile_done);

 private:
  struct Tile {  // of rows
    std::span<const DeviceHeadInput> inputs;
    const int32_t* gold = nullptr;
    int64_t rows = 0;
  };

  absl::Status Normalize(const Tile& tile, int64_t first);
  absl::Status AddColumns(const Tile& tile, int64_t column);

  const ModelConfig& config_;
  const kernels::FloatType type_;
  DeviceBuffer normed_;           // [inputs, tile, hidden], type
  DeviceBuffer baseline_logits_;  // [tile, columns]
  DeviceBuffer logits_;           // [tile, columns]
  DeviceBuffer states_;           // [inputs, tile] HeadRow
  DeviceBuffer rescale_;          // [tile] double
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_CUDA_HEAD_H_
