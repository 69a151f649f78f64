#ifndef QSWEEP_WORKER_KERNELS_LOOPS_PRODUCT_H_
#define QSWEEP_WORKER_KERNELS_LOOPS_PRODUCT_H_

// The matrix product of a row tile: strips of kStrip outputs, kRowStep rows at
// a time, sums in registers. Each sum runs over the inputs in order.

#include "worker/kernels/loops/vector.h"
#include "worker/kernels/row_kernels.h"

namespace qsweep::kernels {
namespace {

constexpr int kStripVectors = 3;
constexpr int kStrip = kStripVectors * kLanes;
static_assert(kColumnStep % kStrip == 0);
static_assert(kRowStep == 4);

// Inputs per pass over a strip: the block of rows must stay in the cache.
constexpr int64_t kMaxBlock = 768;

// Adds `inputs` inputs to kRowStep x kStrip sums. strip: [inputs, kStrip].
template <bool kFirst>
QSWEEP_LOOP void AddBlock(const float* rows, int64_t row_stride,
                          const float* strip, int64_t inputs, float* out,
                          int64_t out_stride) {
  Vec sums[kRowStep][kStripVectors];
  for (int r = 0; r < kRowStep; ++r) {
    for (int v = 0; v < kStripVectors; ++v) {
      sums[r][v] = kFirst ? Vec{} : Load(out + r * out_stride + v * kLanes);
    }
  }
  const float* const row0 = rows;
  const float* const row1 = rows + row_stride;
  const float* const row2 = rows + 2 * row_stride;
  const float* const row3 = rows + 3 * row_stride;
  for (int64_t i = 0; i < inputs; ++i) {
    const Vec w0 = Load(strip);
    const Vec w1 = Load(strip + kLanes);
    const Vec w2 = Load(strip + 2 * kLanes);
    strip += kStrip;
    Vec x = Broadcast(row0[i]);
    sums[0][0] += x * w0;
    sums[0][1] += x * w1;
    sums[0][2] += x * w2;
    x = Broadcast(row1[i]);
    sums[1][0] += x * w0;
    sums[1][1] += x * w1;
    sums[1][2] += x * w2;
    x = Broadcast(row2[i]);
    sums[2][0] += x * w0;
    sums[2][1] += x * w1;
    sums[2][2] += x * w2;
    x = Broadcast(row3[i]);
    sums[3][0] += x * w0;
    sums[3][1] += x * w1;
    sums[3][2] += x * w2;
  }
  for (int r = 0; r < kRowStep; ++r) {
    for (int v = 0; v < kStripVectors; ++v) {
      Store(out + r * out_stride + v * kLanes, sums[r][v]);
    }
  }
}

void Product(const float* rows, int64_t row_stride, int num_rows,
             const PackedWeight& weight, int64_t first, int64_t count,
             int64_t inputs, float* out, int64_t out_stride) {
  const int64_t blocks = (inputs + kMaxBlock - 1) / kMaxBlock;
  const int64_t block = (inputs + blocks - 1) / blocks;
  const int64_t columns = RoundUp(count, kColumnStep);
  for (int64_t column = 0; column < columns; column += kStrip) {
    const float* strip = weight.data() + (first + column) * weight.inputs();
    for (int64_t begin = 0; begin < inputs; begin += block) {
      const int64_t size = inputs - begin < block ? inputs - begin : block;
      for (int r = 0; r < num_rows; r += kRowStep) {
        const float* x = rows + r * row_stride + begin;
        float* y = out + r * out_stride + column;
        if (begin == 0) {
          AddBlock<true>(x, row_stride, strip, size, y, out_stride);
        } else {
          AddBlock<false>(x, row_stride, strip + begin * kStrip, size, y,
                          out_stride);
        }
      }
    }
  }
}

}  // namespace
}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_LOOPS_PRODUCT_H_
