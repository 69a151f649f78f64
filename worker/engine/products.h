#ifndef QSWEEP_WORKER_ENGINE_PRODUCTS_H_
#define QSWEEP_WORKER_ENGINE_PRODUCTS_H_

#include <compare>
#include <cstdint>
#include <string>
#include <utility>

#include "worker/kernels/row_kernels.h"

namespace qsweep {

// The engine's matrix products, by libtorch. Each runs on the calling thread
// alone and on one fixed shape, so that a row's bits depend on the row and the
// weights only: the library picks another kernel, and other bits, for a few
// rows or for several threads. CheckReproducible proves it at each start.

// A weight matrix [outputs, inputs], row-major. Movable, thread-compatible.
class Matrix {
 public:
  Matrix() = default;
  Matrix(int64_t outputs, int64_t inputs)
      : Matrix(outputs, inputs, kernels::FloatBuffer(outputs * inputs)) {}
  // values: [outputs, inputs].
  Matrix(int64_t outputs, int64_t inputs, kernels::FloatBuffer values)
      : outputs_(outputs), inputs_(inputs), values_(std::move(values)) {}

  int64_t outputs() const { return outputs_; }
  int64_t inputs() const { return inputs_; }
  // Row `output`: `inputs` values.
  float* row(int64_t output) { return values_.data() + output * inputs_; }
  const float* row(int64_t output) const {
    return values_.data() + output * inputs_;
  }

 private:
  int64_t outputs_ = 0;
  int64_t inputs_ = 0;
  kernels::FloatBuffer values_;
};

// What a product looks like to the library, which picks its way by that.
struct ProductShape {
  int64_t inputs = 0;
  int64_t row_stride = 0;
  int64_t outputs = 0;
  int64_t out_stride = 0;
  auto operator<=>(const ProductShape&) const = default;
};

// out[r][j] = sum over i of rows[r][i] * weight[first + j][i], for all r of a
// whole tile (kTileRows: pad with any finite rows) and j < count. Strides in
// floats.
void MultiplyTile(const float* rows, int64_t row_stride, const Matrix& weight,
                  int64_t first, int64_t count, float* out, int64_t out_stride);

// sum[first + i][first + j] += sum over r of rows[r][first + i] *
// rows[r][first + j], for i < count and first + j < columns: rows first to
// first
// + count of the upper triangle of X^T X, and what is beside it. Bits depend on
// the arguments alone. sum: [columns, columns].
void AddGram(const float* rows, int64_t num_rows, int64_t row_stride,
             int64_t columns, int64_t first, int64_t count, float* sum);

// How the heads of one document lie in memory: row t of query head h is at
// queries + t * stride + h * head_dim; keys and values likewise, kv_heads each.
struct AttentionHeads {
  float* queries = nullptr;  // receives the context
  const float* keys = nullptr;
  const float* values = nullptr;
  int64_t stride = 0;
  int64_t rows = 0;  // positions of the document
  int heads = 0;
  int kv_heads = 0;  // divides heads
  int head_dim = 0;
};

// Causal scaled dot-product attention of one document, softmax in fp32; writes
// the context over the queries.
void AttendDocument(const AttentionHeads& document);

// "torch 2.13.0": for the fingerprint.
std::string ProductsVersion();

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_PRODUCTS_H_
