#ifndef QSWEEP_WORKER_ENGINE_PRODUCTS_H_
#define QSWEEP_WORKER_ENGINE_PRODUCTS_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/job/quantizer.h"
#include "worker/kernels/aligned_array.h"
#include "worker/kernels/row_kernels.h"

namespace qsweep {

// The engine's matrix products, by libtorch. Each runs on the calling thread
// alone and on one fixed shape, so that a row's bits depend on the row and the
// weights only: the library picks another kernel, and other bits, for a few
// rows or for several threads. CheckReproducible proves it at each start.

// kTwoParts: the last three fifths of the inputs are summed, then the first two
// are added. It is as right as the usual one: what the two differ by is the
// noise of this arithmetic.
enum class SumOrder { kUsual, kTwoParts };

// How products are computed. In bf16 rows and weights are rounded to bfloat16,
// to nearest even, and their products summed in fp32.
struct ProductMode {
  Compute compute = Compute::kFp32;  // or kBf16
  // In bf16: by the CPU's own instructions. Else in fp32, where products of
  // two bfloat16 are exact: the same sums in another order.
  bool native = false;
  SumOrder order = SumOrder::kUsual;
};

// Whether libtorch carries products for native modes, which run on any CPU; and
// whether this one has instructions for them.
bool CanMultiplyNative();
bool HasNativeBf16();

// Rows of a weight matrix as the library reads them. A product of a tile would
// have it lay them out anew each time, a sixth of the work: this is done once
// for all tiles (docs/adr/0035-weights-are-laid-out-once.md). Movable; any
// number of threads may multiply by it while nobody prepares it.
class Panel {
 public:
  // rows: [outputs, inputs], rounded as the mode says. They must stay as and
  // where they are while the panel is in use. Memory of an earlier call is used
  // again.
  void Prepare(const float* rows, int64_t inputs, int64_t outputs,
               const ProductMode& mode);

  int64_t inputs() const { return inputs_; }
  int64_t outputs() const { return outputs_; }

  // Bytes that Prepare brings into memory at most, in fp32.
  static int64_t Bytes(int64_t inputs, int64_t outputs);

 private:
  friend void MultiplyTile(const float* rows, int64_t row_stride,
                           const Panel& weight, float* out, int64_t out_stride);

  int64_t inputs_ = 0;
  int64_t outputs_ = 0;
  ProductMode mode_;
  const float* rows_ = nullptr;
  bool packed_ = false;  // whether packed_rows_ are in use
  kernels::FloatBuffer packed_rows_;
  kernels::AlignedArray<uint16_t> halves_;  // native: [outputs, inputs]
};

// Outputs of a matrix in one panel: its product with a tile stays in the cache.
inline constexpr int64_t kPanelOutputs = 384;

// A weight matrix [outputs, inputs], row-major, for products of one mode.
// Movable, thread-compatible.
class Matrix {
 public:
  Matrix() = default;
  // Not initialized: to be written, and then rounded by RoundRows.
  Matrix(int64_t outputs, int64_t inputs, const ProductMode& mode = {});
  // values: [outputs, inputs], rounded here.
  Matrix(int64_t outputs, int64_t inputs, kernels::FloatBuffer values,
         const ProductMode& mode = {});

  int64_t outputs() const { return outputs_; }
  int64_t inputs() const { return inputs_; }
  const ProductMode& mode() const { return mode_; }

  // Rounds these rows as the mode says. Others may be written meanwhile.
  void RoundRows(int64_t first, int64_t count);

  // Row `output`: `inputs` values.
  float* row(int64_t output) { return values_.data() + output * inputs_; }
  const float* row(int64_t output) const {
    return values_.data() + output * inputs_;
  }

  // All outputs, kPanelOutputs in each but the last. Each is to be prepared
  // after its rows were written; others may be meanwhile.
  std::span<const Panel> panels() const { return panels_; }
  void PreparePanel(size_t index);

 private:
  int64_t outputs_ = 0;
  int64_t inputs_ = 0;
  ProductMode mode_;
  kernels::FloatBuffer values_;
  std::vector<Panel> panels_;
};

// What a product looks like to the library, which picks its way by that.
struct ProductShape {
  int64_t inputs = 0;
  int64_t row_stride = 0;
  int64_t outputs = 0;
  int64_t out_stride = 0;
  auto operator<=>(const ProductShape&) const = default;
};

// out[r][j] = sum over i of rows[r][i] * weight[j][i], for all r of a whole
// tile (kTileRows: pad with any finite rows) and every output j of the panel.
// Strides in floats. In the panel's mode.
void MultiplyTile(const float* rows, int64_t row_stride, const Panel& weight,
                  float* out, int64_t out_stride);

// What MultiplyTile asks of the library for a product of rounded rows.
ProductShape RoundedShape(const ProductShape& shape);
// Of a thread, for products of rounded rows of at most so many inputs.
int64_t RoundedBytes(int64_t inputs);

// sum[i][first + j] += sum over r of rows[r][first + i] *
// rows[r][first + j], for i < count and first + j < columns: rows first to
// first + count of the upper triangle of X^T X, and what is beside it. Bits
// depend on the arguments alone. sum: those rows alone, [count, columns].
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

// Causal scaled dot-product attention of one document, in fp32 in every mode;
// writes the context over the queries.
void AttendDocument(const AttentionHeads& document);

// "torch 2.13.0 avx512 intel-amx": for the fingerprint. Which libtorch, and
// what its own loops and those of the library under it choose by: the vector
// level that it uses, the CPU's vendor and level, and what the environment
// tells MKL (MKL_ENABLE_INSTRUCTIONS, MKL_CBWR), where it does.
std::string ProductsVersion();

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_PRODUCTS_H_
