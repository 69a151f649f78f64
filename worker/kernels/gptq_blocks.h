#ifndef QSWEEP_WORKER_KERNELS_GPTQ_BLOCKS_H_
#define QSWEEP_WORKER_KERNELS_GPTQ_BLOCKS_H_

#include <cstdint>

#include "worker/kernels/cuda_types.h"

// Where the parts of GptqFactor lie. Plain types only.
namespace qsweep::kernels {

// Matrices of products lie in panels: kPanel columns of all rows, one panel
// after another, so that a product reads everything in order.
inline constexpr int64_t kPanel = 16;
// Columns that a factorization, and GPTQ, take at a time.
inline constexpr int64_t kBlock = 128;
inline constexpr int64_t kPanelsPerBlock = kBlock / kPanel;

QSWEEP_HOST_DEVICE constexpr int64_t BlocksOf(int64_t columns) {
  return (columns + kBlock - 1) / kBlock;
}
// From a panel of R's block `block` to the next.
QSWEEP_HOST_DEVICE constexpr int64_t UpperStep(int64_t block) {
  return (block + 1) * kBlock * kPanel;
}
QSWEEP_HOST_DEVICE constexpr int64_t UpperOffset(int64_t block) {
  return block * (block + 1) / 2 * kBlock * kBlock;
}
inline constexpr int64_t kInverseStep = kBlock * kPanel;

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_GPTQ_BLOCKS_H_
