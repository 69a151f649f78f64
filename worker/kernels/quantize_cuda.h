#ifndef QSWEEP_WORKER_KERNELS_QUANTIZE_CUDA_H_
#define QSWEEP_WORKER_KERNELS_QUANTIZE_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"

#include "common/job/quantizer.h"
#include "worker/kernels/cuda_types.h"

namespace qsweep::kernels {

// Device memory of one FakeQuantizeCuda.
struct QuantizeBuffers {
  const void* weights = nullptr;  // [rows, cols] of weight_type
  FloatType weight_type = FloatType::kFp32;
  void* out = nullptr;                    // [rows, cols] of out_type
  FloatType out_type = FloatType::kFp32;  // weight_type or kFp32
  void* workspace = nullptr;              // QuantizeWorkspaceBytes
};

// Bytes of workspace, at a multiple of 256.
int64_t QuantizeWorkspaceBytes(const Scheme& scheme, int64_t rows,
                               int64_t cols);

// What FakeQuantize does, on a device, to the last bit; weights are read as
// exact fp32, values are rounded to out_type at the end. It does not wait, so
// it cannot refuse weights that the scheme's fp16 does not hold: their groups'
// values are NaN. Asynchronous; the buffers must live until the stream has
// passed. Errors of CheckPlainScheme
// (scheme_options.h); INTERNAL QS5013 with the CUDA error.
absl::Status FakeQuantizeCuda(const Scheme& scheme, int64_t rows, int64_t cols,
                              const QuantizeBuffers& buffers, Stream stream);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_QUANTIZE_CUDA_H_
