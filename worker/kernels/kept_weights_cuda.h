#ifndef QSWEEP_WORKER_KERNELS_KEPT_WEIGHTS_CUDA_H_
#define QSWEEP_WORKER_KERNELS_KEPT_WEIGHTS_CUDA_H_

#include <cstdint>

#include "worker/kernels/cuda_types.h"

namespace qsweep::kernels {

// Device memory of one KeepWeightsCuda.
struct KeptBuffers {
  const void* weights = nullptr;  // `count` of weight_type
  void* out = nullptr;            // `count` of out_type, not weights
  FloatType weight_type = FloatType::kFp32;
  FloatType out_type = FloatType::kFp32;  // weight_type or kFp32
};

// What KeptWeights does, on a device: copies the weights whose magnitude is
// `from` at least to their places in out, and leaves the others there.
// Asynchronous; the buffers must live until the stream has passed. 0, or the
// CUDA error code: cudaErrorInvalidValue (1) without a launch for a missing
// buffer, other types, or more than 2^31 - 1 blocks.
int KeepWeightsCuda(const KeptBuffers& buffers, int64_t count, float from,
                    Stream stream);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_KEPT_WEIGHTS_CUDA_H_
