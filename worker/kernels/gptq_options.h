#ifndef QSWEEP_WORKER_KERNELS_GPTQ_OPTIONS_H_
#define QSWEEP_WORKER_KERNELS_GPTQ_OPTIONS_H_

#include <cstdint>

namespace qsweep::kernels {

// Plain types only, so that a GPU build can share this header.
struct GptqOptions {
  int bits = 4;  // 2..8
  // Columns that share a scale, in the order of rounding; 0: the whole row.
  int64_t group_size = 128;
  bool symmetric = true;
  // Scales and zeros of all groups from the weights as they came, columns in
  // their own order. Else those of a group from the weights as they are at its
  // first column, without what the columns of the same block of 128 owe.
  bool static_groups = false;
  bool half_scale =
      false;  // scales are rounded to fp16, zeros and codes follow

  int64_t groups_per_row(int64_t columns) const {
    return group_size == 0 ? 1 : (columns + group_size - 1) / group_size;
  }
};

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_GPTQ_OPTIONS_H_
