#ifndef QSWEEP_WORKER_KERNELS_GPTQ_CUDA_H_
#define QSWEEP_WORKER_KERNELS_GPTQ_CUDA_H_

#include <cstdint>

#include "worker/kernels/cuda_types.h"
#include "worker/kernels/gptq_options.h"

namespace qsweep::kernels {

// A GptqFactor in device memory, byte for byte.
struct GptqDeviceFactor {
  int64_t columns = 0;
  const float* upper = nullptr;     // at a multiple of 16 bytes, as all of
  const float* inverses = nullptr;  // the host's
  const int32_t* order = nullptr;   // [columns]
  const uint8_t* dead = nullptr;    // [columns], 1 where it is
};

// Device memory of one GptqCuda.
struct GptqBuffers {
  const void* weights = nullptr;  // [rows, columns] of weight_type, finite
  FloatType weight_type = FloatType::kFp32;
  uint8_t* codes = nullptr;   // [rows, columns], of GptqOutput
  float* scales = nullptr;    // [rows, groups_per_row]
  uint8_t* zeros = nullptr;   // [rows, groups_per_row]
  void* workspace = nullptr;  // GptqWorkspaceBytes, at a multiple of 16
};

// Four bytes a weight; twice as many where groups reach over blocks of 128
// columns.
int64_t GptqWorkspaceBytes(int64_t rows, int64_t columns,
                           const GptqOptions& options);

// What GptqCpu does, on a device, to the last bit of what it does on a CPU with
// fused multiply-add, for a row whose scales are all finite: weights are read
// as exact fp32, sums have the same order. Where weights are so large that
// their sums overflow, a scale of the row is not finite, and its other numbers
// have no meaning, but codes stay in range. Asynchronous; the buffers must live
// until the stream has passed. 0, or the CUDA error code: cudaErrorInvalidValue
// (1) without any launch for bits or a group out of range, a missing buffer, or
// 2^31 columns, or rows times groups, and more.
int GptqCuda(const GptqDeviceFactor& factor, const GptqBuffers& buffers,
             int64_t rows, const GptqOptions& options, Stream stream);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_GPTQ_CUDA_H_
