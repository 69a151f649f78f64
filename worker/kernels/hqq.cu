#include <cstdint>

#include "worker/kernels/cuda_numbers.h"
#include "worker/kernels/cuda_sums.h"
#include "worker/kernels/hqq_cuda.h"
#include "worker/kernels/hqq_steps.h"
#include "worker/kernels/launch.h"

// The solver takes its steps in rounds of kHqqRound: a team of lanes has a
// group's weights in registers and notes after each step the group's error and
// zero point. Then the errors of each step are added up over all groups, and
// one block decides from the sums which step was the last; launches after that
// find it said and return. What the groups did beyond it is not looked at.
namespace qsweep::kernels {
namespace hqq {
namespace {

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kRounds = 4;
static_assert(kRounds * kHqqRound == 20);  // the CPU's steps

// At the start of the workspace; for each step of a round follow the lanes of
// the errors' sum, then the groups' errors before it and zero points after it.
struct Progress {
  float best;
  int32_t ended;
  int32_t last;  // step of its round
  int32_t unused;
};

struct Range {
  float min;
  float max;
};

QSWEEP_DEVICE float Larger(float a, float b) { return a > b ? a : b; }
QSWEEP_DEVICE float Smaller(float a, float b) { return a < b ? a : b; }
QSWEEP_DEVICE Progress* ProgressOf(const Work& work) {
  return static_cast<Progress*>(work.buffers.workspace);
}
QSWEEP_DEVICE double* LaneSums(const Work& work) {
  return reinterpret_cast<double*>(ProgressOf(work) + 1);
}
QSWEEP_DEVICE float* ErrorsOf(const Work& work, int step) {
  return reinterpret_cast<float*>(LaneSums(work) + kHqqRound * kSumLanes) +
         step * work.groups;
}
QSWEEP_DEVICE float* ZerosOf(const Work& work, int step) {
  return ErrorsOf(work, kHqqRound + step);
}
static_assert(HqqWorkspaceBytes(0) ==
              sizeof(Progress) + kHqqRound * kSumLanes * sizeof(double));

QSWEEP_DEVICE int64_t GroupOfWarp() {
  return BlockIndex() * kWarps + ThreadIndex() / kWarpThreads;
}
QSWEEP_DEVICE int LaneOfWarp() { return ThreadIndex() % kWarpThreads; }

template <typename In>
QSWEEP_KERNEL StartKernel(Work work) {
  const int64_t group = GroupOfWarp();
  const Span span = SpanOf(work, group);
  if (BlockIndex() == 0 && ThreadIndex() == 0) {
    Store(ProgressOf(work), Progress{FloatOf(kInfinityBits), 0, 0, 0});
  }
  Range range = {FloatOf(kInfinityBits), -FloatOf(kInfinityBits)};
  for (int64_t i = LaneOfWarp(); i < span.count; i += kWarpThreads) {
    const float w = WeightAt<In>(work, span, i);
    range = {Smaller(w, range.min), Larger(w, range.max)};
  }
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    const Range other = ShuffleXor(range, mask);
    range = {Smaller(other.min, range.min), Larger(other.max, range.max)};
  }
  if (group >= work.groups || LaneOfWarp() != 0) {
    return;
  }
  const float width =
      Smaller(Add(range.max, -range.min), FloatOf(kInfinityBits - 1));
  const float inverse =
      width <= 1e-4f
          ? 1.0f
          : Smaller(Multiply(Divide(1.0f, width), work.levels), 2e4f);
  const float zero = Multiply(-range.min, inverse);
  Store(work.buffers.inverse + group, inverse);
  Store(ZerosOf(work, kHqqRound - 1) + group,
        work.round_zero ? RoundToInteger(zero) : zero);
}

// A round of steps: a team of kTeam lanes for each group. A group whose zero
// point stayed has the same error in every step from then on.
template <typename In, int kTeam>
QSWEEP_KERNEL SolveKernel(Work work, int round) {
  if (Load(ProgressOf(work)).ended != 0) {
    return;
  }
  const int lane = ThreadIndex() % kTeam;
  const int64_t group =
      BlockIndex() * (kThreads / kTeam) + ThreadIndex() / kTeam;
  Solving s = {group, SpanOf(work, group), 1, 1, 0};
  const bool in_use = s.group < work.groups;
  bool settled = true;
  float error = 0;
  if (in_use) {
    s.inverse = Load(work.buffers.inverse + s.group);
    s.zero = Load(ZerosOf(work, kHqqRound - 1) + s.group);
    settled =
        round > 0 &&
        BitsOf(Load(ZerosOf(work, kHqqRound - 2) + s.group)) == BitsOf(s.zero);
    error = settled ? Load(ErrorsOf(work, kHqqRound - 1) + s.group) : 0;
  }
  int step = 0;
  bool all_settled = AllLanes(settled);
  if (!all_settled) {
    float weights[kOwn];
    const int64_t left = s.span.count - lane + kTeam - 1;
    const int64_t own = in_use && left > 0 ? left / kTeam : 0;
    const int count = own < kOwn ? static_cast<int>(own) : kOwn;
    s.reciprocal = Divide(1.0f, s.inverse);
    QSWEEP_UNROLL
    for (int i = 0; i < kOwn; ++i) {
      weights[i] =
          i < count ? WeightAt<In>(work, s.span, lane + i * kTeam) : 0;
    }
    for (; step < kHqqRound && !all_settled; ++step) {
      const float before = s.zero;
      error = Step<In, kTeam>(work, weights, count, in_use, s);
      if (in_use && lane == 0) {
        Store(ErrorsOf(work, step) + s.group, error);
        Store(ZerosOf(work, step) + s.group, s.zero);
      }
      all_settled = AllLanes(BitsOf(before) == BitsOf(s.zero));
    }
  }
  for (; step < kHqqRound; ++step) {
    if (in_use && lane == 0) {
      Store(ErrorsOf(work, step) + s.group, error);
      Store(ZerosOf(work, step) + s.group, s.zero);
    }
  }
}

QSWEEP_KERNEL LanesKernel(Work work) {
  if (Load(ProgressOf(work)).ended == 0) {
    const auto step = static_cast<int>(BlockIndex() / kSumBlocks);
    StoreSumOfLane(ErrorsOf(work, step), work.groups,
                   BlockIndex() % kSumBlocks * kSumThreads + ThreadIndex(),
                   LaneSums(work) + step * kSumLanes);
  }
}

// One block.
QSWEEP_KERNEL DecideKernel(Work work) {
  Progress progress = Load(ProgressOf(work));
  if (progress.ended != 0) {
    return;
  }
  for (int step = 0; step < kHqqRound; ++step) {
    const double sum = SumOfLanes(LaneSums(work) + step * kSumLanes);
    if (ThreadIndex() == 0 && progress.ended == 0) {
      const auto mean = static_cast<float>(
          Divide(sum, static_cast<double>(work.count)));
      progress.last = step;
      progress.ended = mean < progress.best ? 0 : 1;
      progress.best = mean;
    }
    SyncBlock();
  }
  if (ThreadIndex() == 0) {
    Store(ProgressOf(work), progress);
  }
}

template <typename In, typename Out>
QSWEEP_KERNEL ValuesKernel(Work work) {
  const int64_t group = GroupOfWarp();
  if (group >= work.groups) {
    return;
  }
  const int step = Load(ProgressOf(work)).last;
  const float inverse = Load(work.buffers.inverse + group);
  const float zero = Load(ZerosOf(work, step) + group);
  const float scale = Divide(1.0f, inverse);
  if (LaneOfWarp() == 0) {
    Store(work.buffers.zeros + group, zero);
  }
  const Span span = SpanOf(work, group);
  for (int64_t i = LaneOfWarp(); i < span.count; i += kWarpThreads) {
    const int64_t index = span.begin + i * work.element_stride;
    const float q = CodeOf(Multiply(WeightAt<In>(work, span, i), inverse),
                           zero, work.levels);
    if (work.buffers.codes != nullptr) {
      Store(work.buffers.codes + index, static_cast<uint8_t>(q));
    }
    Store(static_cast<typename Out::Stored*>(work.buffers.out) + index,
          Out::Encode(Multiply(Add(q, -zero), scale)));
  }
}

template <typename In>
int LaunchSolve(const Work& work, int round, Stream stream) {
  const auto launch = [&](void (*kernel)(Work, int), int team) {
    return Launch(kernel, {CeilDiv(work.groups, kThreads / team), kThreads},
                  stream, work, round);
  };
  return work.group_size <= 4 * kOwn   ? launch(SolveKernel<In, 4>, 4)
         : work.group_size <= 8 * kOwn ? launch(SolveKernel<In, 8>, 8)
                                       : launch(SolveKernel<In, 32>, 32);
}

template <typename In, typename Out>
int LaunchHqq(const Work& work, Stream stream) {
  const Grid grid = {CeilDiv(work.groups, kWarps), kThreads};
  int error = Launch(StartKernel<In>, grid, stream, work);
  for (int round = 0; round < kRounds && error == 0; ++round) {
    error = LaunchSolve<In>(work, round, stream);
    if (error == 0) {
      error = Launch(LanesKernel, {kHqqRound * kSumBlocks, kSumThreads}, stream,
                     work);
    }
    if (error == 0) {
      error = Launch(DecideKernel, {1, kSumThreads}, stream, work);
    }
  }
  return error != 0 ? error : Launch(ValuesKernel<In, Out>, grid, stream, work);
}

template <typename In>
int LaunchHqqTo(const Work& work, Stream stream) {
  return work.buffers.out_type == FloatType::kFp32
             ? LaunchHqq<In, Fp32>(work, stream)
             : LaunchHqq<In, In>(work, stream);
}

}  // namespace
}  // namespace hqq

int HqqCuda(const HqqBuffers& buffers, int64_t count, HqqOptions options,
            Stream stream) {
  constexpr int64_t kMaxGroups = (int64_t{1} << 31) - 1;
  if (options.bits < 2 || options.bits > 8 || options.group_size < 1 ||
      count < 0 || count % options.group_size != 0 || options.offset < 0 ||
      options.offset >= options.group_size ||
      (options.axis == 0 && options.offset > 0) ||
      options.groups(count) > kMaxGroups ||
      (buffers.out_type != buffers.weight_type &&
       buffers.out_type != FloatType::kFp32) ||
      buffers.inverse == nullptr || buffers.zeros == nullptr ||
      buffers.workspace == nullptr) {
    return hqq::kInvalidValue;
  }
  if (count == 0) {
    return 0;
  }
  const int64_t groups = options.groups(count);
  const hqq::Work work = {
      .buffers = buffers,
      .count = count,
      .groups = groups,
      .group_size = options.group_size,
      .offset = options.offset,
      .group_stride = options.axis == 1 ? options.group_size : 1,
      .element_stride = options.axis == 1 ? 1 : groups,
      .levels = static_cast<float>((1 << options.bits) - 1),
      .round_zero = options.round_zero};
  switch (buffers.weight_type) {
    case FloatType::kFp32:
      return hqq::LaunchHqq<Fp32, Fp32>(work, stream);
    case FloatType::kFp16:
      return hqq::LaunchHqqTo<Fp16>(work, stream);
    case FloatType::kBf16:
      return hqq::LaunchHqqTo<Bf16>(work, stream);
  }
  return hqq::kInvalidValue;
}

}  // namespace qsweep::kernels
