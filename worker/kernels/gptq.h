#ifndef QSWEEP_WORKER_KERNELS_GPTQ_H_
#define QSWEEP_WORKER_KERNELS_GPTQ_H_

#include <cstdint>
#include <vector>

namespace qsweep::kernels {

// GPTQ of Frantar, Ashkboos, Hoefler and Alistarh (2210.17323), on the CPU: the
// columns of a matrix are rounded one after another, and what one loses the
// columns to its right make up for, weighed by the Hessian of the layer's
// squared error. Free of libtorch, absl and proto.

// What the inputs of a layer say, the same for every matrix that reads them.
struct GptqInverse {
  int64_t columns = 0;
  std::vector<int32_t> order;  // order[i]: the column that is rounded as i-th
  std::vector<bool> dead;      // by column: its input is always 0
  // U, [columns, columns], in that order: the inverse Hessian is U^T U, and U
  // is upper triangular.
  std::vector<float> upper;
};

// Damps the Hessian, inverts it and factors the inverse: the diagonal gets
// `damp` times its mean; a dead column's is 1 before. act_order: columns by
// falling diagonal, the left one of equal ones first. In fp64. hessian:
// [columns, columns], symmetric, 2/N sum of x x^T; a factor common to all of it
// changes nothing. False: it holds a value that is not finite, or is singular:
// a pivot is at most 1e-7 of the mean diagonal.
bool InvertForGptq(const float* hessian, int64_t columns, double damp,
                   bool act_order, GptqInverse& inverse);

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

// Where a quantized matrix goes, in the order of its columns. A weight is
// scales[group] * (codes - zeros[group]), group_of_column says which.
struct GptqOutput {
  uint8_t* codes = nullptr;  // [rows, columns]
  float* scales = nullptr;   // [rows, groups_per_row]
  uint8_t* zeros = nullptr;  // [rows, groups_per_row]
};

// Scale and zero of a group as the gptq grid of rtn.h has them. No groups: per
// row, once, from the weights as they came, dead columns included. Dead columns
// become 0. Each operation in fp32. Rows do not depend on each other, so
// a matrix may be quantized in parts.
// weights: [rows, inverse.columns], finite. Any thread; one call uses one.
void GptqCpu(const float* weights, int64_t rows, const GptqInverse& inverse,
             const GptqOptions& options, const GptqOutput& out);

// group_of_column[c]: which group of a row column c belongs to.
std::vector<int32_t> GptqGroups(const GptqInverse& inverse,
                                const GptqOptions& options);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_GPTQ_H_
