#ifndef QSWEEP_WORKER_KERNELS_NF4_CUDA_H_
#define QSWEEP_WORKER_KERNELS_NF4_CUDA_H_

#include <cstdint>

#include "worker/kernels/cuda_types.h"
#include "worker/kernels/nf4.h"

namespace qsweep::kernels {

// Device memory of one Nf4Cuda.
struct Nf4Buffers {
  const void* weights = nullptr;  // `count` of weight_type
  void* out = nullptr;            // `count` of out_type; may be weights itself
                                  // where the types are equal
  FloatType weight_type = FloatType::kFp32;
  FloatType out_type = FloatType::kFp32;  // weight_type or kFp32
  float* absmax = nullptr;    // a group's scale; with double_quant required
  uint8_t* codes = nullptr;   // `count`, or nullptr
  void* workspace = nullptr;  // kNf4WorkspaceBytes, with double_quant
};

// The lanes of the sum over all scales, and their mean.
inline constexpr int64_t kNf4WorkspaceBytes = 8 * 4096 + 8;

// What Nf4Cpu does, on a device, to the last bit: weights are read as exact
// fp32, values are rounded to out_type at the end. Asynchronous; the buffers
// must live until the stream has passed. 0, or the CUDA error code:
// cudaErrorInvalidValue (1) without any launch for a group below 1, an offset
// that is not below the group, a missing buffer, other types, or 2^31 groups
// and more.
int Nf4Cuda(const Nf4Buffers& buffers, int64_t count, Nf4Options options,
            Stream stream);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_NF4_CUDA_H_
