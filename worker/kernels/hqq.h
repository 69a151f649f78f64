#ifndef QSWEEP_WORKER_KERNELS_HQQ_H_
#define QSWEEP_WORKER_KERNELS_HQQ_H_

#include <cstdint>

#include "worker/kernels/parallel_for.h"

namespace qsweep::kernels {

// Half-quadratic quantization of Badri and Shaji (Mobius Labs, 2023), with the
// solver that their package uses by default ("legacy"), on the CPU in fp32.
// Plain types only, so that a GPU build can share this header.

struct HqqOptions {
  int bits = 4;  // 2..8
  int64_t group_size = 64;
  // 1: a group is consecutive elements of the flattened tensor. 0: the
  // flattened tensor is [group_size, groups], a group is a column.
  int axis = 1;
  bool round_zero = true;  // the solver starts from an integer zero point
  // Weights that the first group lacks, and the last has alone: another
  // replicate. 0 to group_size - 1; 0 with axis 0.
  int64_t offset = 0;

  int64_t groups(int64_t count) const {
    return (count + offset + group_size - 1) / group_size;
  }
};

// Writes the values that the codes stand for, (q - z) * (1 / i), with
// n = 2^bits - 1 and codes 0..n. Start: i = (1 / (max - min)) n, at most 2e4, 1
// where the span is at most 1e-4; z = -min i, rounded if asked for. Solver, at
// most 20 times: q = round(w i + z); x = w - (q - z) / i;
// e = sign(x) max(|x| - |x|^-0.3 / 10, 0); z = mean of q - (w - e) i over the
// group; the end is when the mean of |x| over the whole tensor stops falling,
// the last z kept. Each operation in fp32. Sums have a fixed order: 32 lanes
// over a group, then halves onto halves; the tensor's, over the groups' sums,
// likewise with 4096 lanes in fp64.
//
// weights: `count` finite values, a multiple of group_size. out: `count`, may
// be weights itself. inverse and zeros, or nullptr: i and z of each group.
// codes, or nullptr: `count`, in the order of the weights. The bits do not
// depend on `parallel`. False: it was told to stop, and the rest is not
// written.
bool HqqCpu(const float* weights, int64_t count, HqqOptions options, float* out,
            float* inverse, float* zeros, uint8_t* codes,
            const ParallelFor& parallel = InSequence);
// What it takes beside its arguments.
int64_t HqqBytes(int64_t count, const HqqOptions& options);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_HQQ_H_
