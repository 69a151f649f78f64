#ifndef QSWEEP_WORKER_KERNELS_DECODER_ROWS_H_
#define QSWEEP_WORKER_KERNELS_DECODER_ROWS_H_

#include <cstdint>

#include "worker/kernels/cuda_types.h"

namespace qsweep::kernels {

// The arithmetic of a decoder on a device besides products and attention, as
// row_kernels.h has it for the CPU. Buffers are device memory, row-major; rows
// lie one after the other where no stride is given. Results are rounded to
// out_type at the end. A row's bits depend on the row alone: not on its place,
// the other rows, alignment, or the kind of GPU.
// All are asynchronous; the buffers must live until the stream has passed. 0,
// or the CUDA error code: cudaErrorInvalidValue (1) without a launch for more
// than 2^31 - 1 blocks.

// out = x / sqrt(mean(x^2) + eps) * gains for each of num_rows rows of `width`.
// gains: [width]. out: [num_rows, width], may be rows where out_type is kFp32.
int RmsNormCuda(const float* rows, int64_t num_rows, int64_t width,
                const float* gains, float eps, void* out, FloatType out_type,
                Stream stream);

// Rotary tables, [positions, head_dim / 2] each.
struct RotaryTables {
  const float* cosines = nullptr;
  const float* sines = nullptr;
};

// Rotates the first `heads` heads of head_dim values of each row, halves as
// pairs, to the row's position. positions: [num_rows], rows of the tables.
int RotateCuda(float* rows, int64_t num_rows, int64_t stride, int heads,
               int head_dim, const int32_t* positions,
               const RotaryTables& tables, Stream stream);

// out = silu(gate) * up, `count` values each.
int SiluMultiplyCuda(const float* gate, const float* up, int64_t count,
                     void* out, FloatType out_type, Stream stream);

// out = x + y, `count` values each. out may be x.
int AddCuda(const float* x, const float* y, int64_t count, float* out,
            Stream stream);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_DECODER_ROWS_H_
