#include <cstdint>

#include "worker/kernels/cuda_numbers.h"
#include "worker/kernels/launch.h"
#include "worker/kernels/nf4_cuda.h"

// A group for each team of a warp's lanes. With double quantization the groups'
// scales are found in a launch of their own, and two more replace them.
namespace qsweep::kernels {
namespace {

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue
constexpr int kThreads = 256;
constexpr int kScales = 256;  // that share a scale of their own

struct Work {
  Nf4Buffers buffers;
  int64_t count;
  int64_t group_size;
  int64_t groups;
  int team;           // lanes of a group
  bool aligned;       // 16 bytes at a time
  bool scales_given;  // double quantization: absmax holds what to scale by
  float levels[kNf4Codes];
};

struct Tables {
  float thresholds[kNf4Codes];
  float levels[kNf4Codes];
};

QSWEEP_DEVICE float Larger(float a, float b) { return a > b ? a : b; }
QSWEEP_DEVICE float Magnitude(float x) {
  return FloatOf(BitsOf(x) & 0x7fffffff);
}

QSWEEP_DEVICE float LargestOverLanes(float x, int lanes) {
  for (int mask = lanes / 2; mask > 0; mask /= 2) {
    x = Larger(x, ShuffleXor(x, mask));
  }
  return x;
}

// Every thread of the block calls it once.
QSWEEP_DEVICE void FillTables(const Work& work, Tables& tables) {
  const int i = ThreadIndex();
  if (i < kNf4Codes) {
    tables.levels[i] = work.levels[i];
    tables.thresholds[i] =
        i + 1 < kNf4Codes
            ? Multiply(Add(work.levels[i], work.levels[i + 1]), 0.5f)
            : 0;
  }
  SyncBlock();
}

// The number of thresholds below x; 0 for NaN.
QSWEEP_DEVICE int CodeOf(float x, const Tables& tables) {
  int code = 0;
  for (int step = kNf4Codes / 2; step > 0; step /= 2) {
    code += x > tables.thresholds[code + step - 1] ? step : 0;
  }
  return code;
}

struct Place {
  int64_t begin;
  int64_t end;
  int64_t group;
  int lane;
};

// Of this thread; an empty span behind the last group.
QSWEEP_DEVICE Place PlaceOf(const Work& work) {
  const int teams = kThreads / work.team;
  Place place = {0, 0, BlockIndex() * teams + ThreadIndex() / work.team,
                 ThreadIndex() % work.team};
  if (place.group < work.groups) {
    place.begin = place.group * work.group_size;
    place.end = place.begin + work.group_size < work.count
                    ? place.begin + work.group_size
                    : work.count;
  }
  return place;
}

// The largest magnitude of the group, for all its lanes.
template <typename In>
QSWEEP_DEVICE float AbsMax(const Work& work, const Place& place) {
  constexpr int kCount = kPerVector<In>;
  float largest = 0;
  float weights[kCount];
  for (int64_t index = place.begin + place.lane * kCount; index < place.end;
       index += work.team * kCount) {
    const int count = LoadNumbers<In, kCount>(
        static_cast<const typename In::Stored*>(work.buffers.weights), index,
        place.end, work.aligned, weights);
    for (int i = 0; i < kCount; ++i) {
      if (i < count) {
        largest = Larger(largest, Magnitude(weights[i]));
      }
    }
  }
  return LargestOverLanes(largest, work.team);
}

template <typename In>
QSWEEP_KERNEL AbsMaxKernel(Work work) {
  const Place place = PlaceOf(work);
  const float largest = AbsMax<In>(work, place);
  if (place.lane == 0 && place.group < work.groups) {
    Store(work.buffers.absmax + place.group, largest);
  }
}

// One block. The sum has the order of nf4.h.
QSWEEP_KERNEL MeanKernel(Work work) {
  struct Sums {
    double of_thread[kThreads];
  };
  QSWEEP_SHARED(Sums, sums);
  double sum = 0;
  for (int64_t group = ThreadIndex(); group < work.groups; group += kThreads) {
    sum = Add(sum, static_cast<double>(Load(work.buffers.absmax + group)));
  }
  sums.of_thread[ThreadIndex()] = sum;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    SyncBlock();
    if (ThreadIndex() < half) {
      sums.of_thread[ThreadIndex()] = Add(sums.of_thread[ThreadIndex()],
                                          sums.of_thread[ThreadIndex() + half]);
    }
  }
  if (ThreadIndex() == 0) {
    Store(work.buffers.mean,
          static_cast<float>(
              Divide(sums.of_thread[0], static_cast<double>(work.groups))));
  }
}

// The i-th of the 256 levels of a dynamic exponent, ascending.
QSWEEP_DEVICE float DynamicLevel(int i) {
  if (i == 127) {
    return 0;
  }
  if (i == 255) {
    return 1;
  }
  const int number = i < 127 ? 127 - i : i - 127;  // 2^k + j
  double power = 1e-6;
  int width = 1;
  while (2 * width <= number) {
    width *= 2;
    power = Multiply(power, 10.0);
  }
  const double place =
      Multiply(0.9, Add(static_cast<double>(number - width), 0.5));
  const auto level = static_cast<float>(
      Multiply(power, Add(0.1, Divide(place, static_cast<double>(width)))));
  return i < 127 ? -level : level;
}

// A block for each 256 scales.
QSWEEP_KERNEL ScalesKernel(Work work) {
  struct Levels {
    float of[kScales];
    float largest_of_warp[kThreads / kWarpThreads];
  };
  QSWEEP_SHARED(Levels, levels);
  const int thread = ThreadIndex();
  const int64_t group = BlockIndex() * kScales + thread;
  const bool in_use = group < work.groups;
  levels.of[thread] = DynamicLevel(thread);
  const float mean = Load(work.buffers.mean);
  const float difference =
      in_use ? Add(Load(work.buffers.absmax + group), -mean) : 0;
  const float largest_of_warp =
      LargestOverLanes(Magnitude(difference), kWarpThreads);
  if (thread % kWarpThreads == 0) {
    levels.largest_of_warp[thread / kWarpThreads] = largest_of_warp;
  }
  SyncBlock();
  if (!in_use) {
    return;
  }
  float largest = 0;
  for (const float of_warp : levels.largest_of_warp) {
    largest = Larger(largest, of_warp);
  }
  float level = 0;
  if (largest != 0) {
    const float x = Multiply(difference, Divide(1.0f, largest));
    int below = 0;  // levels below x
    for (int step = kScales / 2; step > 0; step /= 2) {
      below += levels.of[below + step - 1] < x ? step : 0;
    }
    below += below == kScales - 1 && levels.of[below] < x ? 1 : 0;
    const int above = below < kScales ? below : kScales - 1;
    level = levels.of[above];
    if (below > 0 && below < kScales &&
        !(Add(level, -x) < Add(x, -levels.of[below - 1]))) {
      level = levels.of[below - 1];
    }
  }
  Store(work.buffers.absmax + group, Add(Multiply(level, largest), mean));
}

template <typename In, typename Out>
QSWEEP_KERNEL ValuesKernel(Work work) {
  constexpr int kCount = kPerVector<In>;
  QSWEEP_SHARED(Tables, tables);
  FillTables(work, tables);
  const Place place = PlaceOf(work);
  const float largest = AbsMax<In>(work, place);
  if (place.group >= work.groups) {
    return;
  }
  const float inverse = Divide(1.0f, largest);
  const float scale =
      work.scales_given ? Load(work.buffers.absmax + place.group) : largest;
  if (!work.scales_given && work.buffers.absmax != nullptr && place.lane == 0) {
    Store(work.buffers.absmax + place.group, largest);
  }
  float weights[kCount];
  for (int64_t index = place.begin + place.lane * kCount; index < place.end;
       index += work.team * kCount) {
    const int count = LoadNumbers<In, kCount>(
        static_cast<const typename In::Stored*>(work.buffers.weights), index,
        place.end, work.aligned, weights);
    for (int i = 0; i < kCount; ++i) {
      if (i < count) {
        const int code = CodeOf(Multiply(weights[i], inverse), tables);
        if (work.buffers.codes != nullptr) {
          Store(work.buffers.codes + index + i, static_cast<uint8_t>(code));
        }
        weights[i] = Multiply(tables.levels[code], scale);
      }
    }
    StoreNumbers<Out, kCount>(
        weights, count, work.aligned,
        static_cast<typename Out::Stored*>(work.buffers.out), index);
  }
}

template <typename In, typename Out>
int LaunchNf4(Work work, bool double_quant, Stream stream) {
  constexpr int kCount = kPerVector<In>;
  work.aligned = work.group_size % kCount == 0 &&
                 IsAligned16(work.buffers.weights) &&
                 IsAligned16(work.buffers.out);
  work.team = 1;
  while (work.team < kWarpThreads && work.team * kCount < work.group_size) {
    work.team *= 2;
  }
  const Grid grid = {CeilDiv(work.groups, kThreads / work.team), kThreads};
  if (double_quant) {
    int error = Launch(AbsMaxKernel<In>, grid, stream, work);
    if (error == 0) {
      error = Launch(MeanKernel, {1, kThreads}, stream, work);
    }
    if (error == 0) {
      error = Launch(ScalesKernel, {CeilDiv(work.groups, kScales), kThreads},
                     stream, work);
    }
    if (error != 0) {
      return error;
    }
    work.scales_given = true;
  }
  return Launch(ValuesKernel<In, Out>, grid, stream, work);
}

template <typename In>
int LaunchNf4To(const Work& work, bool double_quant, Stream stream) {
  return work.buffers.out_type == FloatType::kFp32
             ? LaunchNf4<In, Fp32>(work, double_quant, stream)
             : LaunchNf4<In, In>(work, double_quant, stream);
}

}  // namespace

int Nf4Cuda(const Nf4Buffers& buffers, int64_t count, Nf4Options options,
            Stream stream) {
  constexpr int64_t kMaxGroups = (int64_t{1} << 31) - 1;
  if (options.group_size < 1 || count < 0 ||
      CeilDiv(count, options.group_size) > kMaxGroups ||
      (buffers.out_type != buffers.weight_type &&
       buffers.out_type != FloatType::kFp32) ||
      (options.double_quant &&
       (buffers.absmax == nullptr || buffers.mean == nullptr))) {
    return kInvalidValue;
  }
  if (count == 0) {
    return 0;
  }
  Work work = {.buffers = buffers,
               .count = count,
               .group_size = options.group_size,
               .groups = CeilDiv(count, options.group_size),
               .team = 1,
               .aligned = false,
               .scales_given = false,
               .levels = {}};
  memcpy(work.levels, kNf4Levels, sizeof(work.levels));
  switch (buffers.weight_type) {
    case FloatType::kFp32:
      return LaunchNf4<Fp32, Fp32>(work, options.double_quant, stream);
    case FloatType::kFp16:
      return LaunchNf4To<Fp16>(work, options.double_quant, stream);
    case FloatType::kBf16:
      return LaunchNf4To<Bf16>(work, options.double_quant, stream);
  }
  return kInvalidValue;
}

}  // namespace qsweep::kernels
