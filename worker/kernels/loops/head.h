#ifndef QSWEEP_WORKER_KERNELS_LOOPS_HEAD_H_
#define QSWEEP_WORKER_KERNELS_LOOPS_HEAD_H_

// Statistics of logits, a tile of the vocabulary at a time, in one pass while
// the tile is in the cache. Sums run in float over kSumBlock values a lane
// group, then in double, always in column order.

#include <cmath>

#include "worker/kernels/loops/vector.h"
#include "worker/kernels/row_kernels.h"

namespace qsweep::kernels {
namespace {

constexpr int64_t kSumBlock = 256;  // values: 32 float additions a lane
static_assert(kLogitPadding == kLanes);

// Far below any logit, finite: its exp adds nothing, its difference to itself
// is 0.
constexpr float kPaddingLogit = -3.0e38F;

QSWEEP_LOOP void PadColumns(float* row, int64_t columns) {
  for (int64_t i = columns; i < RoundUp(columns, kLanes); ++i) {
    row[i] = kPaddingLogit;
  }
}

// Takes the tile's largest logit and its gold logit into `row`; returns the
// factor for sums relative to the old maximum.
QSWEEP_LOOP double UpdateMax(const LogitTile& tile, int r, const float* logits,
                             int64_t padded, HeadRow& row) {
  const int64_t gold = static_cast<int64_t>(tile.gold[r]) - tile.first_column;
  if (gold >= 0 && gold < tile.columns) {
    row.gold_logit = logits[gold];
  }
  Vec largest = Load(logits);
  for (int64_t i = kLanes; i < padded; i += kLanes) {
    const Vec z = Load(logits + i);
    largest = z > largest ? z : largest;
  }
  float max = largest[0];
  for (int i = 1; i < kLanes; ++i) {
    max = largest[i] > max ? largest[i] : max;
  }
  if (row.argmax >= 0 && !(max > row.max)) {
    return 1.0;
  }
  const double rescale =
      row.argmax >= 0
          ? std::exp(static_cast<double>(row.max) - static_cast<double>(max))
          : 0.0;
  int64_t at = 0;
  while (at + 1 < tile.columns && logits[at] != max) {
    ++at;
  }
  row.max = max;
  row.argmax = tile.first_column + static_cast<int32_t>(at);
  return rescale;
}

void AddBaseline(const LogitTile& tile, HeadRow* rows, float* exps,
                 double* rescale) {
  const int64_t padded = RoundUp(tile.columns, kLanes);
  for (int r = 0; r < tile.rows; ++r) {
    float* const logits = tile.logits + r * tile.stride;
    float* const out = exps + r * tile.stride;
    PadColumns(logits, tile.columns);
    HeadRow& row = rows[r];
    rescale[r] = UpdateMax(tile, r, logits, padded, row);
    double total = 0;
    for (int64_t begin = 0; begin < padded; begin += kSumBlock) {
      const int64_t end =
          begin + kSumBlock < padded ? begin + kSumBlock : padded;
      Vec sum = {};
      for (int64_t i = begin; i < end; i += kLanes) {
        const Vec e = Exp(Load(logits + i) - row.max);
        Store(out + i, e);
        sum += e;
      }
      total += Sum(sum);
    }
    row.sum_exp = row.sum_exp * rescale[r] + total;
  }
}

void AddConfiguration(const LogitTile& tile, const float* baseline_logits,
                      const float* exps, const double* rescale, HeadRow* rows) {
  const int64_t padded = RoundUp(tile.columns, kLanes);
  for (int r = 0; r < tile.rows; ++r) {
    float* const logits = tile.logits + r * tile.stride;
    const float* const z0 = baseline_logits + r * tile.stride;
    const float* const e0 = exps + r * tile.stride;
    PadColumns(logits, tile.columns);
    HeadRow& row = rows[r];
    const double own_rescale = UpdateMax(tile, r, logits, padded, row);
    double total = 0;
    double cross = 0;
    for (int64_t begin = 0; begin < padded; begin += kSumBlock) {
      const int64_t end =
          begin + kSumBlock < padded ? begin + kSumBlock : padded;
      Vec sum = {};
      Vec products = {};
      for (int64_t i = begin; i < end; i += kLanes) {
        const Vec z = Load(logits + i);
        sum += Exp(z - row.max);
        products += Load(e0 + i) * (Load(z0 + i) - z);
      }
      total += Sum(sum);
      cross += Sum(products);
    }
    row.sum_exp = row.sum_exp * own_rescale + total;
    row.cross = row.cross * rescale[r] + cross;
  }
}

}  // namespace
}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_LOOPS_HEAD_H_
