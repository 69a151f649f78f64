#include <cstdint>

#include "worker/kernels/cuda_exp.h"
#include "worker/kernels/cuda_numbers.h"
#include "worker/kernels/head_stats.h"
#include "worker/kernels/launch.h"

// A block takes a row and passes over it twice, for the maximum and for the
// sums; it keeps the first 8192 columns and reads the others again, from the
// cache. Which thread adds which columns is fixed, and so is the tree that
// joins the threads' sums.
namespace qsweep::kernels {
namespace {

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kColumns = kPerVector<Fp32>;  // of a thread at a time
constexpr int kStep = kThreads * kColumns;  // of the block
// So many steps stay in registers, and so many are added up in fp32 before the
// sum goes on in fp64.
constexpr int kHeldSteps = 8;

constexpr int32_t kNoId = INT32_MAX;

// Over a row.
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

// A thread's columns: kColumns of every kStep, and of those steps the first
// `steps` in registers, if the vectors are aligned and whole.
struct Held {
  float logits[kHeldSteps][kColumns];
  int steps;  // the same for the whole block
};

QSWEEP_DEVICE int64_t ColumnOf(int64_t step) {
  return step * kStep + ThreadIndex() * kColumns;
}

// A step whose vectors are aligned and whole.
QSWEEP_DEVICE void LoadWhole(const RowTile& tile, int step, float* logits) {
  const Vector16 vector =
      Load(reinterpret_cast<const Vector16*>(tile.logits + ColumnOf(step)));
  memcpy(logits, &vector, sizeof(vector));
}

QSWEEP_DEVICE Held LoadHeld(const RowTile& tile) {
  Held held;
  const int64_t whole = tile.columns / kStep;
  held.steps = !tile.aligned        ? 0
               : whole < kHeldSteps ? static_cast<int>(whole)
                                    : kHeldSteps;
  for (int step = 0; step < kHeldSteps; ++step) {
    if (step < held.steps) {
      const Vector16 vector =
          Load(reinterpret_cast<const Vector16*>(tile.logits + ColumnOf(step)));
      memcpy(held.logits[step], &vector, sizeof(vector));
    }
  }
  return held;
}

// The steps that LoadWhole will read of a row, a line at a time.
QSWEEP_DEVICE void PrefetchWhole(const RowTile& tile, int steps) {
  constexpr int kColumnsOfLine = 128 / sizeof(float);
  if (ThreadIndex() % (kColumnsOfLine / kColumns) == 0) {
    for (int step = 0; step < steps; ++step) {
      Prefetch(tile.logits + ColumnOf(step));
    }
  }
}

// Of the columns this thread has; NaN is never the largest.
QSWEEP_DEVICE float LargestOf(const RowTile& tile, const Held& held) {
  float largest = -FloatOf(0x7f800000);
  for (int step = 0; step < kHeldSteps; ++step) {
    if (step < held.steps) {
      for (const float logit : held.logits[step]) {
        largest = MaxOf(largest, logit);
      }
    }
  }
  float logits[kColumns];
  for (int64_t column = ColumnOf(held.steps); column < tile.columns;
       column += kStep) {
    const int count = LoadNumbers<Fp32, kColumns>(
        tile.logits, column, tile.columns, tile.aligned, logits);
    for (int i = 0; i < kColumns; ++i) {
      if (i < count) {
        largest = MaxOf(largest, logits[i]);
      }
    }
  }
  return largest;
}

// Over the block; every thread gets it. Once in a kernel.
QSWEEP_DEVICE float LargestOfBlock(float largest) {
  struct Shared {
    float of_warp[kWarps];
  };
  QSWEEP_SHARED(Shared, shared);
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    largest = MaxOf(largest, ShuffleXor(largest, mask));
  }
  if (ThreadIndex() % kWarpThreads == 0) {
    shared.of_warp[ThreadIndex() / kWarpThreads] = largest;
  }
  SyncBlock();
  for (const float of_warp : shared.of_warp) {
    largest = MaxOf(largest, of_warp);
  }
  return largest;
}

// The lowest id of `logit` among this thread's columns; for the few threads
// that have it.
QSWEEP_DEVICE int32_t LowestIdOf(const RowTile& tile, const Held& held,
                                 float logit) {
  int64_t lowest = kNoId;
  float logits[kColumns];
  for (int64_t column = ColumnOf(held.steps);
       column < tile.columns && lowest == kNoId; column += kStep) {
    const int count = LoadNumbers<Fp32, kColumns>(
        tile.logits, column, tile.columns, tile.aligned, logits);
    for (int i = kColumns - 1; i >= 0; --i) {
      lowest = i < count && logits[i] == logit ? column + i : lowest;
    }
  }
  for (int step = kHeldSteps - 1; step >= 0; --step) {
    for (int i = kColumns - 1; i >= 0; --i) {
      lowest = step < held.steps && held.logits[step][i] == logit
                   ? ColumnOf(step) + i
                   : lowest;
    }
  }
  return tile.first_column + static_cast<int32_t>(lowest);
}

struct Joined {
  Sums sums;
  int32_t id;  // the lowest
};

QSWEEP_DEVICE Joined Join(const Joined& a, const Joined& b) {
  return {{Add(a.sums.exps, b.sums.exps), Add(a.sums.cross, b.sums.cross)},
          a.id < b.id ? a.id : b.id};
}

// Over the block, by its first warp, in one order; thread 0 gets it. Once in a
// kernel.
QSWEEP_DEVICE Joined JoinedOverBlock(Sums sums, int32_t id) {
  struct Shared {
    Sums sums[kThreads];
    int32_t ids[kThreads];
  };
  QSWEEP_SHARED(Shared, shared);
  shared.sums[ThreadIndex()] = sums;
  shared.ids[ThreadIndex()] = id;
  SyncBlock();
  Joined joined = {sums, id};
  if (ThreadIndex() >= kWarpThreads) {
    return joined;
  }
  for (int warp = 1; warp < kWarps; ++warp) {
    const int other = warp * kWarpThreads + ThreadIndex();
    joined = Join(joined, {shared.sums[other], shared.ids[other]});
  }
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    joined = Join(joined,
                  {ShuffleXor(joined.sums, mask), ShuffleXor(joined.id, mask)});
  }
  return joined;
}

QSWEEP_DEVICE bool HasNewMax(const HeadRow& row, float largest) {
  return row.argmax < 0 || largest > row.max;
}

// Takes the tile's largest logit and gold logit into the row; returns the
// factor of earlier sums. Where no logit exceeds minus infinity the first id
// counts as the largest.
QSWEEP_DEVICE double Update(const RowTile& tile, float largest, int32_t id,
                            int32_t gold, HeadRow& row) {
  const int64_t column = static_cast<int64_t>(gold) - tile.first_column;
  if (column >= 0 && column < tile.columns) {
    row.gold_logit = Load(tile.logits + column);
  }
  if (!HasNewMax(row, largest)) {
    return 1;
  }
  const double rescale = row.argmax >= 0
                             ? ExpOf(Add(static_cast<double>(row.max),
                                         -static_cast<double>(largest)))
                             : 0;
  row.max = largest;
  row.argmax = id == kNoId ? tile.first_column : id;
  return rescale;
}

// Takes logits in, in fp32 for so many steps, then in fp64.
struct Accumulator {
  Sums sums = {0, 0};
  float exps = 0;
  float cross = 0;
  int steps = 0;
};

// kBaseline: exps alone.
template <bool kBaseline>
QSWEEP_DEVICE void AddLogit(float own, float max, float base,
                            float baseline_max, Accumulator& a) {
  a.exps = Add(a.exps, ExpOf(Add(own, -max)));
  if (!kBaseline) {
    const float p = ExpOf(Add(base, -baseline_max));
    a.cross = MultiplyAdd(p, Add(base, -own), a.cross);
  }
}

QSWEEP_DEVICE void AddToSums(Accumulator& a) {
  a.sums = {Add(a.sums.exps, static_cast<double>(a.exps)),
            Add(a.sums.cross, static_cast<double>(a.cross))};
  a.exps = 0;
  a.cross = 0;
}

// Over this thread's columns.
template <bool kBaseline>
QSWEEP_DEVICE Sums SumsOf(const RowTile& tile, const Held& held, float max,
                          const RowTile& baseline, float baseline_max) {
  Accumulator a;
  float own[kColumns];
  float base[kColumns] = {};
  float next[kColumns] = {};  // a step ahead
  if (!kBaseline && held.steps > 0) {
    LoadWhole(baseline, 0, next);
  }
  for (int step = 0; step < kHeldSteps; ++step) {
    if (step < held.steps) {
      memcpy(base, next, sizeof(base));
      if (!kBaseline && step + 1 < held.steps) {
        LoadWhole(baseline, step + 1, next);
      }
      for (int i = 0; i < kColumns; ++i) {
        AddLogit<kBaseline>(held.logits[step][i], max, base[i], baseline_max,
                            a);
      }
    }
  }
  if (held.steps == kHeldSteps) {
    AddToSums(a);
  }
  for (int64_t step = held.steps; ColumnOf(step) < tile.columns; ++step) {
    const int count = LoadNumbers<Fp32, kColumns>(
        tile.logits, ColumnOf(step), tile.columns, tile.aligned, own);
    if (!kBaseline) {
      LoadNumbers<Fp32, kColumns>(baseline.logits, ColumnOf(step), tile.columns,
                                  baseline.aligned, base);
    }
    for (int i = 0; i < kColumns; ++i) {
      if (i < count) {
        AddLogit<kBaseline>(own[i], max, base[i], baseline_max, a);
      }
    }
    if ((step + 1) % kHeldSteps == 0) {
      AddToSums(a);
    }
  }
  AddToSums(a);
  return a.sums;
}

// What both kernels do with a row of a tile. Thread 0 gets the sums, takes the
// tile into the row but for its sums, and gets the factor of earlier sums.
struct Added {
  Sums sums;
  double factor;
};

template <bool kBaseline>
QSWEEP_DEVICE Added AddTile(const RowTile& tile, const RowTile& baseline,
                            float baseline_max, const int32_t* gold,
                            HeadRow& row) {
  const Held held = LoadHeld(tile);
  if (!kBaseline) {
    PrefetchWhole(baseline, held.steps);
  }
  const float of_thread = LargestOf(tile, held);
  const float largest = LargestOfBlock(of_thread);
  const bool has_it = of_thread == largest && largest > -FloatOf(0x7f800000);
  const int32_t id = has_it ? LowestIdOf(tile, held, largest) : kNoId;
  const float max = HasNewMax(row, largest) ? largest : row.max;
  const Joined joined = JoinedOverBlock(
      SumsOf<kBaseline>(tile, held, max, baseline, baseline_max), id);
  if (ThreadIndex() != 0) {
    return {};
  }
  return {joined.sums, Update(tile, largest, joined.id, Load(gold), row)};
}

QSWEEP_KERNEL QSWEEP_RESIDENT(kThreads, 4)
    BaselineKernel(HeadTile tile, bool aligned, const int32_t* gold,
                   HeadRow* state, double* rescale) {
  const int64_t r = BlockIndex();
  const RowTile row_tile = RowOf(tile, r, aligned);
  HeadRow row = Load(state + r);
  const Added added = AddTile<true>(row_tile, row_tile, 0, gold + r, row);
  if (ThreadIndex() == 0) {
    row.sum_exp = Add(Multiply(row.sum_exp, added.factor), added.sums.exps);
    Store(state + r, row);
    Store(rescale + r, added.factor);
  }
}

QSWEEP_KERNEL QSWEEP_RESIDENT(kThreads, 4)
    ConfigurationKernel(HeadTile tile, HeadTile baseline, bool aligned,
                        const int32_t* gold, const HeadRow* baseline_state,
                        const double* rescale, HeadRow* state) {
  const int64_t r = BlockIndex();
  const int64_t b =
      static_cast<uint32_t>(r) % static_cast<uint32_t>(baseline.rows);
  HeadRow row = Load(state + r);
  const Added added =
      AddTile<false>(RowOf(tile, r, aligned), RowOf(baseline, b, aligned),
                     Load(&baseline_state[b].max), gold + b, row);
  if (ThreadIndex() == 0) {
    row.sum_exp = Add(Multiply(row.sum_exp, added.factor), added.sums.exps);
    row.cross = Add(Multiply(row.cross, Load(rescale + b)), added.sums.cross);
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
