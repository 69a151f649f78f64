#ifndef QSWEEP_WORKER_KERNELS_RTN_CUDA_H_
#define QSWEEP_WORKER_KERNELS_RTN_CUDA_H_

#include <cstdint>

#include "worker/kernels/cuda_types.h"
#include "worker/kernels/rtn.h"

namespace qsweep::kernels {

// Device memory of one RtnCuda.
struct RtnBuffers {
  const void* weights = nullptr;  // [rows, cols] of weight_type
  void* out = nullptr;            // [rows, cols] of out_type; may be weights
                                  // itself where the types are equal
  FloatType weight_type = FloatType::kFp32;
  FloatType out_type = FloatType::kFp32;  // weight_type or kFp32
  float* scales = nullptr;                // [rows, groups_per_row], or nullptr
  int16_t* codes = nullptr;               // [rows, cols], or nullptr
  void* workspace = nullptr;              // kRtnWorkspaceBytes
};

inline constexpr int64_t kRtnWorkspaceBytes = 8192;

// What RtnCpu does, on a device, to the last bit: weights are read as exact
// fp32, values are rounded to out_type at the end. Besides, a group whose
// weights or range are not finite, in fp16 where that is the arithmetic, gets
// an infinite scale, NaN as its values, and 0 as its codes; the scale of a
// group of zeros is +0.
// Asynchronous; the buffers must live until the stream has passed. 0, or the
// CUDA error code: cudaErrorInvalidValue (1) without any launch for bits or
// types out of range, a group below 1, an offset that is not below the group,
// or 2^31 groups and more.
int RtnCuda(const RtnBuffers& buffers, RtnShape shape, RtnOptions options,
            Stream stream);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_RTN_CUDA_H_
