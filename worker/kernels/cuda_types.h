#ifndef QSWEEP_WORKER_KERNELS_CUDA_TYPES_H_
#define QSWEEP_WORKER_KERNELS_CUDA_TYPES_H_

// What the kernels' headers show of CUDA, without its headers.

struct CUstream_st;  // what a cudaStream_t points to

// Before a function that kernels call, too.
#if defined(__CUDACC__)
#define QSWEEP_HOST_DEVICE __host__ __device__
#else
#define QSWEEP_HOST_DEVICE
#endif

namespace qsweep::kernels {

using Stream = CUstream_st*;

// How a number lies in a device buffer.
enum class FloatType { kFp32, kFp16, kBf16 };

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_CUDA_TYPES_H_
