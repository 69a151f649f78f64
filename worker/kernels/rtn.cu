#include <cstdint>

#include "worker/kernels/cuda_numbers.h"
#include "worker/kernels/launch.h"
#include "worker/kernels/rtn_cuda.h"
#include "worker/kernels/rtn_grid.h"

// Three ways to share the work, by the size of a group: a team of a warp's
// lanes that keep the group in registers, a block that reads all but its first
// 4096 weights twice, or, for one group alone, all blocks with the range found
// in a launch before. Minimum and maximum do not depend on the order, so all
// give the same bits.
namespace qsweep::kernels {
namespace {

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue
constexpr int kThreads = 256;
// A block's that has a group: so many that it holds 4096 weights.
template <typename In>
constexpr int kBlockThreads = 4096 / kHeldOf<In>;

constexpr int64_t kMaxRangeBlocks =
    kRtnWorkspaceBytes / static_cast<int64_t>(sizeof(Range));

struct Work {
  RtnBuffers buffers;
  RtnOptions options;
  int64_t cols;
  int64_t group_size;
  int64_t offset;  // what a row's first group lacks
  uint32_t groups;
  uint32_t groups_per_row;
  bool equal_groups;  // no row has a shorter one
  bool aligned;       // 16 bytes at a time
};

QSWEEP_DEVICE void StoreScale(const Work& work, uint32_t group,
                              const Parameters& p) {
  if (work.buffers.scales != nullptr) {
    Store(work.buffers.scales + group, p.scale);
  }
}

struct Span {
  int64_t begin;
  int64_t end;
};

// The elements of a group.
QSWEEP_DEVICE Span SpanOf(const Work& work, uint32_t group) {
  if (work.equal_groups) {
    const int64_t begin = group * work.group_size;
    return {begin, begin + work.group_size};
  }
  const uint32_t row = group / work.groups_per_row;
  const int64_t first =
      (group - static_cast<int64_t>(row) * work.groups_per_row) *
          work.group_size -
      work.offset;
  const int64_t last = first + work.group_size;
  const int64_t begin = row * work.cols;
  return {begin + (first > 0 ? first : 0),
          begin + (last < work.cols ? last : work.cols)};
}

// What thread `thread` of `threads` holds of a span, the first time.
template <typename In>
QSWEEP_DEVICE Hold HoldOf(const Work& work, Span span, int64_t thread,
                          int64_t threads) {
  constexpr int kVector = kPerVector<In>;
  return {span.begin + thread * kVector, threads * kVector, span.end,
          work.aligned};
}

template <typename In>
QSWEEP_DEVICE Held<In> LoadWeights(const Work& work, const Hold& hold) {
  return LoadHeld<In>(
      static_cast<const typename In::Stored*>(work.buffers.weights), hold);
}

// As the arithmetic asked for sees them.
template <typename In, bool kHalf>
QSWEEP_DEVICE void DecodeWeights(const Vector16& vector,
                                 float (&weights)[kPerVector<In>]) {
  Decode<In>(vector, weights);
  constexpr bool kRounds = kHalf && !kIsFp16<In>;
  for (float& weight : weights) {
    weight = Rounded<kRounds>(weight);
  }
}

// NaN counts as both infinities.
template <typename In, bool kHalf>
QSWEEP_DEVICE Range RangeOf(const Hold& hold, const Held<In>& held) {
  Range range = NoWeights();
  if (IsEmpty(hold)) {
    return range;
  }
  float nan_or_zero = 0;  // no minimum sees NaN, this sum does
  for (const Vector16& vector : held.vectors) {
    float weights[kPerVector<In>];
    DecodeWeights<In, kHalf>(vector, weights);
    for (const float weight : weights) {
      range = Joined(range, {weight, weight});
      nan_or_zero = MultiplyAdd(weight, 0.0f, nan_or_zero);
    }
  }
  const float infinity = FloatOf(kInfinityBits);
  return nan_or_zero == 0 ? range : Range{-infinity, infinity};
}

// Writes the values of what is held.
template <typename In, typename Out, bool kHalf>
QSWEEP_DEVICE void Quantize(const Work& work, const Parameters& p,
                            const Hold& hold, Held<In>& held) {
  constexpr int kVector = kPerVector<In>;
  constexpr bool kRounds = kHalf && !kIsFp16<Out>;
  const bool full = IsFull<In>(hold);
  const bool finite = p.scale < FloatOf(kInfinityBits);
  const float step = finite ? p.scale : FloatOf(kNanBits);
  for (int v = 0; v < kHeldOf<In> / kVector; ++v) {
    Forget(held.vectors[v]);
    float weights[kVector];
    DecodeWeights<In, kHalf>(held.vectors[v], weights);
    if (!p.divisor.takes_all) {
      for (float& weight : weights) {
        weight = InReach(weight, p.divisor);
      }
    }
    for (float& weight : weights) {
      weight = IntegerOf<kHalf>(weight, p);
    }
    if (work.buffers.codes != nullptr) {
      const int64_t index = hold.index + v * hold.step;
      for (int i = 0; i < kVector; ++i) {
        if (index + i < hold.end) {
          Store(work.buffers.codes + index + i,
                static_cast<int16_t>(Add(weights[i], p.zero)));
        }
      }
    }
    for (float& weight : weights) {
      weight = Rounded<kRounds>(Multiply(weight, step));
      if (kIsBf16<Out> && !finite) {
        weight = step;  // the one NaN it encodes
      }
    }
    StoreVector<In, Out>(weights, hold, full, v,
                         static_cast<typename Out::Stored*>(work.buffers.out));
  }
}

// Over the 2^lane_bits lanes around this one.
QSWEEP_DEVICE Range JoinedOverLanes(Range range, int lane_bits) {
  for (int mask = 1 << lane_bits >> 1; mask > 0; mask /= 2) {
    range = Joined(range, ShuffleXor(range, mask));
  }
  return range;
}

// Over a block of kThreads; every thread gets it. Once in a kernel.
template <int kThreads>
QSWEEP_DEVICE Range JoinedOverBlock(Range range) {
  constexpr int kWarps = kThreads / kWarpThreads;
  struct Ranges {
    Range of_warp[kWarps];
  };
  QSWEEP_SHARED(Ranges, ranges);
  range = JoinedOverLanes(range, kWarpBits);
  if (ThreadIndex() % kWarpThreads == 0) {
    ranges.of_warp[ThreadIndex() / kWarpThreads] = range;
  }
  SyncBlock();
  range = ranges.of_warp[0];
  for (int warp = 1; warp < kWarps; ++warp) {
    range = Joined(range, ranges.of_warp[warp]);
  }
  return range;
}

// A group for each team of 2^team_bits lanes, which hold all of it.
template <typename In, typename Out, bool kHalf>
QSWEEP_KERNEL TeamKernel(Work work, int team_bits) {
  const uint32_t group =
      static_cast<uint32_t>(BlockIndex()) * (kThreads >> team_bits) +
      (static_cast<uint32_t>(ThreadIndex()) >> team_bits);
  const int team = 1 << team_bits;
  const int lane = ThreadIndex() & (team - 1);
  const bool in_use = group < work.groups;
  const Span span = in_use ? SpanOf(work, group) : Span{0, 0};
  const Hold hold = HoldOf<In>(work, span, lane, team);
  Held<In> held = LoadWeights<In>(work, hold);
  const Range range =
      JoinedOverLanes(RangeOf<In, kHalf>(hold, held), team_bits);
  if (!in_use) {
    return;
  }
  const Parameters p = ParametersOf<kHalf>(range, work.options);
  if (lane == 0) {
    StoreScale(work, group, p);
  }
  Quantize<In, Out, kHalf>(work, p, hold, held);
}

// Of what `threads` threads hold of the span from `hold` on.
template <typename In, bool kHalf>
QSWEEP_DEVICE Range RangeFrom(const Work& work, Hold hold) {
  Range range = NoWeights();
  for (; !IsEmpty(hold); hold = Next<In>(hold)) {
    range =
        Joined(range, RangeOf<In, kHalf>(hold, LoadWeights<In>(work, hold)));
  }
  return range;
}

// A group for each block.
template <typename In, typename Out, bool kHalf>
QSWEEP_KERNEL QSWEEP_RESIDENT(kBlockThreads<In>, 1024 / kBlockThreads<In>)
    BlockKernel(Work work) {
  const uint32_t group = static_cast<uint32_t>(BlockIndex());
  const Span span = SpanOf(work, group);
  Hold hold = HoldOf<In>(work, span, ThreadIndex(), kBlockThreads<In>);
  Held<In> held = LoadWeights<In>(work, hold);
  const Range range = JoinedOverBlock<kBlockThreads<In>>(
      Joined(RangeOf<In, kHalf>(hold, held),
             RangeFrom<In, kHalf>(work, Next<In>(hold))));
  const Parameters p = ParametersOf<kHalf>(range, work.options);
  if (ThreadIndex() == 0) {
    StoreScale(work, group, p);
  }
  while (!IsEmpty(hold)) {
    Quantize<In, Out, kHalf>(work, p, hold, held);
    hold = Next<In>(hold);
    held = LoadWeights<In>(work, hold);
  }
}

// One group, first launch: a block's range into the workspace.
template <typename In, bool kHalf>
QSWEEP_KERNEL RangeKernel(Work work) {
  const Range range = JoinedOverBlock<kThreads>(RangeFrom<In, kHalf>(
      work,
      HoldOf<In>(work, SpanOf(work, 0), BlockIndex() * kThreads + ThreadIndex(),
                 NumBlocks() * kThreads)));
  if (ThreadIndex() == 0) {
    Store(static_cast<Range*>(work.buffers.workspace) + BlockIndex(), range);
  }
}

// One group, second launch: every block joins all ranges.
template <typename In, typename Out, bool kHalf>
QSWEEP_KERNEL QSWEEP_RESIDENT(kThreads, 4) TensorKernel(Work work) {
  Range range = NoWeights();
  for (int64_t i = ThreadIndex(); i < NumBlocks(); i += kThreads) {
    range = Joined(range,
                   Load(static_cast<const Range*>(work.buffers.workspace) + i));
  }
  range = JoinedOverBlock<kThreads>(range);
  const Parameters p = ParametersOf<kHalf>(range, work.options);
  const int64_t thread = BlockIndex() * kThreads + ThreadIndex();
  if (thread == 0) {
    StoreScale(work, 0, p);
  }
  for (Hold hold =
           HoldOf<In>(work, SpanOf(work, 0), thread, NumBlocks() * kThreads);
       !IsEmpty(hold); hold = Next<In>(hold)) {
    Held<In> held = LoadWeights<In>(work, hold);
    Quantize<In, Out, kHalf>(work, p, hold, held);
  }
}

template <typename In, typename Out, bool kHalf>
int LaunchRtn(Work work, Stream stream) {
  constexpr int kCount = kPerVector<In>;
  const bool groups_start_aligned =
      work.groups == 1 ||
      (work.cols % kCount == 0 &&
       (work.groups_per_row == 1 ||
        (work.group_size % kCount == 0 && work.offset % kCount == 0)));
  work.aligned = groups_start_aligned && IsAligned16(work.buffers.weights) &&
                 IsAligned16(work.buffers.out);
  if (work.group_size <= kWarpThreads * kHeldOf<In>) {
    int team_bits = 0;
    while (kHeldOf<In> << team_bits < work.group_size) {
      ++team_bits;
    }
    const Grid grid = {CeilDiv(work.groups, kThreads >> team_bits), kThreads};
    return Launch(TeamKernel<In, Out, kHalf>, grid, stream, work, team_bits);
  }
  if (work.groups > 1) {
    return Launch(BlockKernel<In, Out, kHalf>, {work.groups, kBlockThreads<In>},
                  stream, work);
  }
  const int64_t wanted = CeilDiv(work.cols, int64_t{kThreads} * kHeldOf<In>);
  const Grid grid = {wanted < kMaxRangeBlocks ? wanted : kMaxRangeBlocks,
                     kThreads};
  const int error = Launch(RangeKernel<In, kHalf>, grid, stream, work);
  return error != 0 ? error
                    : Launch(TensorKernel<In, Out, kHalf>, grid, stream, work);
}

template <typename In, typename Out>
int LaunchRtn(const Work& work, Stream stream) {
  return work.options.half_arithmetic ? LaunchRtn<In, Out, true>(work, stream)
                                      : LaunchRtn<In, Out, false>(work, stream);
}

template <typename In>
int LaunchRtnTo(const Work& work, Stream stream) {
  return work.buffers.out_type == FloatType::kFp32
             ? LaunchRtn<In, Fp32>(work, stream)
             : LaunchRtn<In, In>(work, stream);
}

}  // namespace

int RtnCuda(const RtnBuffers& buffers, RtnShape shape, RtnOptions options,
            Stream stream) {
  if (options.bits < 2 || options.bits > 8 || shape.group_size < 1 ||
      shape.offset < 0 || shape.offset >= shape.group_size ||
      (buffers.out_type != FloatType::kFp32 &&
       buffers.out_type != buffers.weight_type)) {
    return kInvalidValue;
  }
  if (shape.rows < 1 || shape.cols < 1) {
    return 0;
  }
  const int64_t groups_per_row = shape.groups_per_row();
  if (groups_per_row > INT32_MAX / shape.rows) {
    return kInvalidValue;
  }
  const bool one_a_row = groups_per_row == 1;
  const int64_t group_size = one_a_row ? shape.cols : shape.group_size;
  const int64_t offset = one_a_row ? 0 : shape.offset;
  const Work work = {
      .buffers = buffers,
      .options = options,
      .cols = shape.cols,
      .group_size = group_size,
      .offset = offset,
      .groups = static_cast<uint32_t>(shape.rows * groups_per_row),
      .groups_per_row = static_cast<uint32_t>(groups_per_row),
      .equal_groups = offset == 0 && shape.cols % group_size == 0,
      .aligned = false};
  switch (buffers.weight_type) {
    case FloatType::kFp32:
      return LaunchRtn<Fp32, Fp32>(work, stream);
    case FloatType::kFp16:
      return LaunchRtnTo<Fp16>(work, stream);
    case FloatType::kBf16:
      return LaunchRtnTo<Bf16>(work, stream);
  }
  return kInvalidValue;
}

}  // namespace qsweep::kernels
