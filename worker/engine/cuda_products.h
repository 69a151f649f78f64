#ifndef QSWEEP_WORKER_ENGINE_CUDA_PRODUCTS_H_
#define QSWEEP_WORKER_ENGINE_CUDA_PRODUCTS_H_

#include <compare>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "worker/kernels/cuda_types.h"

namespace qsweep {

// The products of the device path, by libtorch, on the compute stream and
// asynchronous. A product runs on one fixed number of rows, and an attention
// for each document alone, so that a row's bits depend on the row and the
// weights only: the library picks another kernel, and other bits, by the shape.
// CheckCudaProducts (cuda_check.h) proves it.

// Height of every product. Rows of its operands are padded to it.
inline constexpr int64_t kDeviceTileRows = 2048;

// A weight matrix in device memory, row-major.
struct DeviceMatrix {
  const void* values = nullptr;                         // [outputs, inputs]
  kernels::FloatType type = kernels::FloatType::kFp32;  // kFp32 or kFp16
  int64_t outputs = 0;
  int64_t inputs = 0;

  // `count` rows of it.
  DeviceMatrix Rows(int64_t first, int64_t count) const;
};

// What a product of a tile looks like to the library.
struct DeviceProduct {
  int64_t inputs = 0;
  int64_t outputs = 0;
  auto operator<=>(const DeviceProduct&) const = default;
};

int64_t BytesOf(kernels::FloatType type);

// Sets the library up once: no TF32, fp16 products are summed in fp32.
void PrepareProducts();

// out[r][o] = sum over i of rows[r][i] weight[o][i], for num_rows rows, a
// multiple of kDeviceTileRows; sums in fp32. rows: [num_rows, inputs] of the
// weight's type. out: [num_rows, outputs], fp32. INTERNAL QS5013;
// RESOURCE_EXHAUSTED QS5006: for the library's own buffers.
absl::Status MultiplyOnDevice(const void* rows, int64_t num_rows,
                              const DeviceMatrix& weight, float* out);

// Heads of `states` copies of one document, each in another hidden state: row t
// of head h of copy s is at s * state_stride + t * row_stride + h * head_dim.
struct DeviceHeads {
  const float* queries = nullptr;
  const float* keys = nullptr;  // kv_heads each
  const float* values = nullptr;
  int64_t state_stride = 0;
  int64_t row_stride = 0;
  int64_t states = 0;
  int64_t rows = 0;  // positions of the document
  int heads = 0;
  int kv_heads = 0;  // divides heads
  int head_dim = 0;
  // Receives the context: row t of copy s at s * context_state_stride + t *
  // heads * head_dim, in context_type.
  void* context = nullptr;
  kernels::FloatType context_type = kernels::FloatType::kFp32;
  int64_t context_state_stride = 0;
};

// Causal scaled dot-product attention in fp32. head_dim: a multiple of
// kHeadDimStep. Errors as above.
inline constexpr int kHeadDimStep = 8;
absl::Status AttendOnDevice(const DeviceHeads& document);

// to[i] = from[i], rounded to to_type.
absl::Status ConvertOnDevice(const void* from, kernels::FloatType from_type,
                             int64_t count, void* to,
                             kernels::FloatType to_type);

// Rows ids[i] of a table [*, width] of fp32, one after the other. ids: device
// memory, within the table.
absl::Status GatherOnDevice(const float* table, int64_t table_rows,
                            int64_t width, const int64_t* ids, int64_t count,
                            float* out);

// Whether all are finite; waits for the answer.
absl::StatusOr<bool> AllFiniteOnDevice(const void* values,
                                       kernels::FloatType type, int64_t count);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_CUDA_PRODUCTS_H_
