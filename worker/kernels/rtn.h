#ifndef QSWEEP_WORKER_KERNELS_RTN_H_
#define QSWEEP_WORKER_KERNELS_RTN_H_

#include <cstdint>

namespace qsweep::kernels {

// Rounding to nearest: each group of weights gets a scale, each weight the
// integer multiple of it that is closest. Plain types only, so that a GPU build
// can share this header.

// How scale, zero and codes of a group follow from its weights;
// n = 2^bits - 1, h = 2^(bits-1).
enum class RtnGrid {
  kAbsmax,          // s = absmax/(h-1); codes -h..h-1
  kGptqSymmetric,   // s = range/n with zero in the middle; codes 0..n, z = h
  kGptqAsymmetric,  // s = range with 0 in it/n; z = rne(-min/s)
  kAwqSymmetric,    // as kAbsmax, absmax at least 1e-5
  kAwqAsymmetric,   // s = (max-min at least 1e-5)/n; z = -rne(min/s)
};

struct RtnOptions {
  int bits = 4;  // 2..8
  RtnGrid grid = RtnGrid::kAbsmax;
  // Weights are rounded to fp16 and every operation's result is, as on a GPU
  // that holds the model in fp16; else every operation is in fp32.
  bool half_arithmetic = false;
  bool half_scale =
      false;  // scales are rounded to fp16, zeros and codes follow
};

// A row-major matrix whose rows are cut into groups of group_size consecutive
// elements; the last group of a row may be shorter.
struct RtnShape {
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t group_size = 0;  // > 0
  // Elements that the first group of a row lacks: another replicate. 0 to
  // group_size - 1.
  int64_t offset = 0;
  // Elements of the matrix that these rows are a part of; 0: they are all of
  // it. Values of a large one are written past the caches.
  int64_t whole = 0;
  int64_t groups_per_row() const {
    return (cols + offset + group_size - 1) / group_size;
  }
};

// Writes the values that the codes stand for. The definition of the right
// answer: IEEE operations one after another (no contraction), halves to even.
// A group whose weights are all zero stays as it is; one whose scale rounds to
// zero, which only denormal weights do, becomes zero.
// weights: finite. out: [rows, cols], may be weights itself. scales, or
// nullptr: [rows, groups_per_row]; 0 where the group was all zero (kAbsmax).
// codes, or nullptr: [rows, cols]. Any thread; one call uses one.
void RtnCpu(const float* weights, RtnShape shape, RtnOptions options,
            float* out, float* scales, int16_t* codes);

// The nearest fp16 value, halves to even, as fp32.
float RoundToHalf(float value);

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_RTN_H_
