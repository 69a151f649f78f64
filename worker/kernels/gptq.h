#ifndef QSWEEP_WORKER_KERNELS_GPTQ_H_
#define QSWEEP_WORKER_KERNELS_GPTQ_H_

#include <cstdint>
#include <vector>

#include "worker/kernels/aligned_array.h"
#include "worker/kernels/gptq_options.h"
#include "worker/kernels/parallel_for.h"

namespace qsweep::kernels {

// GPTQ of Frantar, Ashkboos, Hoefler and Alistarh (2210.17323), on the CPU: the
// columns of a matrix are rounded one after another, and what one loses the
// columns to its right make up for, weighed by the Hessian of the layer's
// squared error. Free of libtorch, absl and proto.
//
// The paper keeps U, with H^-1 = U^T U, and after a block of 128 columns takes
// errors times U's rows from all columns to its right. Here R = U^-1 stays as
// it is, H = R R^T: before a block B its weights become
// W_B + (W - Q) R[before, B] U[B, B], of all blocks before, which is the same
// sum. Nothing is inverted but R's diagonal blocks: a third of the work, and
// fewer roundings.

// What the inputs of a layer say, the same for every matrix that reads them.
// Movable.
struct GptqFactor {
  int64_t columns = 0;
  std::vector<int32_t> order;  // order[i]: the column that is rounded as i-th
  std::vector<bool> dead;      // by column: its input is always 0

  // R of the damped Hessian in that order, and U's block around a diagonal
  // element; i <= j < columns, for UpperInverse in one block of 128.
  float Upper(int64_t i, int64_t j) const;
  float UpperInverse(int64_t i, int64_t j) const;

  // As the loops read them (quantizer_loops.h), for columns up to a whole
  // number of blocks. Of block b: R's columns 128 b .. 128 b + 127 from the
  // first row to the diagonal, in panels; U's in the same panels, [128, 128].
  AlignedArray<float> upper;
  AlignedArray<float> inverses;
};

enum class GptqFactoring {
  kDone,
  kSingular,  // or the Hessian holds a value that is not finite
  kStopped,   // as `parallel` was told
};

// Damps the Hessian and factors it: the diagonal gets `damp` times its mean; a
// dead column's is 1 before. act_order: columns by falling diagonal, the left
// one of equal ones first. hessian: [columns, columns], symmetric, 2/N sum of
// x x^T; a factor common to all of it changes nothing. kSingular: a pivot is at
// most 1e-7 of the mean diagonal.
//
// In fp32 where the damping keeps the pivots well above its roundings, from
// 0.001 on, else in fp64. The bits do not depend on `parallel`.
GptqFactoring FactorForGptq(const float* hessian, int64_t columns, double damp,
                            bool act_order, const ParallelFor& parallel,
                            GptqFactor& factor);

// What a factor takes, and what FactorForGptq takes beside it at most.
int64_t GptqFactorBytes(int64_t columns);
int64_t FactoringBytes(int64_t columns);

// Where a quantized matrix goes, in the order of its columns. A weight is
// scales[group] * (codes - zeros[group]), group_of_column says which.
struct GptqOutput {
  uint8_t* codes = nullptr;  // [rows, columns]
  float* scales = nullptr;   // [rows, groups_per_row]
  uint8_t* zeros = nullptr;  // [rows, groups_per_row]
};

// Scale and zero of a group as the gptq grid of rtn.h has them. No groups: per
// row, once, from the weights as they came, dead columns included. Dead columns
// become 0. In fp32. Rows do not depend on each other, so a matrix may be
// quantized in parts; 64 rows at a time are fast.
// weights: [rows, factor.columns], finite. Any thread; one call uses one.
void GptqCpu(const float* weights, int64_t rows, const GptqFactor& factor,
             const GptqOptions& options, const GptqOutput& out);

// group_of_column[c]: which group of a row column c belongs to.
std::vector<int32_t> GptqGroups(const GptqFactor& factor,
                                const GptqOptions& options);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_GPTQ_H_
