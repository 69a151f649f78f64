#include <cstdint>

#include "worker/kernels/cuda_numbers.h"
#include "worker/kernels/cuda_sums.h"
#include "worker/kernels/hqq_cuda.h"
#include "worker/kernels/launch.h"

// A warp for each group. A step of the solver is three launches: all groups
// move their zero points, some blocks add up the lanes of their errors, one
// decides from those whether it was the last; launches after that find it said
// and return.
namespace qsweep::kernels {
namespace {

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kSteps = 20;
constexpr float kShrunkAway = 0.17f;
constexpr uint32_t kInfinityBits = 0x7f800000;

// At the start of the workspace; the lanes of the errors' sum follow, then the
// groups' errors.
struct Progress {
  float best;
  int32_t ended;
  int32_t unused[2];
};

struct Work {
  HqqBuffers buffers;
  int64_t groups;
  int64_t group_size;
  int64_t group_stride;    // from a group's first weight to the next one's
  int64_t element_stride;  // from a weight of a group to its next
  float levels;            // 2^bits - 1
  bool round_zero;
};

struct Range {
  float min;
  float max;
};

struct Sums {
  float moved;
  float error;
  float largest;
};

QSWEEP_DEVICE float Larger(float a, float b) { return a > b ? a : b; }
QSWEEP_DEVICE float Smaller(float a, float b) { return a < b ? a : b; }
QSWEEP_DEVICE float Magnitude(float x) {
  return FloatOf(BitsOf(x) & 0x7fffffff);
}

QSWEEP_DEVICE Progress* ProgressOf(const Work& work) {
  return static_cast<Progress*>(work.buffers.workspace);
}
QSWEEP_DEVICE double* LaneSums(const Work& work) {
  return reinterpret_cast<double*>(ProgressOf(work) + 1);
}
QSWEEP_DEVICE float* ErrorsOf(const Work& work) {
  return reinterpret_cast<float*>(LaneSums(work) + kSumLanes);
}
static_assert(HqqWorkspaceBytes(0) ==
              sizeof(Progress) + kSumLanes * sizeof(double));

QSWEEP_DEVICE int64_t GroupOfWarp() {
  return BlockIndex() * kWarps + ThreadIndex() / kWarpThreads;
}
QSWEEP_DEVICE int LaneOfWarp() { return ThreadIndex() % kWarpThreads; }

template <typename In>
QSWEEP_DEVICE float WeightAt(const Work& work, int64_t group, int64_t i) {
  return In::Decode(
      Load(static_cast<const typename In::Stored*>(work.buffers.weights) +
           group * work.group_stride + i * work.element_stride));
}

template <typename In>
QSWEEP_KERNEL StartKernel(Work work) {
  const int64_t group = GroupOfWarp();
  if (BlockIndex() == 0 && ThreadIndex() == 0) {
    Store(ProgressOf(work), Progress{FloatOf(kInfinityBits), 0, {0, 0}});
  }
  Range range = {FloatOf(kInfinityBits), -FloatOf(kInfinityBits)};
  if (group < work.groups) {
    for (int64_t i = LaneOfWarp(); i < work.group_size; i += kWarpThreads) {
      const float w = WeightAt<In>(work, group, i);
      range = {Smaller(w, range.min), Larger(w, range.max)};
    }
  }
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    const Range other = ShuffleXor(range, mask);
    range = {Smaller(other.min, range.min), Larger(other.max, range.max)};
  }
  if (group >= work.groups || LaneOfWarp() != 0) {
    return;
  }
  const float span =
      Smaller(Add(range.max, -range.min), FloatOf(kInfinityBits - 1));
  const float inverse =
      span <= 1e-4f ? 1.0f
                    : Smaller(Multiply(Divide(1.0f, span), work.levels), 2e4f);
  const float zero = Multiply(-range.min, inverse);
  Store(work.buffers.inverse + group, inverse);
  Store(work.buffers.zeros + group,
        work.round_zero ? RoundToInteger(zero) : zero);
}

// As in hqq_cpu.cc, operation by operation.
QSWEEP_DEVICE float PowerOfMinus03(float x) {
  const double wide = x;
  const double cube = Multiply(Multiply(wide, wide), wide);
  double root = FloatOf(static_cast<uint32_t>(static_cast<int32_t>(Add(
      1.3 * 1064866805.0,
      -Multiply(0.3, static_cast<double>(static_cast<int32_t>(BitsOf(x))))))));
  for (int round = 0; round < 5; ++round) {
    const double square = Multiply(root, root);
    const double fifth = Multiply(Multiply(square, square), root);
    root = Multiply(
        root, Add(1.1, -Multiply(0.1, Multiply(cube, Multiply(fifth, fifth)))));
  }
  return static_cast<float>(root);
}

QSWEEP_DEVICE float Shrunk(float x) {
  const float magnitude = Magnitude(x);
  if (magnitude <= kShrunkAway) {
    return 0;
  }
  const float left = Add(magnitude, -Multiply(0.1f, PowerOfMinus03(magnitude)));
  return left > 0 ? (x < 0 ? -left : left) : 0;
}

QSWEEP_DEVICE float CodeOf(float weight, float inverse, float zero,
                           float levels) {
  const float position = Add(Multiply(weight, inverse), zero);
  return RoundToInteger(Smaller(Larger(position, 0.0f), levels));
}

template <typename In>
QSWEEP_DEVICE Sums SumsOf(const Work& work, int64_t group, float inverse,
                          float zero, bool shrink) {
  Sums sums = {0, 0, 0};
  if (group < work.groups) {
    for (int64_t i = LaneOfWarp(); i < work.group_size; i += kWarpThreads) {
      const float w = WeightAt<In>(work, group, i);
      const float q = CodeOf(w, inverse, zero, work.levels);
      const float x = Add(w, -Divide(Add(q, -zero), inverse));
      const float e = shrink ? Shrunk(x) : 0;
      sums.moved = Add(sums.moved, Add(q, -Multiply(Add(w, -e), inverse)));
      sums.error = Add(sums.error, Magnitude(x));
      sums.largest = Larger(Magnitude(x), sums.largest);
    }
  }
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    const Sums other = ShuffleXor(sums, mask);
    sums = {Add(sums.moved, other.moved), Add(sums.error, other.error),
            Larger(sums.largest, other.largest)};
  }
  return sums;
}

template <typename In>
QSWEEP_KERNEL StepKernel(Work work) {
  if (Load(ProgressOf(work)).ended != 0) {
    return;
  }
  const int64_t group = GroupOfWarp();
  const bool in_use = group < work.groups;
  const float inverse = in_use ? Load(work.buffers.inverse + group) : 1;
  const float old_zero = in_use ? Load(work.buffers.zeros + group) : 0;
  Sums sums = SumsOf<In>(work, group, inverse, old_zero, false);
  if (sums.largest > kShrunkAway) {  // the same for the whole warp
    sums = SumsOf<In>(work, group, inverse, old_zero, true);
  }
  if (!in_use || LaneOfWarp() != 0) {
    return;
  }
  const float zero = Divide(sums.moved, static_cast<float>(work.group_size));
  if (Magnitude(zero) < FloatOf(kInfinityBits)) {
    Store(work.buffers.zeros + group, zero);
  }
  Store(ErrorsOf(work) + group, sums.error);
}

QSWEEP_KERNEL LanesKernel(Work work) {
  if (Load(ProgressOf(work)).ended == 0) {
    StoreSumOfLane(ErrorsOf(work), work.groups, LaneSums(work));
  }
}

// One block.
QSWEEP_KERNEL DecideKernel(Work work) {
  const Progress progress = Load(ProgressOf(work));
  if (progress.ended != 0) {
    return;
  }
  const double sum = SumOfLanes(LaneSums(work));
  if (ThreadIndex() != 0) {
    return;
  }
  const auto mean = static_cast<float>(
      Divide(sum, static_cast<double>(work.groups * work.group_size)));
  const bool falls = mean < progress.best;
  Store(ProgressOf(work),
        Progress{falls ? mean : progress.best, falls ? 0 : 1, {0, 0}});
}

template <typename In, typename Out>
QSWEEP_KERNEL ValuesKernel(Work work) {
  const int64_t group = GroupOfWarp();
  if (group >= work.groups) {
    return;
  }
  const float inverse = Load(work.buffers.inverse + group);
  const float zero = Load(work.buffers.zeros + group);
  const float scale = Divide(1.0f, inverse);
  for (int64_t i = LaneOfWarp(); i < work.group_size; i += kWarpThreads) {
    const int64_t index = group * work.group_stride + i * work.element_stride;
    const float q =
        CodeOf(WeightAt<In>(work, group, i), inverse, zero, work.levels);
    if (work.buffers.codes != nullptr) {
      Store(work.buffers.codes + index, static_cast<uint8_t>(q));
    }
    Store(static_cast<typename Out::Stored*>(work.buffers.out) + index,
          Out::Encode(Multiply(Add(q, -zero), scale)));
  }
}

template <typename In, typename Out>
int LaunchHqq(const Work& work, Stream stream) {
  const Grid grid = {CeilDiv(work.groups, kWarps), kThreads};
  int error = Launch(StartKernel<In>, grid, stream, work);
  for (int step = 0; step < kSteps && error == 0; ++step) {
    error = Launch(StepKernel<In>, grid, stream, work);
    if (error == 0) {
      error = Launch(LanesKernel, {kSumBlocks, kSumThreads}, stream, work);
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

int HqqCuda(const HqqBuffers& buffers, int64_t count, HqqOptions options,
            Stream stream) {
  constexpr int64_t kMaxGroups = (int64_t{1} << 31) - 1;
  if (options.bits < 2 || options.bits > 8 || options.group_size < 1 ||
      count < 0 || count % options.group_size != 0 ||
      count / options.group_size > kMaxGroups ||
      (buffers.out_type != buffers.weight_type &&
       buffers.out_type != FloatType::kFp32) ||
      buffers.inverse == nullptr || buffers.zeros == nullptr ||
      buffers.workspace == nullptr) {
    return kInvalidValue;
  }
  if (count == 0) {
    return 0;
  }
  const int64_t groups = count / options.group_size;
  const Work work = {.buffers = buffers,
                     .groups = groups,
                     .group_size = options.group_size,
                     .group_stride = options.axis == 1 ? options.group_size : 1,
                     .element_stride = options.axis == 1 ? 1 : groups,
                     .levels = static_cast<float>((1 << options.bits) - 1),
                     .round_zero = options.round_zero};
  switch (buffers.weight_type) {
    case FloatType::kFp32:
      return LaunchHqq<Fp32, Fp32>(work, stream);
    case FloatType::kFp16:
      return LaunchHqqTo<Fp16>(work, stream);
    case FloatType::kBf16:
      return LaunchHqqTo<Bf16>(work, stream);
  }
  return kInvalidValue;
}

}  // namespace qsweep::kernels
