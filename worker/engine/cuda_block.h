#ifndef QSWEEP_WORKER_ENGINE_CUDA_BLOCK_H_
#define QSWEEP_WORKER_ENGINE_CUDA_BLOCK_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"

#include "worker/engine/cuda_memory.h"
#include "worker/engine/cuda_products.h"
#include "worker/engine/cuda_weights.h"
#include "worker/engine/pass.h"
#include "worker/engine/rotary.h"
#include "worker/kernels/cuda_types.h"
#include "worker/model/config.h"

namespace qsweep {

// Consecutive documents in some states: what goes through a block together.
struct DeviceUnit {
  struct State {
    const float* from = nullptr;  // [rows, hidden], of the first document
    float* to = nullptr;          // where its next layer goes; may be from
  };
  std::vector<State> states;
  std::span<const PassRows::Document> documents;

  int64_t first_row() const { return documents.front().first; }
  int64_t rows_of_state() const {
    return documents.back().first + documents.back().count - first_row();
  }
  int64_t rows() const {
    return rows_of_state() * static_cast<int64_t>(states.size());
  }
};

// Takes units through a Llama block on the compute stream, asynchronously. Owns
// the buffers of the rows that are inside. config must outlive it.
class DeviceBlockRunner {
 public:
  DeviceBlockRunner(const ModelConfig& config, kernels::FloatType type)
      : config_(config), type_(type) {}

  // Rows that a unit should have at most, whole tiles of the products; a longer
  // document is a unit. And what the buffers take, attention's included.
  static int64_t UnitRows(const ModelConfig& config, kernels::FloatType type);
  static int64_t UnitBytes(const ModelConfig& config, kernels::FloatType type,
                           int64_t longest_rows);

  // The products that a block is made of.
  static std::vector<DeviceProduct> Products(const ModelConfig& config);

  // Makes room for units of max_rows rows and uploads the positions of the
  // rows of a pass. QS5006, QS5013.
  absl::Status Start(const PassRows& rows, int64_t max_rows);

  // QS5006, QS5013.
  absl::Status Run(const DeviceBlock& weights, const DeviceUnit& unit);

 private:
  absl::Status Attend(const DeviceUnit& unit);
  absl::Status Finish(const DeviceBlock& weights, const DeviceUnit& unit);
  absl::Status Norm(const float* rows, int64_t count, const float* gains,
                    void* out);

  const ModelConfig& config_;
  const kernels::FloatType type_;
  DeviceBuffer positions_;  // [rows of the pass] int32
  DeviceBuffer cosines_;    // [longest document, head_dim / 2]
  DeviceBuffer sines_;
  // [rows, *]: fp32, or `type` where a product reads them.
  DeviceBuffer normed_;   // [hidden], type
  DeviceBuffer qkv_;      // [q k v]
  DeviceBuffer context_;  // [q], type
  DeviceBuffer delta_;    // [hidden]: what a sub-layer adds
  DeviceBuffer hidden_;   // [hidden]: after attention
  DeviceBuffer gate_;     // [intermediate]
  DeviceBuffer up_;       // [intermediate]
  DeviceBuffer act_;      // [intermediate], type
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_CUDA_BLOCK_H_
