#ifndef QSWEEP_WORKER_ENGINE_BLOCK_H_
#define QSWEEP_WORKER_ENGINE_BLOCK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stop_token>
#include <vector>

#include "absl/status/status.h"

#include "worker/engine/products.h"
#include "worker/engine/rotary.h"
#include "worker/kernels/row_kernels.h"
#include "worker/model/config.h"

namespace qsweep {

// One variant of a Llama block's weights. For a BlockRunner every panel is
// prepared; then read by all threads, written by none.
struct BlockWeights {
  kernels::FloatBuffer norm1;  // [hidden]
  Matrix qkv;                  // [(heads + 2 kv_heads) head_dim, hidden]
  Matrix o;                    // [hidden, heads head_dim]
  kernels::FloatBuffer norm2;  // [hidden]
  Matrix gate;                 // [intermediate, hidden]
  Matrix up;                   // [intermediate, hidden]
  Matrix down;                 // [hidden, intermediate]
};

// The rows of one document in one state: where its hidden vectors are and where
// the next layer's go, which may be the same place.
struct Segment {
  const float* from = nullptr;  // [rows, hidden], stride of the state
  float* to = nullptr;
  int64_t rows = 0;  // one per position, from position 0
};

// What the linear layers of a block read; layers that read the same share one.
enum class BlockInput { kAttention, kContext, kMlp, kDown };
inline constexpr size_t kNumBlockInputs = 4;

// A copy of these inputs for some positions, and of what the halves of the
// block, attention and MLP, add to the states: what calibration looks at.
struct BlockInputs {
  // Room for max_rows positions.
  BlockInputs(const ModelConfig& config, int64_t max_rows);
  // Bytes of that room.
  static int64_t Bytes(const ModelConfig& config, int64_t max_rows);

  struct Rows {
    int64_t width = 0;
    int64_t stride = 0;
    kernels::FloatBuffer values;  // [max_rows, width], a row every stride
  };
  Rows& operator[](BlockInput input) {
    return inputs[static_cast<size_t>(input)];
  }

  int64_t rows = 0;
  std::array<Rows, kNumBlockInputs> inputs;
  std::array<Rows, 2> outputs;
};

// Takes segments through a block on one thread. Owns the thread's buffers, so
// that nothing is allocated per call. One per thread.
class BlockRunner {
 public:
  // max_rows: of all segments of one call. config and rotary must outlive the
  // runner.
  BlockRunner(const ModelConfig& config, const RotaryTable& rotary,
              int64_t max_rows);

  // Bytes of its buffers.
  static int64_t Bytes(const ModelConfig& config, int64_t max_rows);

  // Bytes of the panels of a block's weights, which all threads share.
  static int64_t PanelBytes(const ModelConfig& config);

  // The products that a block of the model is made of.
  static std::vector<ProductShape> Products(const ModelConfig& config);

  // segments: whole documents, at most max_rows rows together. stride: of the
  // states' rows. inputs, or nullptr: receives what calibration looks at, its
  // rows in the order of the segments. CANCELLED when stop is requested; then
  // `to` is half written.
  absl::Status Run(const BlockWeights& weights,
                   std::span<const Segment> segments, int64_t stride,
                   const std::stop_token& stop, BlockInputs* inputs = nullptr);

 private:
  struct Row {  // of the call's segments, stacked
    const float* from;
    float* to;
    int64_t position;
  };

  void Multiply(const float* rows, int64_t row_stride, const Matrix& weight,
                float* out, int64_t out_stride);
  void ProjectTile(const BlockWeights& weights, int64_t first, int rows);
  void Attend(int64_t first_row, int64_t rows);
  void FinishTile(const BlockWeights& weights, int64_t first, int rows);
  void Copy(const float* from, int64_t stride, int64_t first, int rows,
            BlockInput input);
  void CopyRows(const float* from, int64_t stride, int64_t first, int rows,
                BlockInputs::Rows& to);
  void CopyOutput(int64_t first, int rows, size_t half);

  const ModelConfig& config_;
  const RotaryTable& rotary_;
  const kernels::RowKernels& kernels_;
  const int64_t hidden_stride_;
  const int64_t qkv_stride_;
  const int64_t mlp_stride_;

  std::vector<Row> rows_;
  BlockInputs* inputs_ = nullptr;  // of the running call
  kernels::FloatBuffer qkv_;       // [max_rows, q k v]; q becomes the context
  kernels::FloatBuffer normed_;    // [tile, hidden]
  kernels::FloatBuffer hidden_;    // [tile, hidden]: after attention
  kernels::FloatBuffer delta_;     // [tile, hidden]: what a sub-layer adds
  kernels::FloatBuffer gate_;      // [tile, intermediate]
  kernels::FloatBuffer up_;        // [tile, columns of a panel]
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_BLOCK_H_
