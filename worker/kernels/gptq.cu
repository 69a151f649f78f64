#include <cstdint>

#include "worker/kernels/cuda_numbers.h"
#include "worker/kernels/gptq_cuda.h"
#include "worker/kernels/gptq_tile.h"
#include "worker/kernels/launch.h"
#include "worker/kernels/rtn_grid.h"

// Rows do not depend on each other, so a block of threads takes kRows of them
// through all columns in one launch, 128 at a time: a product for what the
// columns before have lost (gptq_tile.h), the parameters of the groups that
// start, then column after column. Launches before it put the weights in the
// order of rounding and find the parameters that do not move.
namespace qsweep::kernels {
namespace gptq {
namespace {

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue
constexpr int64_t kMaxColumns = int64_t{1} << 30;

template <typename In>
QSWEEP_DEVICE float WeightAt(const Work& work, int64_t row, int64_t column) {
  return In::Decode(
      Load(static_cast<const typename In::Stored*>(work.buffers.weights) +
           row * work.columns + column));
}

// First launch: 32 columns in the order of rounding of kRows rows.
template <typename In>
QSWEEP_KERNEL OrderKernel(Work work) {
  struct Turned {
    float tile[kWarpThreads][kRows + 1];
  };
  QSWEEP_SHARED(Turned, turned);
  const int lane = ThreadIndex() % kWarpThreads;
  const int warp = ThreadIndex() / kWarpThreads;
  const int64_t columns = int64_t{work.blocks} * kColumns;
  const int64_t first_row = BlockIndex() / (columns / kWarpThreads) * kRows;
  const int64_t first = BlockIndex() % (columns / kWarpThreads) * kWarpThreads;
  const bool exists = first + lane < work.columns;
  const int32_t column = exists ? Load(work.factor.order + first + lane) : 0;
  const bool dead = !exists || Load(work.factor.dead + column) != 0;
  for (int row = warp; row < kRows; row += kWarps) {
    turned.tile[lane][row] = dead || first_row + row >= work.rows
                                 ? 0
                                 : WeightAt<In>(work, first_row + row, column);
  }
  SyncBlock();
  for (int i = warp; i < kWarpThreads; i += kWarps) {
    Store(work.lost + first_row * columns + (first + i) * kRows + lane,
          turned.tile[i][lane]);
  }
}

// NaN counts as both infinities.
QSWEEP_DEVICE Range Widened(Range range, float weight) {
  const float infinity = FloatOf(kInfinityBits);
  return weight == weight ? Joined(range, {weight, weight})
                          : Range{-infinity, infinity};
}

QSWEEP_DEVICE void StoreParameters(const Work& work, int64_t row, int32_t group,
                                   Range range) {
  const Parameters p = ParametersOf<false>(range, work.grid);
  Store(work.buffers.scales + row * work.groups + group, p.scale);
  Store(work.buffers.zeros + row * work.groups + group,
        static_cast<uint8_t>(p.zero));
}

// Parameters that do not move, second launch: a warp for each group of a row.
template <typename In>
QSWEEP_KERNEL ParametersKernel(Work work) {
  const int lane = ThreadIndex() % kWarpThreads;
  const int64_t index =
      BlockIndex() * kWarps + ThreadIndex() / kWarpThreads;  // of a group
  const int64_t row = index / work.groups;
  const auto group = static_cast<int32_t>(index - row * work.groups);
  const int64_t begin = int64_t{group} * work.group_size;
  const int64_t end = begin + work.group_size < work.columns
                          ? begin + work.group_size
                          : work.columns;
  Range range = NoWeights();
  for (int64_t c = begin + lane; row < work.rows && c < end;
       c += kWarpThreads) {
    range = Widened(range, WeightAt<In>(work, row, c));
  }
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    range = Joined(range, ShuffleXor(range, mask));
  }
  if (lane == 0 && row < work.rows) {
    StoreParameters(work, row, group, range);
  }
}

// Of the groups that start in block `first`, from what the tile has of block
// `at`. open: of the last one, from the blocks before `at`; returned so.
QSWEEP_DEVICE Range FindParameters(const Work& work, const Shared& shared,
                                   int first, int at, Range open) {
  const int32_t size = work.group_size;
  const int64_t row = BlockIndex() * kRows + RowOfTeam();
  const int32_t limit = (first + 1) * kColumns < work.columns
                            ? (first + 1) * kColumns
                            : work.columns;
  const int32_t tile = at * kColumns;
  Range range = open;
  for (int32_t group = (first * kColumns + size - 1) / size;
       int64_t{group} * size < limit; ++group) {
    const int32_t begin = group * size;
    const int32_t end =
        work.columns - begin < size ? work.columns : begin + size;
    if (end <= tile) {
      continue;  // found before
    }
    const int32_t from = begin < tile ? tile : begin;
    const int32_t to = end < tile + kColumns ? end : tile + kColumns;
    range = begin < tile ? open : NoWeights();
    for (int32_t c = from + LaneOfTeam(); c < to; c += kTeam) {
      range = Widened(range, shared.tile[c - tile][RowOfTeam()]);
    }
    if (end > tile + kColumns) {
      break;  // the last one
    }
    for (int mask = kTeam / 2; mask > 0; mask /= 2) {
      range = Joined(range, ShuffleXor(range, mask));
    }
    if (LaneOfTeam() == 0 && row < work.rows) {
      StoreParameters(work, row, group, range);
    }
  }
  return range;
}

// What a column's step needs; read one step ahead.
struct Column {
  float scale;
  float zero;
  float pivot;               // U's diagonal element
  Vector16 row[kStretches];  // of U, the thread's columns
};

// stretch: the first that is needed.
QSWEEP_DEVICE Column LoadColumn(const Work& work, const Shared& shared,
                                int block, int i, int stretch) {
  const int64_t row = BlockIndex() * kRows + RowOfTeam();
  const float* const inverse =
      work.factor.inverses + int64_t{block} * kColumns * kColumns + i * kPanel;
  Column column = {1, 0, 1, {}};
  if (row < work.rows) {
    const int64_t at = row * work.groups + shared.groups[i];
    column.scale = Load(work.buffers.scales + at);
    column.zero = static_cast<float>(Load(work.buffers.zeros + at));
  }
  column.pivot = Load(inverse + i / kPanel * kInverseStep + i % kPanel);
  for (int s = 0; s < kStretches; ++s) {
    const int first = s * kStretch + LaneOfTeam() * kQuad;
    if (s >= stretch) {
      column.row[s] =
          LoadVector(inverse + first / kPanel * kInverseStep + first % kPanel);
    }
  }
  return column;
}

// The integer that stands for a weight. A scale of zero comes of denormal
// weights alone; what is not a number becomes the lowest.
QSWEEP_DEVICE float IntegerAt(float weight, const Column& column,
                              float levels) {
  const float lowest = -column.zero;
  const float highest = Add(levels, lowest);
  const float x = Divide(weight, column.scale);
  const float above = x > lowest ? x : lowest;
  const float within = above < highest ? above : highest;
  return column.scale == 0 ? 0 : NearestInteger(within);
}

// The columns of a block one after another. weights: the thread's, of its
// team's row. Values go to the tile.
QSWEEP_DEVICE void RoundColumns(const Work& work, Shared& shared, int block,
                                int count,
                                float (&weights)[kStretches][kQuad]) {
  const auto levels = static_cast<float>((1 << work.grid.bits) - 1);
  const int team = ThreadIndex() % kWarpThreads / kTeam * kTeam;
  Column next = LoadColumn(work, shared, block, 0, 0);
  QSWEEP_UNROLL
  for (int s = 0; s < kStretches; ++s) {
    for (int owner = 0; owner < kTeam; ++owner) {
      QSWEEP_UNROLL
      for (int q = 0; q < kQuad; ++q) {
        const int i = s * kStretch + owner * kQuad + q;
        if (i >= count) {
          return;
        }
        const Column column = next;
        if (i + 1 < count) {
          next = LoadColumn(work, shared, block, i + 1, s);
        }
        const float weight = ShuffleFrom(weights[s][q], team + owner);
        const float integer = IntegerAt(weight, column, levels);
        const float value = Multiply(integer, column.scale);
        const float error = Divide(Add(weight, -value), column.pivot);
        if (LaneOfTeam() == owner) {
          shared.tile[i][RowOfTeam()] = value;
          shared.codes[RowOfTeam()][i] =
              static_cast<uint8_t>(Add(integer, column.zero));
        }
        // Those to its left, too: nobody reads them again.
        for (int later = s; later < kStretches; ++later) {
          const Quad u = QuadOf(column.row[later]);
          for (int j = 0; j < kQuad; ++j) {
            weights[later][j] =
                Add(weights[later][j], -Multiply(error, u.of[j]));
          }
        }
      }
    }
  }
}

// Codes in the order of the columns; what is lost in that of rounding.
QSWEEP_DEVICE void StoreBlock(const Work& work, const Shared& shared, int block,
                              int count) {
  const int lane = ThreadIndex() % kWarpThreads;
  const int warp = ThreadIndex() / kWarpThreads;
  float* const lost = LostColumns(work, block * kColumns);
  for (int i = warp; i < count; i += kWarps) {
    float* const at = lost + i * kRows + lane;
    Store(at, Add(Load(at), -shared.tile[i][lane]));
  }
  const int32_t* const order = work.factor.order + block * kColumns;
  for (int r = warp; r < kRows; r += kWarps) {
    const int64_t row = BlockIndex() * kRows + r;
    for (int i = lane; row < work.rows && i < count; i += kWarpThreads) {
      Store(work.buffers.codes + row * work.columns + Load(order + i),
            shared.codes[r][i]);
    }
  }
}

// One past the last block that groups which start in `block` reach into.
QSWEEP_DEVICE int LastNeeded(const Work& work, int block) {
  const int32_t limit = (block + 1) * kColumns < work.columns
                            ? (block + 1) * kColumns
                            : work.columns;
  const int32_t start = (limit - 1) / work.group_size * work.group_size;
  if (!work.moving || start < block * kColumns) {
    return block + 1;
  }
  const int32_t end = work.columns - start < work.group_size
                          ? work.columns
                          : start + work.group_size;
  return end <= limit ? block + 1 : static_cast<int>(BlocksOf(end));
}

// Last launch.
QSWEEP_KERNEL ColumnsKernel(Work work) {
  QSWEEP_SHARED(Shared, shared);
  for (int block = 0; block < work.blocks; ++block) {
    const int count = work.columns - block * kColumns < kColumns
                          ? work.columns - block * kColumns
                          : kColumns;
    if (ThreadIndex() < count) {
      const int32_t place = block * kColumns + ThreadIndex();
      shared.groups[ThreadIndex()] =
          (work.static_groups ? Load(work.factor.order + place) : place) /
          work.group_size;
    }
    float weights[kStretches][kQuad];
    Range open = NoWeights();
    const int last = LastNeeded(work, block);
    for (int at = block; at < last; ++at) {
      UpdateBlock(work, shared, block, at);
      for (int s = 0; at == block && s < kStretches; ++s) {
        for (int q = 0; q < kQuad; ++q) {
          weights[s][q] =
              shared.tile[s * kStretch + LaneOfTeam() * kQuad + q][RowOfTeam()];
        }
      }
      if (work.moving) {
        open = FindParameters(work, shared, block, at, open);
      }
      SyncBlock();  // all are done with the tile, parameters are stored
    }
    RoundColumns(work, shared, block, count, weights);
    SyncBlock();
    StoreBlock(work, shared, block, count);
    SyncBlock();
  }
}

template <typename In>
int LaunchGptq(const Work& work, Stream stream) {
  const int64_t row_blocks = CeilDiv(work.rows, kRows);
  int error =
      Launch(OrderKernel<In>,
             {row_blocks * work.blocks * (kColumns / kWarpThreads), kThreads},
             stream, work);
  if (error == 0 && !work.moving) {
    error = Launch(ParametersKernel<In>,
                   {CeilDiv(work.rows * work.groups, kWarps), kThreads}, stream,
                   work);
  }
  return error != 0
             ? error
             : Launch(ColumnsKernel, {row_blocks, kThreads}, stream, work);
}

bool IsMoving(const GptqOptions& options) {
  return options.group_size != 0 && !options.static_groups;
}

// Blocks of columns that a group can lie in.
int64_t WindowOf(int64_t columns, const GptqOptions& options) {
  if (!IsMoving(options) || kBlock % options.group_size == 0) {
    return 1;
  }
  const int64_t reach = CeilDiv(options.group_size, kBlock) + 1;
  return reach < BlocksOf(columns) ? reach : BlocksOf(columns);
}

// Floats of a part of the workspace that holds so many blocks of columns.
int64_t PartOf(int64_t rows, int64_t blocks) {
  return CeilDiv(rows, kRows) * kRows * blocks * kBlock;
}

bool IsValid(const GptqDeviceFactor& factor, const GptqBuffers& buffers,
             int64_t rows, const GptqOptions& options) {
  constexpr int64_t kMaxGroups = (int64_t{1} << 31) - 1;
  return options.bits >= 2 && options.bits <= 8 && options.group_size >= 0 &&
         rows >= 0 && factor.columns >= 0 && factor.columns <= kMaxColumns &&
         rows <= kMaxGroups / (options.groups_per_row(factor.columns) + 1) &&
         factor.upper != nullptr && factor.inverses != nullptr &&
         factor.order != nullptr && factor.dead != nullptr &&
         buffers.weights != nullptr && buffers.codes != nullptr &&
         buffers.scales != nullptr && buffers.zeros != nullptr &&
         buffers.workspace != nullptr;
}

}  // namespace
}  // namespace gptq

int64_t GptqWorkspaceBytes(int64_t rows, int64_t columns,
                           const GptqOptions& options) {
  const int64_t window = gptq::WindowOf(columns, options);
  return static_cast<int64_t>(sizeof(float)) *
         (gptq::PartOf(rows, BlocksOf(columns)) +
          (window > 1 ? gptq::PartOf(rows, window) : 0));
}

int GptqCuda(const GptqDeviceFactor& factor, const GptqBuffers& buffers,
             int64_t rows, const GptqOptions& options, Stream stream) {
  if (!gptq::IsValid(factor, buffers, rows, options)) {
    return gptq::kInvalidValue;
  }
  if (rows == 0 || factor.columns == 0) {
    return 0;
  }
  const int64_t columns = factor.columns;
  const int64_t blocks = BlocksOf(columns);
  auto* const lost = static_cast<float*>(buffers.workspace);
  const gptq::Work work = {
      .factor = factor,
      .buffers = buffers,
      .grid = {.bits = options.bits,
               .grid = options.symmetric ? RtnGrid::kGptqSymmetric
                                         : RtnGrid::kGptqAsymmetric,
               .half_scale = options.half_scale},
      .rows = rows,
      .columns = static_cast<int32_t>(columns),
      .blocks = static_cast<int32_t>(blocks),
      .groups = static_cast<int32_t>(options.groups_per_row(columns)),
      .group_size = static_cast<int32_t>(options.group_size == 0 ||
                                                 options.group_size > columns
                                             ? columns
                                             : options.group_size),
      .static_groups = options.static_groups,
      .moving = gptq::IsMoving(options),
      .lost = lost,
      .owed = lost + gptq::PartOf(rows, blocks),
      .window = static_cast<int32_t>(gptq::WindowOf(columns, options))};
  switch (buffers.weight_type) {
    case FloatType::kFp32:
      return gptq::LaunchGptq<Fp32>(work, stream);
    case FloatType::kFp16:
      return gptq::LaunchGptq<Fp16>(work, stream);
    case FloatType::kBf16:
      return gptq::LaunchGptq<Bf16>(work, stream);
  }
  return gptq::kInvalidValue;
}

}  // namespace qsweep::kernels
