#include <cstdint>

#include "worker/kernels/cuda_exp.h"
#include "worker/kernels/cuda_numbers.h"
#include "worker/kernels/head_stats.h"
#include "worker/kernels/launch.h"

// A block takes a row and reads it twice, the second time from the cache: for
// the maximum, then for the sums. Which thread adds which columns is fixed, and
// so is the tree that joins the threads' sums.
namespace qsweep::kernels {
namespace {

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kColumns = kPerVector<Fp32>;  // of a thread at a time
constexpr int kFloatSteps =
    8;  // so many times before the sum goes on in double

// The largest logit and its lowest id.
struct Largest {
  float logit;
  int32_t id;
};

constexpr int32_t kNoId = INT32_MAX;

QSWEEP_DEVICE Largest LargerOf(Largest a, Largest b) {
  const bool take_b = b.logit > a.logit || (b.logit == a.logit && b.id < a.id);
  return take_b ? b : a;
}

struct Sums {
  double exps;   // of exp(z - max)
  double cross;  // of exp(z0 - max0) (z0 - z)
};

// One row of a tile.
struct RowTile {
  const float* logits;
  int64_t columns;
  int32_t first_column;
  bool aligned;
};

QSWEEP_DEVICE RowTile RowOf(const HeadTile& tile, int64_t row, bool aligned) {
  return {tile.logits + row * tile.stride, tile.columns, tile.first_column,
          aligned};
}

// Of the columns this thread has; NaN is never the largest.
QSWEEP_DEVICE Largest LargestOf(const RowTile& tile) {
  Largest largest = {-FloatOf(0x7f800000), kNoId};
  float logits[kColumns];
  for (int64_t column = ThreadIndex() * kColumns; column < tile.columns;
       column += kThreads * kColumns) {
    const int count = LoadNumbers<Fp32, kColumns>(
        tile.logits, column, tile.columns, tile.aligned, logits);
    for (int i = 0; i < kColumns; ++i) {
      if (i < count && logits[i] > largest.logit) {
        largest = {logits[i],
                   tile.first_column + static_cast<int32_t>(column) + i};
      }
    }
  }
  return largest;
}

// Over the block; every thread gets it. Once in a kernel.
QSWEEP_DEVICE Largest LargestOfBlock(Largest largest) {
  struct Shared {
    Largest of_warp[kWarps];
  };
  QSWEEP_SHARED(Shared, shared);
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    largest = LargerOf(largest, ShuffleXor(largest, mask));
  }
  if (ThreadIndex() % kWarpThreads == 0) {
    shared.of_warp[ThreadIndex() / kWarpThreads] = largest;
  }
  SyncBlock();
  largest = shared.of_warp[0];
  for (int warp = 1; warp < kWarps; ++warp) {
    largest = LargerOf(largest, shared.of_warp[warp]);
  }
  return largest;
}

// Over the block, by its first warp, in one order; thread 0 gets it. Once in a
// kernel.
QSWEEP_DEVICE Sums SumsOfBlock(Sums sums) {
  struct Shared {
    Sums of_thread[kThreads];
  };
  QSWEEP_SHARED(Shared, shared);
  shared.of_thread[ThreadIndex()] = sums;
  SyncBlock();
  if (ThreadIndex() >= kWarpThreads) {
    return sums;
  }
  for (int warp = 1; warp < kWarps; ++warp) {
    const Sums other = shared.of_thread[warp * kWarpThreads + ThreadIndex()];
    sums = {Add(sums.exps, other.exps), Add(sums.cross, other.cross)};
  }
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    const Sums other = ShuffleXor(sums, mask);
    sums = {Add(sums.exps, other.exps), Add(sums.cross, other.cross)};
  }
  return sums;
}

QSWEEP_DEVICE bool HasNewMax(const HeadRow& row, Largest largest) {
  return row.argmax < 0 || largest.logit > row.max;
}

// Takes the tile's largest logit and gold logit into the row; returns the
// factor of earlier sums. Where no logit exceeds minus infinity the first id
// counts as the largest.
QSWEEP_DEVICE double Update(const RowTile& tile, Largest largest, int32_t gold,
                            HeadRow& row) {
  const int64_t column = static_cast<int64_t>(gold) - tile.first_column;
  if (column >= 0 && column < tile.columns) {
    row.gold_logit = Load(tile.logits + column);
  }
  if (!HasNewMax(row, largest)) {
    return 1;
  }
  const double rescale = row.argmax >= 0
                             ? ExpOf(Add(static_cast<double>(row.max),
                                         -static_cast<double>(largest.logit)))
                             : 0;
  row.max = largest.logit;
  row.argmax = largest.id == kNoId ? tile.first_column : largest.id;
  return rescale;
}

// Sums over this thread's columns. kBaseline: of exps alone.
template <bool kBaseline>
QSWEEP_DEVICE Sums SumsOf(const RowTile& tile, float max,
                          const RowTile& baseline, float baseline_max) {
  Sums sums = {0, 0};
  float exps = 0;
  float cross = 0;
  int steps = 0;
  float own[kColumns];
  float base[kColumns];
  for (int64_t column = ThreadIndex() * kColumns; column < tile.columns;
       column += kThreads * kColumns) {
    const int count = LoadNumbers<Fp32, kColumns>(
        tile.logits, column, tile.columns, tile.aligned, own);
    if (!kBaseline) {
      LoadNumbers<Fp32, kColumns>(baseline.logits, column, tile.columns,
                                  baseline.aligned, base);
    }
    for (int i = 0; i < kColumns; ++i) {
      if (i < count) {
        exps = Add(exps, ExpOf(Add(own[i], -max)));
        if (!kBaseline) {
          const float p = ExpOf(Add(base[i], -baseline_max));
          cross = MultiplyAdd(p, Add(base[i], -own[i]), cross);
        }
      }
    }
    if (++steps % kFloatSteps == 0) {
      sums = {Add(sums.exps, static_cast<double>(exps)),
              Add(sums.cross, static_cast<double>(cross))};
      exps = 0;
      cross = 0;
    }
  }
  return {Add(sums.exps, static_cast<double>(exps)),
          Add(sums.cross, static_cast<double>(cross))};
}

QSWEEP_KERNEL BaselineKernel(HeadTile tile, bool aligned, const int32_t* gold,
                             HeadRow* state, double* rescale) {
  const int64_t r = BlockIndex();
  const RowTile row_tile = RowOf(tile, r, aligned);
  const Largest largest = LargestOfBlock(LargestOf(row_tile));
  HeadRow row = Load(state + r);
  const float max = HasNewMax(row, largest) ? largest.logit : row.max;
  const Sums sums = SumsOfBlock(SumsOf<true>(row_tile, max, row_tile, max));
  if (ThreadIndex() == 0) {
    const double factor = Update(row_tile, largest, Load(gold + r), row);
    row.sum_exp = Add(Multiply(row.sum_exp, factor), sums.exps);
    Store(state + r, row);
    Store(rescale + r, factor);
  }
}

QSWEEP_KERNEL ConfigurationKernel(HeadTile tile, HeadTile baseline,
                                  bool aligned, const int32_t* gold,
                                  const HeadRow* baseline_state,
                                  const double* rescale, HeadRow* state) {
  const int64_t r = BlockIndex();
  const int64_t b =
      static_cast<uint32_t>(r) % static_cast<uint32_t>(baseline.rows);
  const RowTile row_tile = RowOf(tile, r, aligned);
  const Largest largest = LargestOfBlock(LargestOf(row_tile));
  HeadRow row = Load(state + r);
  const float max = HasNewMax(row, largest) ? largest.logit : row.max;
  const float baseline_max = Load(&baseline_state[b].max);
  const Sums sums = SumsOfBlock(
      SumsOf<false>(row_tile, max, RowOf(baseline, b, aligned), baseline_max));
  if (ThreadIndex() == 0) {
    const double factor = Update(row_tile, largest, Load(gold + b), row);
    row.sum_exp = Add(Multiply(row.sum_exp, factor), sums.exps);
    row.cross = Add(Multiply(row.cross, Load(rescale + b)), sums.cross);
    Store(state + r, row);
  }
}

bool IsAligned(const HeadTile& tile) {
  return IsAligned16(tile.logits) && tile.stride % kColumns == 0;
}

bool IsUsable(const HeadTile& tile) {
  return tile.rows <= INT32_MAX && tile.columns > 0 &&
         tile.stride >= tile.columns;
}

}  // namespace

int HeadBaselineCuda(const HeadTile& tile, const int32_t* gold, HeadRow* state,
                     double* rescale, Stream stream) {
  if (tile.rows < 1) {
    return 0;
  }
  if (!IsUsable(tile)) {
    return kInvalidValue;
  }
  return Launch(BaselineKernel, {tile.rows, kThreads}, stream, tile,
                IsAligned(tile), gold, state, rescale);
}

int HeadConfigurationCuda(const HeadTile& tile, const HeadTile& baseline,
                          const int32_t* gold, const HeadRow* baseline_state,
                          const double* rescale, HeadRow* state,
                          Stream stream) {
  if (tile.rows < 1) {
    return 0;
  }
  if (!IsUsable(tile) || !IsUsable(baseline) || baseline.rows < 1 ||
      baseline.columns != tile.columns) {
    return kInvalidValue;
  }
  return Launch(ConfigurationKernel, {tile.rows, kThreads}, stream, tile,
                baseline, IsAligned(tile) && IsAligned(baseline), gold,
                baseline_state, rescale, state);
}

}  // namespace qsweep::kernels
