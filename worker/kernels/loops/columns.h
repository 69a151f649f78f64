#ifndef QSWEEP_WORKER_KERNELS_LOOPS_COLUMNS_H_
#define QSWEEP_WORKER_KERNELS_LOOPS_COLUMNS_H_

// The columns of a block of GPTQ. Included once per kind of CPU; with
// -ffp-contract=off.

#include <cstdint>

#include "worker/kernels/integer_bias.h"
#include "worker/kernels/loops/vector.h"
#include "worker/kernels/quantizer_loops.h"

namespace qsweep::kernels {
namespace {

// The integers that stand for weights, in lowest..highest. A scale of zero
// comes of denormal weights alone; a weight that overflowed becomes a bound.
QSWEEP_LOOP Vec IntegersOf(Vec weights, Vec scale, Vec lowest, Vec highest) {
  const Vec bias = Broadcast(kIntegerBias);
  const Vec zero = {};
  const Vec x = weights / scale;
  const Vec above = x > lowest ? x : lowest;
  const Vec within = above < highest ? above : highest;
  const Vec rounded = (within + bias) - bias;
  return scale == zero ? zero : rounded;
}

// kVectors * 8 rows from `row`.
template <int kVectors>
void RoundColumnsOf(const ColumnBlock& block, int64_t row) {
  for (int64_t i = 0; i < block.columns; ++i) {
    const int64_t place = i * block.rows + row;
    const float* const scale = block.parameters[i] + row;
    const float* const zero = scale + block.rows;
    const float* const lowest = zero + block.rows;
    const float* const highest = lowest + block.rows;
    const float* const inverse = block.inverse + i * kBlock;
    Vec errors[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const int64_t lane = int64_t{v} * kLanes;
      const Vec weights = Load(block.weights + place + lane);
      const Vec scales = Load(scale + lane);
      const Vec integers = IntegersOf(weights, scales, Load(lowest + lane),
                                      Load(highest + lane));
      const Vec values = integers * scales;
      Store(block.values + place + lane, values);
      const Vec codes = integers + Load(zero + lane);
      for (int l = 0; l < kLanes; ++l) {
        block.codes[place + lane + l] = static_cast<uint8_t>(codes[l]);
      }
      errors[v] = (weights - values) / inverse[i];
    }
    for (int64_t j = i + 1; j < block.columns; ++j) {
      float* const later = block.weights + j * block.rows + row;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        float* const at = later + int64_t{v} * kLanes;
        Store(at, Load(at) - errors[v] * inverse[j]);
      }
    }
  }
}

void RoundColumns(const ColumnBlock& block) {
  int64_t row = 0;
  for (; row + 4 * kLanes <= block.rows; row += 4 * kLanes) {
    RoundColumnsOf<4>(block, row);
  }
  for (; row < block.rows; row += kLanes) {
    RoundColumnsOf<1>(block, row);
  }
}

}  // namespace
}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_LOOPS_COLUMNS_H_
