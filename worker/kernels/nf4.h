#ifndef QSWEEP_WORKER_KERNELS_NF4_H_
#define QSWEEP_WORKER_KERNELS_NF4_H_

#include <cstdint>

#include "worker/kernels/parallel_for.h"

namespace qsweep::kernels {

// NF4 of Dettmers et al., QLoRA (arXiv 2305.14314), as bitsandbytes computes
// it: each group of weights is divided by its largest magnitude, each quotient
// replaced by one of 16 levels, the quantiles of a normal distribution. Plain
// types only, so that a GPU build can share this header.

inline constexpr int kNf4Codes = 16;
inline constexpr float kNf4Levels[kNf4Codes] = {-1.0f,
                                                -0.6961928009986877f,
                                                -0.5250730514526367f,
                                                -0.39491748809814453f,
                                                -0.28444138169288635f,
                                                -0.18477343022823334f,
                                                -0.09105003625154495f,
                                                0.0f,
                                                0.07958029955625534f,
                                                0.16093020141124725f,
                                                0.24611230194568634f,
                                                0.33791524171829224f,
                                                0.44070982933044434f,
                                                0.5626170039176941f,
                                                0.7229568362236023f,
                                                1.0f};

// Where code q ends and q + 1 begins; the boundary itself has code q.
constexpr float Nf4Threshold(int q) {
  return (kNf4Levels[q] + kNf4Levels[q + 1]) / 2;
}

struct Nf4Options {
  int64_t group_size = 64;    // consecutive elements of the flattened tensor
  bool double_quant = false;  // scales are rounded to 8 bits, see below
  // Elements that the first group lacks: another replicate. 0 to group_size -
  // 1.
  int64_t offset = 0;

  int64_t groups(int64_t count) const {
    return (count + offset + group_size - 1) / group_size;
  }
};

// Writes the values that the codes stand for: level * absmax, where the code
// of w is the number of thresholds below w * (1 / absmax), each operation in
// fp32. A group of zeros gets code 0 and -0. The last group may be shorter.
//
// double_quant: from the scales their mean is subtracted (a sum in fp64 of 4096
// lanes, then halves onto halves); of each 256 of the
// differences the largest magnitude becomes a scale, each difference the
// nearest (the lower of two) of 256 levels of a dynamic exponent,
// 0, 1, +-10^(k-6) (0.1 + 0.9 (j + 1/2) / 2^k), k < 7, j < 2^k.
//
// weights: `count` finite values. out: `count`, may be weights itself. absmax,
// or nullptr: a group's scale, after double_quant. codes, or nullptr: `count`.
// The bits do not depend on `parallel`. False: it was told to stop, and the
// rest is not written.
bool Nf4Cpu(const float* weights, int64_t count, Nf4Options options, float* out,
            float* absmax, uint8_t* codes,
            const ParallelFor& parallel = InSequence);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_NF4_H_
