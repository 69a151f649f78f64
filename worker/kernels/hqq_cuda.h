#ifndef QSWEEP_WORKER_KERNELS_HQQ_CUDA_H_
#define QSWEEP_WORKER_KERNELS_HQQ_CUDA_H_

#include <cstdint>

#include "worker/kernels/cuda_types.h"
#include "worker/kernels/hqq.h"

namespace qsweep::kernels {

// Device memory of one HqqCuda; groups = options.groups(count).
struct HqqBuffers {
  const void* weights = nullptr;  // `count` of weight_type
  void* out = nullptr;            // `count` of out_type; may be weights itself
                                  // where the types are equal
  FloatType weight_type = FloatType::kFp32;
  FloatType out_type = FloatType::kFp32;  // weight_type or kFp32
  float* inverse = nullptr;               // [groups]
  float* zeros = nullptr;                 // [groups]
  uint8_t* codes = nullptr;               // `count`, or nullptr
  void* workspace = nullptr;              // HqqWorkspaceBytes(groups)
};

// Steps of the solver between two decisions whether to go on.
inline constexpr int kHqqRound = 5;

constexpr int64_t HqqWorkspaceBytes(int64_t groups) {
  return 16 + kHqqRound * (8 * 4096 + 2 * 4 * groups);
}

// What HqqCpu does, on a device, to the last bit: weights are read as exact
// fp32, values are rounded to out_type at the end. Fast for groups of up to 512
// weights of axis 1, where a group is contiguous. The decision to stop is
// taken on the device: the host waits for nothing. Asynchronous; the buffers
// must live until the stream has passed. 0, or the CUDA error code:
// cudaErrorInvalidValue (1) without any launch for bits out of range, a group
// that does not divide count, an offset that is not below the group or with
// axis 0, a missing buffer, other types, or 2^31 groups and more.
int HqqCuda(const HqqBuffers& buffers, int64_t count, HqqOptions options,
            Stream stream);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_HQQ_CUDA_H_
