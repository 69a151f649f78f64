#ifndef QSWEEP_WORKER_KERNELS_GPTQ_BLOCKS_H_
#define QSWEEP_WORKER_KERNELS_GPTQ_BLOCKS_H_

#include <cstdint>

#include "worker/kernels/quantizer_loops.h"

namespace qsweep::kernels {

// Where the parts of GptqFactor lie.

constexpr int64_t BlocksOf(int64_t columns) {
  return (columns + kBlock - 1) / kBlock;
}
// From a panel of R's block `block` to the next.
constexpr int64_t UpperStep(int64_t block) {
  return (block + 1) * kBlock * kPanel;
}
constexpr int64_t UpperOffset(int64_t block) {
  return block * (block + 1) / 2 * kBlock * kBlock;
}
constexpr int64_t kInverseStep = kBlock * kPanel;

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_GPTQ_BLOCKS_H_
