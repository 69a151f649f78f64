#ifndef QSWEEP_WORKER_KERNELS_DEQUANTIZE_INT4_H_
#define QSWEEP_WORKER_KERNELS_DEQUANTIZE_INT4_H_

#include <cstdint>

#include "worker/kernels/cuda_types.h"

namespace qsweep::kernels {

// A matrix of 4-bit codes in device memory. Eight codes share a little-endian
// word, the first one in its lowest bits; each row starts a new word:
//
//   bit   31..28 27..24 23..20 19..16 15..12 11..8  7..4   3..0
//   code     7      6      5      4      3     2      1      0
//
// Groups of group_size consecutive codes of a row share a scale and a zero; the
// last group of a row may be shorter.
struct Int4Matrix {
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t group_size = 0;                   // > 0
  const uint32_t* codes = nullptr;          // [rows, ceil(cols / 8)]
  const void* scales = nullptr;             // [rows, ceil(cols / group_size)]
  FloatType scale_type = FloatType::kFp16;  // kFp16 or kFp32
  // [rows, ceil(groups of a row / 8)], packed as the codes; nullptr: all are 8.
  const uint32_t* zeros = nullptr;
};

// Writes scale * (code - zero), rounded once to fp32 and then to out_type. out:
// device memory, [rows, cols]. Asynchronous; all buffers must live until the
// stream has passed. 0, or the CUDA error code: cudaErrorInvalidValue (1)
// without a launch for a group below 1, scales in bf16, 2^31 groups or words of
// a row and more, or 2^31 blocks of 8192 codes of a row and more.
int DequantizeInt4Cuda(const Int4Matrix& matrix, void* out, FloatType out_type,
                       Stream stream);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_DEQUANTIZE_INT4_H_
