#ifndef QSWEEP_WORKER_KERNELS_ROW_KERNELS_H_
#define QSWEEP_WORKER_KERNELS_ROW_KERNELS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "worker/kernels/head_row.h"

namespace qsweep::kernels {

// The arithmetic of a decoder on the CPU besides matrix products and attention
// (worker/engine/products.h), single-threaded, over row tiles.
// Every output row is computed from its own input row in one fixed order, so
// its bits depend on nothing else: not on its place in the tile, its
// neighbours, the thread, or how rows were grouped. Plain pointers in row-major
// order; strides are in floats.

inline constexpr int kTileRows = 128;    // height of every matrix product
inline constexpr int kLogitPadding = 8;  // head kernels read multiples of this

constexpr int64_t RoundUp(int64_t n, int64_t step) {
  return (n + step - 1) / step * step;
}

// A row stride for n floats: whole cache lines, and not a power of two, which
// would put all rows of a tile into the same cache sets.
constexpr int64_t RowStride(int64_t n) {
  const int64_t stride = RoundUp(n, 16);
  return stride % 256 == 0 ? stride + 16 : stride;
}

// 64-byte aligned floats, zero at first. Movable. A large one takes pages of
// its own from the system, as it is written, and gives them back when it goes.
class FloatBuffer {
 public:
  FloatBuffer() = default;
  explicit FloatBuffer(int64_t size);

  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  int64_t size() const { return size_; }

 private:
  struct Free {
    Free() : Free(0) {}
    explicit Free(size_t bytes) : mapped_bytes(bytes) {}
    size_t mapped_bytes;  // of pages of its own; 0: from the heap
    void operator()(float* data) const;
  };
  std::unique_ptr<float[], Free> data_;
  int64_t size_ = 0;
};

// A tile of logits: some rows, `columns` of the vocabulary from first_column.
struct LogitTile {
  float* logits = nullptr;  // columns up to the next kLogitPadding are written
  int64_t stride = 0;
  int rows = 0;
  int64_t columns = 0;
  int32_t first_column = 0;
  const int32_t* gold = nullptr;  // [rows] token ids to predict
};

// The functions for one kind of CPU.
struct RowKernels {
  const char* name;  // "avx2"

  // out = x / sqrt(mean(x^2) + eps) * gain, for one row of n.
  void (*rms_norm)(const float* x, const float* gain, int64_t n, float eps,
                   float* out);

  // Rotates each of `heads` heads of head_dim values, halves as pairs. cosines,
  // sines: [head_dim / 2], of the row's position.
  void (*rotate)(float* row, int heads, int head_dim, const float* cosines,
                 const float* sines);

  // gate = silu(gate) * up, n values.
  void (*silu_multiply)(float* gate, const float* up, int64_t n);

  // out = x + y, n values. out may be x.
  void (*add)(const float* x, const float* y, int64_t n, float* out);

  // Rounds n values to bfloat16, to nearest even; NaN stays NaN. out may be x.
  void (*round_to_bf16)(const float* x, int64_t n, float* out);
  // The same, as the upper halves of the floats.
  void (*to_bf16)(const float* x, int64_t n, uint16_t* out);

  // Adds a tile of the baseline's logits to rows[r]. exps: like tile.logits,
  // receives exp(logit - max so far). rescale: [rows], receives what earlier
  // sums that are relative to the old maximum must be multiplied by.
  void (*add_baseline)(const LogitTile& tile, HeadRow* rows, float* exps,
                       double* rescale);

  // Adds a tile of a configuration's logits to rows[r]; the baseline's logits,
  // exps and rescale are those of the same columns.
  void (*add_configuration)(const LogitTile& tile, const float* baseline_logits,
                            const float* exps, const double* rescale,
                            HeadRow* rows);
};

// The best for this CPU. The same for the whole life of the process.
const RowKernels& BestRowKernels();
// All that this CPU can run, the slowest first.
std::span<const RowKernels* const> AvailableRowKernels();

// What one token scored.
struct TokenScore {
  double nll = 0;     // nats
  double nll_fp = 0;  // nats, the baseline's
  double kl = 0;      // nats, KL(baseline || configuration)
  bool top1 = false;  // both argmax agree
};
TokenScore ScoreOf(const HeadRow& baseline, const HeadRow& configuration);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_ROW_KERNELS_H_
