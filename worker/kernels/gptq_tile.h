#ifndef QSWEEP_WORKER_KERNELS_GPTQ_TILE_H_
#define QSWEEP_WORKER_KERNELS_GPTQ_TILE_H_

#include <cstdint>

#include "worker/kernels/gptq_blocks.h"
#include "worker/kernels/gptq_cuda.h"
#include "worker/kernels/launch.h"
#include "worker/kernels/rtn.h"

// The products of gptq.cu, for .cu files only: the weights of kRows rows and a
// block of columns, less what the columns before owe them. Each sum runs over
// its terms from the left, fused, as on the CPU (loops/panels.h).
namespace qsweep::kernels::gptq {

inline constexpr int kThreads = 256;
inline constexpr int kWarps = kThreads / kWarpThreads;
inline constexpr int kRows = 32;      // of a block of threads
inline constexpr int kColumns = 128;  // of a block of columns
static_assert(kColumns == kBlock);
// A product: each thread has kQuad rows and kQuad columns, and kTerms terms at
// a time lie in shared memory.
inline constexpr int kQuad = 4;
inline constexpr int kTerms = 16;
static_assert(kTerms == kPanel);
inline constexpr int kPanels = kColumns / kTerms;  // of a block
// Rounding: kTeam lanes have a row, lane l its columns kQuad l + 32 s ..,
// kQuad of each stretch s of 32.
inline constexpr int kTeam = kThreads / kRows;
inline constexpr int kStretch = kTeam * kQuad;
inline constexpr int kStretches = kColumns / kStretch;

struct Work {
  GptqDeviceFactor factor;
  GptqBuffers buffers;
  RtnOptions grid;
  int64_t rows;
  int32_t columns;
  int32_t blocks;  // of columns
  int32_t groups;  // of a row
  int32_t group_size;
  bool static_groups;
  bool moving;  // parameters of a group are found when its first column comes
  // [blocks of rows, columns up to a whole block, kRows], in the order of
  // rounding: the weights, less, where they are rounded, the values.
  float* lost;
  // [blocks of rows, window, kColumns, kRows]: what weights of blocks that the
  // groups reach into owe, as if the block in hand were lost as it is.
  float* owed;
  int32_t window;  // blocks; 1: groups do not reach over a block
};

struct Quad {
  float of[kQuad];
};

// Of a thread, by column.
struct Sums {
  Quad of[kQuad];
};

struct Shared {
  Vector16 left[2][kTerms][kRows / kQuad];      // one half is filled while
  Vector16 right[2][kTerms][kColumns / kQuad];  // the other is read
  float tile[kColumns][kRows + 1];              // uneven, for the banks' sake
  uint8_t codes[kRows][kColumns];
  int32_t groups[kColumns];  // of the columns of the block
};

QSWEEP_DEVICE Quad QuadOf(const Vector16& vector) {
  Quad quad;
  memcpy(&quad, &vector, sizeof(quad));
  return quad;
}

QSWEEP_DEVICE Vector16 LoadVector(const float* from) {
  return Load(reinterpret_cast<const Vector16*>(from));
}

// Of a thread's place in a product.
struct Place {
  int row;     // the first of its rows
  int column;  // and columns
};
QSWEEP_DEVICE Place PlaceOfThread() {
  const int lane = ThreadIndex() % kWarpThreads;
  const int warp = ThreadIndex() / kWarpThreads;
  return {(warp / 4 * 4 + lane / 8) * kQuad, (warp % 4 * 8 + lane % 8) * kQuad};
}

QSWEEP_DEVICE int RowOfTeam() { return ThreadIndex() / kTeam; }
QSWEEP_DEVICE int LaneOfTeam() { return ThreadIndex() % kTeam; }

// This block's rows of an array of `columns` columns for all blocks of rows.
QSWEEP_DEVICE int64_t OwnRows(int64_t columns) {
  return BlockIndex() * columns * kRows;
}
QSWEEP_DEVICE float* LostColumns(const Work& work, int column) {
  return work.lost + OwnRows(int64_t{work.blocks} * kColumns) +
         int64_t{column} * kRows;
}
QSWEEP_DEVICE float* OwedColumns(const Work& work, int column) {
  return work.owed + OwnRows(int64_t{work.window} * kColumns) +
         int64_t{column} * kRows;
}

// sums += left * right over kTerms terms, from the left. left(k): the thread's
// rows of term k.
template <typename Left>
QSWEEP_DEVICE void AddTerms(const Left& left,
                            const Vector16 (&right)[kTerms][kColumns / kQuad],
                            int column, Sums& sums) {
  for (int k = 0; k < kTerms; ++k) {
    const Quad l = left(k);
    const Quad r = QuadOf(right[k][column / kQuad]);
    for (int j = 0; j < kQuad; ++j) {
      for (int i = 0; i < kQuad; ++i) {
        sums.of[j].of[i] = MultiplyAdd(l.of[i], r.of[j], sums.of[j].of[i]);
      }
    }
  }
}

// What a thread carries of kTerms terms of a product into shared memory.
struct Carried {
  static constexpr int kRight = kTerms * kColumns / kQuad / kThreads;
  Vector16 left;
  Vector16 right[kRight];
};
inline constexpr int kLeftThreads = kTerms * kRows / kQuad;  // which carry some

// right: the first panel's terms.
QSWEEP_DEVICE void LoadRight(const float* right, int64_t step,
                             Carried& carried) {
  for (int i = 0; i < Carried::kRight; ++i) {
    const int vector = i * kThreads + ThreadIndex();
    const int panel = vector / (kTerms * kPanel / kQuad);
    const int within = vector % (kTerms * kPanel / kQuad);
    carried.right[i] = LoadVector(right + panel * step + within * kQuad);
  }
}

QSWEEP_DEVICE void KeepRight(const Carried& carried, int half, Shared& shared) {
  for (int i = 0; i < Carried::kRight; ++i) {
    const int vector = i * kThreads + ThreadIndex();
    const int panel = vector / (kTerms * kPanel / kQuad);
    const int within = vector % (kTerms * kPanel / kQuad);
    shared.right[half][within / (kPanel / kQuad)]
                [panel * (kPanel / kQuad) + within % (kPanel / kQuad)] =
        carried.right[i];
  }
}

// Terms q kTerms .. of all that come before block `at`, where those of blocks
// from `first` on count as owed.
QSWEEP_DEVICE void LoadTerms(const Work& work, int first, int at, int q,
                             Carried& carried) {
  const int term = q * kTerms;
  if (ThreadIndex() < kLeftThreads) {
    const float* const left = term < first * kColumns
                                  ? LostColumns(work, term)
                                  : OwedColumns(work, term - first * kColumns);
    carried.left = LoadVector(left + ThreadIndex() * kQuad);
  }
  LoadRight(work.factor.upper + UpperOffset(at) + int64_t{term} * kPanel,
            UpperStep(at), carried);
}

// Minus the sum of what the blocks before have lost times R.
QSWEEP_DEVICE Sums MinusLosses(const Work& work, Shared& shared, int first,
                               int at, Place place) {
  Sums minus = {};
  Sums of_block = {};
  Carried carried = {};
  LoadTerms(work, first, at, 0, carried);
  for (int q = 0; q < at * kPanels; ++q) {
    const int half = q % 2;
    if (ThreadIndex() < kLeftThreads) {
      shared.left[half][ThreadIndex() / (kRows / kQuad)]
                 [ThreadIndex() % (kRows / kQuad)] = carried.left;
    }
    KeepRight(carried, half, shared);
    SyncBlock();
    if (q + 1 < at * kPanels) {
      LoadTerms(work, first, at, q + 1, carried);
    }
    AddTerms(
        [&](int k) { return QuadOf(shared.left[half][k][place.row / kQuad]); },
        shared.right[half], place.column, of_block);
    if (q % kPanels == kPanels - 1) {
      for (int j = 0; j < kQuad; ++j) {
        for (int i = 0; i < kQuad; ++i) {
          minus.of[j].of[i] = Add(minus.of[j].of[i], -of_block.of[j].of[i]);
          of_block.of[j].of[i] = 0;
        }
      }
    }
  }
  return minus;
}

QSWEEP_DEVICE void StoreTile(const Sums& sums, Place place, Shared& shared) {
  for (int j = 0; j < kQuad; ++j) {
    for (int i = 0; i < kQuad; ++i) {
      shared.tile[place.column + j][place.row + i] = sums.of[j].of[i];
    }
  }
}

// What is in the tile times U's diagonal block. A column ends with its panel:
// U's terms after that are zero.
QSWEEP_DEVICE Sums TileTimesInverse(const Work& work, Shared& shared, int at,
                                    Place place) {
  const float* const inverse =
      work.factor.inverses + int64_t{at} * kColumns * kColumns;
  Sums sums = {};
  Carried carried = {};
  LoadRight(inverse, kInverseStep, carried);
  for (int panel = 0; panel < kPanels; ++panel) {
    const int half = panel % 2;
    KeepRight(carried, half, shared);
    SyncBlock();
    if (panel + 1 < kPanels) {
      LoadRight(inverse + (panel + 1) * kTerms * kPanel, kInverseStep, carried);
    }
    if (panel <= place.column / kTerms) {
      AddTerms(
          [&](int k) {
            Quad rows;
            for (int i = 0; i < kQuad; ++i) {
              rows.of[i] = shared.tile[panel * kTerms + k][place.row + i];
            }
            return rows;
          },
          shared.right[half], place.column, sums);
    }
  }
  return sums;
}

// Puts the weights of block `at` into the tile as they are before block
// `first`, and what they differ from those that came into `owed`.
QSWEEP_DEVICE void UpdateBlock(const Work& work, Shared& shared, int first,
                               int at) {
  const Place place = PlaceOfThread();
  Sums weights;
  for (int j = 0; j < kQuad; ++j) {
    weights.of[j] = QuadOf(LoadVector(
        LostColumns(work, at * kColumns + place.column + j) + place.row));
  }
  if (first > 0) {  // else nothing is lost yet
    StoreTile(MinusLosses(work, shared, first, at, place), place, shared);
    SyncBlock();  // also: all are done with the product's terms
    const Sums change = TileTimesInverse(work, shared, at, place);
    for (int j = 0; j < kQuad; ++j) {
      Quad owed;
      for (int i = 0; i < kQuad; ++i) {
        const float weight = weights.of[j].of[i];
        weights.of[j].of[i] = Add(weight, -change.of[j].of[i]);
        owed.of[i] = Add(weight, -weights.of[j].of[i]);
      }
      if (work.window > 1) {
        Vector16 vector;
        memcpy(&vector, &owed, sizeof(vector));
        Store(
            reinterpret_cast<Vector16*>(
                OwedColumns(work, (at - first) * kColumns + place.column + j) +
                place.row),
            vector);
      }
    }
    SyncBlock();  // all are done with the tile
  }
  StoreTile(weights, place, shared);
  SyncBlock();
}

}  // namespace qsweep::kernels::gptq

#endif  // QSWEEP_WORKER_KERNELS_GPTQ_TILE_H_
