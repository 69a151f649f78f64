#ifndef QSWEEP_WORKER_KERNELS_AWQ_H_
#define QSWEEP_WORKER_KERNELS_AWQ_H_

#include <cstdint>

#include "common/base/stopped.h"
#include "worker/kernels/gptq_blocks.h"

namespace qsweep::kernels {

// AWQ of Lin et al. (2306.00978) as in its authors' program, on the CPU: before
// it is rounded, each column of a matrix is multiplied by a scale that grows
// with the magnitude of its input, and each group is clipped; what is stored is
// divided by the scales again. Free of libtorch, absl and proto.

// The grid of exponents: 0, 0.05, .. 0.95.
inline constexpr int kAwqRatios = 20;
inline double AwqRatio(int index) {
  return static_cast<double>(index) / kAwqRatios;
}

// magnitude^ratio, at least 1e-4, over the square root of the largest times the
// smallest of them. What is not finite then is 1. magnitudes: the mean absolute
// input of each column.
void AwqScales(const float* magnitudes, int64_t columns, double ratio,
               float* scales);

struct AwqOptions {
  int bits = 4;             // 2..8
  int64_t group_size = 64;  // divides the columns
  bool symmetric = false;
  bool half_scale = false;  // the groups' scales are rounded to fp16

  int64_t groups_per_row(int64_t columns) const { return columns / group_size; }
};

// As GptqOutput, of scaled weights: a weight is scales[group] * (codes -
// zeros[group]) / column scale. A symmetric group's zero is 2^(bits-1).
struct AwqOutput {
  uint8_t* codes = nullptr;  // [rows, columns]
  float* scales = nullptr;   // [rows, groups]
  uint8_t* zeros = nullptr;  // [rows, groups]
};

// Rounds `weights`, [rows, columns], times the column scales, by the awq grid
// of rtn.h. limits: [rows, groups], what a group is clipped to before; null:
// nothing is. Rows do not depend on each other. Finite weights. Any thread; one
// call uses one.
void AwqCpu(const float* weights, int64_t rows, int64_t columns,
            const float* column_scales, const float* limits,
            const AwqOptions& options, const AwqOutput& out);

// What each group is best clipped to: of its largest magnitude times 1, 0.95,
// .. 0.55 the one with the least squared error of its part of the outputs, the
// first of equal ones. grams: for each group of columns its Gram matrix, the
// sums of products of the inputs that are divided by the column scales. limits:
// [rows, groups]. False: it was stopped. `stopped` is asked ten times for each
// group and 64 rows.
bool AwqLimits(const float* weights, int64_t rows, int64_t columns,
               const float* column_scales, const float* grams,
               const AwqOptions& options, const Stopped& stopped,
               float* limits);
// What it takes beside its arguments.
int64_t AwqLimitsBytes(int64_t group_size);

// How a Gram matrix lies in memory: in panels of kPanel columns, one after the
// other; floats, which are 0 where there is no element. Place: of element (i,
// j).
constexpr int64_t AwqGramSize(int64_t group_size) {
  const int64_t padded = (group_size + kPanel - 1) / kPanel * kPanel;
  return padded * padded;
}
constexpr int64_t AwqGramPlace(int64_t group_size, int64_t i, int64_t j) {
  const int64_t padded = (group_size + kPanel - 1) / kPanel * kPanel;
  return j / kPanel * padded * kPanel + i * kPanel + j % kPanel;
}

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_AWQ_H_
