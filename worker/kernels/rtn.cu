#include <cstdint>

#include "worker/kernels/cuda_numbers.h"
#include "worker/kernels/launch.h"
#include "worker/kernels/rtn_cuda.h"

// Three ways to share the work, by the size of a group: a team of a warp's
// lanes that keep the group in registers, a block that reads the group twice,
// or, for one group alone, all blocks with the range found in a launch before.
// Minimum and maximum do not depend on the order, so all give the same bits.
namespace qsweep::kernels {
namespace {

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpThreads;

constexpr uint32_t kInfinityBits = 0x7f800000;
constexpr uint32_t kNanBits = 0x7fc00000;

struct Range {
  float min;
  float max;
};

constexpr int64_t kMaxRangeBlocks =
    kRtnWorkspaceBytes / static_cast<int64_t>(sizeof(Range));

struct Work {
  RtnBuffers buffers;
  RtnOptions options;
  int64_t cols;
  int64_t group_size;
  uint32_t groups;
  uint32_t groups_per_row;
  bool aligned;  // 16 bytes at a time
};

// The identity of Joined.
QSWEEP_DEVICE Range NoWeights() {
  return {FloatOf(kInfinityBits), -FloatOf(kInfinityBits)};
}

QSWEEP_DEVICE Range Joined(Range a, Range b) {
  return {b.min < a.min ? b.min : a.min, b.max > a.max ? b.max : a.max};
}

// NaN counts as both infinities, so that no comparison can lose it.
QSWEEP_DEVICE Range WithWeight(Range range, float weight) {
  if (weight != weight) {
    return {-FloatOf(kInfinityBits), FloatOf(kInfinityBits)};
  }
  return Joined(range, {weight, weight});
}

// The result of an operation in the arithmetic asked for.
template <bool kHalf>
QSWEEP_DEVICE float Rounded(float x) {
  return kHalf ? FloatOfHalf(HalfOf(x)) : x;
}

QSWEEP_DEVICE float Larger(float a, float b) { return a > b ? a : b; }
QSWEEP_DEVICE float Smaller(float a, float b) { return a < b ? a : b; }
QSWEEP_DEVICE float Clamped(float x, float low, float high) {
  return Smaller(Larger(x, low), high);
}

enum class Kind { kQuantized, kZeros, kKept, kNotFinite };

// A value is scale * integer with integer in lowest..highest, its code is
// integer + zero.
struct Parameters {
  Kind kind;
  bool is_signed;  // no zero point: -0.3 becomes -0
  float scale;
  float zero;
  float lowest;
  float highest;
};

template <bool kHalf>
QSWEEP_DEVICE float StoredScale(float range, float divisor, bool half_scale) {
  const float scale = Rounded<kHalf>(Divide(range, divisor));
  return half_scale ? Rounded<true>(scale) : scale;
}

template <bool kHalf>
QSWEEP_DEVICE float ZeroPoint(float low, float scale, float levels) {
  if (scale == 0) {
    return 0;
  }
  const float quotient = Rounded<kHalf>(Divide(-low, scale));
  return Add(RoundToInteger(Clamped(quotient, 0.0f, levels)), 0.0f);
}

// The grids of rtn.h but for what scale makes of the values.
template <bool kHalf>
QSWEEP_DEVICE Parameters GridParameters(Range range,
                                        const RtnOptions& options) {
  const float levels = static_cast<float>((1 << options.bits) - 1);
  const float half_range = static_cast<float>(1 << (options.bits - 1));
  const float awq_floor = Rounded<kHalf>(1e-5f);
  const bool half_scale = options.half_scale;
  Parameters p = {};
  if (options.grid == RtnGrid::kAbsmax ||
      options.grid == RtnGrid::kAwqSymmetric) {
    float absmax = Larger(Larger(-range.min, range.max), 0.0f);
    if (options.grid == RtnGrid::kAwqSymmetric) {
      absmax = Larger(absmax, awq_floor);
    }
    p.is_signed = true;
    p.scale = StoredScale<kHalf>(absmax, half_range - 1.0f, half_scale);
    p.lowest = -half_range;
    p.highest = half_range - 1.0f;
    return p;
  }
  float low = range.min;
  float high = range.max;
  float span = 0;
  if (options.grid == RtnGrid::kAwqAsymmetric) {
    span = Larger(Rounded<kHalf>(Add(high, -low)), awq_floor);
  } else {
    low = Smaller(low, 0.0f);
    high = Larger(high, 0.0f);
    if (options.grid == RtnGrid::kGptqSymmetric) {
      high = Larger(-low, high);
      low = low < 0 ? -high : low;
    }
    if (low == 0 && high == 0) {
      low = -1;
      high = 1;
    }
    span = Rounded<kHalf>(Add(high, -low));
  }
  p.scale = StoredScale<kHalf>(span, levels, half_scale);
  p.zero = options.grid == RtnGrid::kGptqSymmetric
               ? half_range
               : ZeroPoint<kHalf>(low, p.scale, levels);
  p.lowest = -p.zero;
  p.highest = levels - p.zero;
  return p;
}

template <bool kHalf>
QSWEEP_DEVICE Parameters ParametersOf(Range range, const RtnOptions& options) {
  Parameters p = GridParameters<kHalf>(range, options);
  const float infinity = FloatOf(kInfinityBits);
  if (!(range.min > -infinity && range.max < infinity && p.scale < infinity)) {
    p.scale = FloatOf(kInfinityBits);
    p.kind = Kind::kNotFinite;
  } else if (p.scale == 0) {
    p.kind = range.min == 0 && range.max == 0 ? Kind::kKept : Kind::kZeros;
  } else {
    p.kind = Kind::kQuantized;
  }
  return p;
}

// The integer a weight is rounded to.
template <bool kHalf>
QSWEEP_DEVICE float IntegerOf(float weight, const Parameters& p) {
  // Clamping first gives the same: the bounds are integers.
  const float quotient =
      Rounded<kHalf>(Divide(Rounded<kHalf>(weight), p.scale));
  const float integer = RoundToInteger(Clamped(quotient, p.lowest, p.highest));
  return p.is_signed ? integer : Add(integer, 0.0f);  // 0, not -0
}

template <bool kHalf>
QSWEEP_DEVICE float ValueOf(float weight, const Parameters& p, float* code) {
  switch (p.kind) {
    case Kind::kQuantized: {
      const float integer = IntegerOf<kHalf>(weight, p);
      *code = integer + p.zero;
      return Rounded<kHalf>(Multiply(integer, p.scale));
    }
    case Kind::kZeros:
      *code = p.zero;
      return 0.0f;
    case Kind::kKept:
      *code = p.zero;
      return Rounded<kHalf>(weight);
    case Kind::kNotFinite:
      break;
  }
  *code = 0;
  return FloatOf(kNanBits);
}

// Replaces `count` weights from index on by their values.
template <typename Out, bool kHalf, int kCount>
QSWEEP_DEVICE void Quantize(const Work& work, const Parameters& p,
                            int64_t index, int count, float* weights) {
  float codes[kCount];
  for (int i = 0; i < kCount; ++i) {
    if (i < count) {
      weights[i] = ValueOf<kHalf>(weights[i], p, &codes[i]);
    }
  }
  StoreNumbers<Out, kCount>(
      weights, count, work.aligned,
      static_cast<typename Out::Stored*>(work.buffers.out), index);
  if (work.buffers.codes != nullptr) {
    for (int i = 0; i < kCount; ++i) {
      if (i < count) {
        Store(work.buffers.codes + index + i, static_cast<int16_t>(codes[i]));
      }
    }
  }
}

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
  const uint32_t row = group / work.groups_per_row;
  const int64_t first =
      (group - static_cast<int64_t>(row) * work.groups_per_row) *
      work.group_size;
  const int64_t begin = row * work.cols + first;
  const int64_t left = work.cols - first;
  return {begin, begin + (left < work.group_size ? left : work.group_size)};
}

template <bool kHalf, int kCount>
QSWEEP_DEVICE Range WithWeights(Range range, const float* weights, int count) {
  for (int i = 0; i < kCount; ++i) {
    if (i < count) {
      range = WithWeight(range, Rounded<kHalf>(weights[i]));
    }
  }
  return range;
}

// Over the `lanes` lanes around this one, a power of two.
QSWEEP_DEVICE Range JoinedOverLanes(Range range, int lanes) {
  for (int mask = lanes / 2; mask > 0; mask /= 2) {
    range = Joined(range, ShuffleXor(range, mask));
  }
  return range;
}

// Over the block; every thread gets it. Once in a kernel.
QSWEEP_DEVICE Range JoinedOverBlock(Range range) {
  struct Ranges {
    Range of_warp[kWarps];
  };
  QSWEEP_SHARED(Ranges, ranges);
  range = JoinedOverLanes(range, kWarpThreads);
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

// A group for each `team` lanes, one vector for each lane.
template <typename In, typename Out, bool kHalf>
QSWEEP_KERNEL TeamKernel(Work work, int team) {
  constexpr int kCount = kPerVector<In>;
  const int teams = kThreads / team;
  const int64_t group = BlockIndex() * teams + ThreadIndex() / team;
  const int lane = ThreadIndex() % team;
  const bool in_use = group < work.groups;
  Span span = {0, 0};
  if (in_use) {
    span = SpanOf(work, static_cast<uint32_t>(group));
  }
  const int64_t index = span.begin + lane * kCount;
  float weights[kCount];
  const int count = LoadNumbers<In, kCount>(
      static_cast<const typename In::Stored*>(work.buffers.weights), index,
      span.end, work.aligned, weights);
  const Range range = JoinedOverLanes(
      WithWeights<kHalf, kCount>(NoWeights(), weights, count), team);
  if (!in_use) {
    return;
  }
  const Parameters p = ParametersOf<kHalf>(range, work.options);
  if (lane == 0) {
    StoreScale(work, static_cast<uint32_t>(group), p);
  }
  Quantize<Out, kHalf, kCount>(work, p, index, count, weights);
}

// Folds what `threads` threads read of the span, this one from `thread` on.
template <typename In, bool kHalf>
QSWEEP_DEVICE Range RangeOf(const Work& work, Span span, int64_t thread,
                            int64_t threads) {
  constexpr int kCount = kPerVector<In>;
  Range range = NoWeights();
  float weights[kCount];
  for (int64_t index = span.begin + thread * kCount; index < span.end;
       index += threads * kCount) {
    const int count = LoadNumbers<In, kCount>(
        static_cast<const typename In::Stored*>(work.buffers.weights), index,
        span.end, work.aligned, weights);
    range = WithWeights<kHalf, kCount>(range, weights, count);
  }
  return range;
}

template <typename In, typename Out, bool kHalf>
QSWEEP_DEVICE void QuantizeSpan(const Work& work, const Parameters& p,
                                Span span, int64_t thread, int64_t threads) {
  constexpr int kCount = kPerVector<In>;
  float weights[kCount];
  for (int64_t index = span.begin + thread * kCount; index < span.end;
       index += threads * kCount) {
    const int count = LoadNumbers<In, kCount>(
        static_cast<const typename In::Stored*>(work.buffers.weights), index,
        span.end, work.aligned, weights);
    Quantize<Out, kHalf, kCount>(work, p, index, count, weights);
  }
}

// A group for each block.
template <typename In, typename Out, bool kHalf>
QSWEEP_KERNEL BlockKernel(Work work) {
  const uint32_t group = static_cast<uint32_t>(BlockIndex());
  const Span span = SpanOf(work, group);
  const Range range =
      JoinedOverBlock(RangeOf<In, kHalf>(work, span, ThreadIndex(), kThreads));
  const Parameters p = ParametersOf<kHalf>(range, work.options);
  if (ThreadIndex() == 0) {
    StoreScale(work, group, p);
  }
  QuantizeSpan<In, Out, kHalf>(work, p, span, ThreadIndex(), kThreads);
}

// One group, first launch: a block's range into the workspace.
template <typename In, bool kHalf>
QSWEEP_KERNEL RangeKernel(Work work) {
  const Range range = JoinedOverBlock(RangeOf<In, kHalf>(
      work, SpanOf(work, 0), BlockIndex() * kThreads + ThreadIndex(),
      NumBlocks() * kThreads));
  if (ThreadIndex() == 0) {
    Store(static_cast<Range*>(work.buffers.workspace) + BlockIndex(), range);
  }
}

// One group, second launch: every block joins all ranges.
template <typename In, typename Out, bool kHalf>
QSWEEP_KERNEL TensorKernel(Work work) {
  Range range = NoWeights();
  for (int64_t i = ThreadIndex(); i < NumBlocks(); i += kThreads) {
    range = Joined(range,
                   Load(static_cast<const Range*>(work.buffers.workspace) + i));
  }
  range = JoinedOverBlock(range);
  const Parameters p = ParametersOf<kHalf>(range, work.options);
  const int64_t thread = BlockIndex() * kThreads + ThreadIndex();
  if (thread == 0) {
    StoreScale(work, 0, p);
  }
  QuantizeSpan<In, Out, kHalf>(work, p, SpanOf(work, 0), thread,
                               NumBlocks() * kThreads);
}

template <typename In, typename Out, bool kHalf>
int LaunchRtn(Work work, Stream stream) {
  constexpr int kCount = kPerVector<In>;
  const bool groups_start_aligned =
      work.groups == 1 ||
      (work.cols % kCount == 0 &&
       (work.groups_per_row == 1 || work.group_size % kCount == 0));
  work.aligned = groups_start_aligned && IsAligned16(work.buffers.weights) &&
                 IsAligned16(work.buffers.out);
  const int64_t group =
      work.group_size < work.cols ? work.group_size : work.cols;
  if (group <= kWarpThreads * kCount) {
    int team = 1;
    while (team * kCount < group) {
      team *= 2;
    }
    const Grid grid = {CeilDiv(work.groups, kThreads / team), kThreads};
    return Launch(TeamKernel<In, Out, kHalf>, grid, stream, work, team);
  }
  if (work.groups > 1) {
    return Launch(BlockKernel<In, Out, kHalf>, {work.groups, kThreads}, stream,
                  work);
  }
  const int64_t vectors = CeilDiv(work.cols, kCount);
  const int64_t wanted = CeilDiv(vectors, kThreads);
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
  const Work work = {
      .buffers = buffers,
      .options = options,
      .cols = shape.cols,
      .group_size = shape.group_size,
      .groups = static_cast<uint32_t>(shape.rows * groups_per_row),
      .groups_per_row = static_cast<uint32_t>(groups_per_row),
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
