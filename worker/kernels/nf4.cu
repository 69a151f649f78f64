#include <bit>
#include <cstdint>

#include "worker/kernels/cuda_numbers.h"
#include "worker/kernels/cuda_sums.h"
#include "worker/kernels/launch.h"
#include "worker/kernels/nf4_cuda.h"

// A group for each team of a warp's lanes; what is common, groups of a power of
// two of vectors, has kernels where a warp's reads touch. With double
// quantization the groups' scales are found in a launch of their own, and three
// more replace them.
namespace qsweep::kernels {
namespace {

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue
constexpr int kThreads = 256;
constexpr float kInfinity = __builtin_huge_valf();
constexpr int kScales = 256;  // that share a scale of their own

// Of equal width, over all quotients: each has one threshold at most.
constexpr int kBins = 32;
constexpr float kBinsPerOne = 15.5f;
// Added to a number of bins, makes a quarter of one the last bit.
constexpr float kFirstBin = 2097152.0f + 16.0f;  // 2^21, and bin 0 at -16

struct Work {
  Nf4Buffers buffers;
  int64_t count;
  int64_t group_size;
  int64_t offset;  // what the first group lacks
  int64_t groups;
  int team_bits;      // 2^team_bits lanes have a group
  int group_bits;     // of tiles: group_size is 2^group_bits
  bool aligned;       // 16 bytes at a time
  bool scales_given;  // double quantization: absmax holds what to scale by
  float levels[kNf4Codes];
  float thresholds[kBins];  // a bin's; infinity where it has none
  uint8_t codes[kBins];     // below the threshold
};

struct Tables {
  float thresholds[kBins];
  float levels[2][kBins];  // of quotients not above the threshold, and above
  int codes[kBins];
};

QSWEEP_DEVICE float Magnitude(float x) {
  return FloatOf(BitsOf(x) & 0x7fffffff);
}

QSWEEP_DEVICE float LargestOverLanes(float x, int lanes) {
  for (int mask = lanes / 2; mask > 0; mask /= 2) {
    x = MaxOf(x, ShuffleXor(x, mask));
  }
  return x;
}

// Every thread of the block calls it once.
QSWEEP_DEVICE void FillTables(const Work& work, Tables& tables) {
  const int bin = ThreadIndex();
  if (bin < kBins) {
    const int code = work.codes[bin];
    tables.thresholds[bin] = work.thresholds[bin];
    tables.codes[bin] = code;
    tables.levels[0][bin] = work.levels[code];
    tables.levels[1][bin] = work.levels[code < kNf4Codes - 1 ? code + 1 : code];
  }
  SyncBlock();
}

// Never falls as x grows; within the table for any x.
QSWEEP_DEVICE int BinOf(float x) {
  return static_cast<int>(BitsOf(MultiplyAdd(x, kBinsPerOne, kFirstBin)) >> 2 &
                          (kBins - 1));
}

// What this thread has of its group; nothing behind the last group.
struct Place {
  int64_t group;
  int lane;
  Hold hold;  // the first time
};

template <typename In>
QSWEEP_DEVICE Place PlaceOf(const Work& work) {
  constexpr int kVector = kPerVector<In>;
  const int team = 1 << work.team_bits;
  Place place = {BlockIndex() * (kThreads >> work.team_bits) +
                     (ThreadIndex() >> work.team_bits),
                 ThreadIndex() & (team - 1),
                 {0, team * kVector, 0, work.aligned}};
  if (place.group < work.groups) {
    const int64_t begin = place.group * work.group_size - work.offset;
    const int64_t end = begin + work.group_size;
    place.hold.index = (begin > 0 ? begin : 0) + place.lane * kVector;
    place.hold.end = end < work.count ? end : work.count;
  }
  return place;
}

template <typename In>
QSWEEP_DEVICE Held<In> LoadWeights(const Work& work, const Hold& hold) {
  return LoadHeld<In>(
      static_cast<const typename In::Stored*>(work.buffers.weights), hold);
}

template <typename In>
QSWEEP_DEVICE float LargestOf(float largest, const Vector16& vector) {
  float weights[kPerVector<In>];
  Decode<In>(vector, weights);
  for (const float weight : weights) {
    largest = MaxOf(largest, Magnitude(weight));
  }
  return largest;
}
template <typename In>
QSWEEP_DEVICE float LargestOf(float largest, const Held<In>& held) {
  for (const Vector16& vector : held.vectors) {
    largest = LargestOf<In>(largest, vector);
  }
  return largest;
}

// The largest magnitude of the group, for all its lanes. held: the first time.
template <typename In>
QSWEEP_DEVICE float AbsMax(const Work& work, Hold hold, const Held<In>& held) {
  float largest = LargestOf(0, held);
  hold = Next<In>(hold);
  while (!IsEmpty(hold)) {
    largest = LargestOf(largest, LoadWeights<In>(work, hold));
    hold = Next<In>(hold);
  }
  return LargestOverLanes(largest, 1 << work.team_bits);
}

template <typename In>
QSWEEP_KERNEL AbsMaxKernel(Work work) {
  const Place place = PlaceOf<In>(work);
  const float largest =
      AbsMax(work, place.hold, LoadWeights<In>(work, place.hold));
  if (place.lane == 0 && place.group < work.groups) {
    Store(work.buffers.absmax + place.group, largest);
  }
}

// A thread's part of a warp's tile: each vector of another group, of which the
// team's lanes have a vector each. Whole groups alone.
template <typename In>
QSWEEP_DEVICE Hold TileOf(const Work& work) {
  constexpr int kVector = kPerVector<In>;
  constexpr int kVectors = kHeldOf<In> / kVector;
  const int64_t warp =
      BlockIndex() * (kThreads / kWarpThreads) + ThreadIndex() / kWarpThreads;
  const int lane = ThreadIndex() % kWarpThreads;
  return {(warp * kVectors * kWarpThreads + lane) * kVector,
          kWarpThreads * kVector, work.count, true};
}

// Of one vector's group, for all its lanes.
template <typename In>
QSWEEP_DEVICE float TileAbsMax(const Work& work, const Vector16& vector) {
  return LargestOverLanes(LargestOf<In>(0, vector), 1 << work.team_bits);
}

QSWEEP_DEVICE bool IsFirstOfTeam(const Work& work) {
  return (ThreadIndex() & ((1 << work.team_bits) - 1)) == 0;
}

template <typename In>
QSWEEP_KERNEL TileAbsMaxKernel(Work work) {
  const Hold hold = TileOf<In>(work);
  const Held<In> held = LoadWeights<In>(work, hold);
  for (int v = 0; v < kHeldOf<In> / kPerVector<In>; ++v) {
    const float largest = TileAbsMax<In>(work, held.vectors[v]);
    const int64_t index = hold.index + v * hold.step;
    if (IsFirstOfTeam(work) && index < hold.end) {
      Store(work.buffers.absmax + (index >> work.group_bits), largest);
    }
  }
}

QSWEEP_DEVICE double* LaneSums(const Work& work) {
  return static_cast<double*>(work.buffers.workspace);
}
QSWEEP_DEVICE float* MeanOf(const Work& work) {
  return reinterpret_cast<float*>(LaneSums(work) + kSumLanes);
}
static_assert(kNf4WorkspaceBytes >= kSumLanes * sizeof(double) + sizeof(float));

QSWEEP_KERNEL LanesKernel(Work work) {
  StoreSumOfLane(work.buffers.absmax, work.groups,
                 BlockIndex() * kSumThreads + ThreadIndex(), LaneSums(work));
}

// One block.
QSWEEP_KERNEL MeanKernel(Work work) {
  const double sum = SumOfLanes(LaneSums(work));
  if (ThreadIndex() == 0) {
    Store(MeanOf(work),
          static_cast<float>(Divide(sum, static_cast<double>(work.groups))));
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
  const float mean = Load(MeanOf(work));
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
    largest = MaxOf(largest, of_warp);
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

// Writes the values of vector v of a hold. full: IsFull<In>(hold).
template <typename In, typename Out>
QSWEEP_DEVICE void Quantize(const Work& work, const Tables& tables,
                            const Hold& hold, bool full, int v, float largest,
                            float scale, const Vector16& vector) {
  constexpr int kVector = kPerVector<In>;
  const float inverse = Divide(1.0f, largest);
  const bool divides = inverse < kInfinity;
  const float factor = divides ? inverse : 1.0f;
  float weights[kVector];
  Decode<In>(vector, weights);
  if (!divides) {  // by 0, or so little that all but 0 becomes infinite
    for (float& weight : weights) {
      weight = weight > 0 ? 1.0f : -1.0f;
    }
  }
  for (float& weight : weights) {
    weight = Multiply(weight, factor);
  }
  if (work.buffers.codes != nullptr) {
    const int64_t index = hold.index + v * hold.step;
    for (int i = 0; i < kVector; ++i) {
      if (index + i < hold.end) {
        const int bin = BinOf(weights[i]);
        const int above = weights[i] > tables.thresholds[bin] ? 1 : 0;
        Store(work.buffers.codes + index + i,
              static_cast<uint8_t>(tables.codes[bin] + above));
      }
    }
  }
  for (float& weight : weights) {
    const int bin = BinOf(weight);
    const int above = weight > tables.thresholds[bin] ? 1 : 0;
    weight = Multiply(tables.levels[above][bin], scale);
  }
  StoreVector<In, Out>(weights, hold, full, v,
                       static_cast<typename Out::Stored*>(work.buffers.out));
}

// What a group's values are scaled by. keeps: this lane writes it.
QSWEEP_DEVICE float ScaleOf(const Work& work, int64_t group, float largest,
                            bool keeps) {
  if (work.scales_given) {
    return Load(work.buffers.absmax + group);
  }
  if (work.buffers.absmax != nullptr && keeps) {
    Store(work.buffers.absmax + group, largest);
  }
  return largest;
}

template <typename In, typename Out>
QSWEEP_KERNEL ValuesKernel(Work work) {
  QSWEEP_SHARED(Tables, tables);
  const Place place = PlaceOf<In>(work);
  Hold hold = place.hold;
  Held<In> held = LoadWeights<In>(work, hold);
  FillTables(work, tables);
  const float largest = AbsMax(work, hold, held);
  if (place.group >= work.groups) {
    return;
  }
  const float scale = ScaleOf(work, place.group, largest, place.lane == 0);
  while (!IsEmpty(hold)) {
    const bool full = IsFull<In>(hold);
    for (int v = 0; v < kHeldOf<In> / kPerVector<In>; ++v) {
      Forget(held.vectors[v]);
      Quantize<In, Out>(work, tables, hold, full, v, largest, scale,
                        held.vectors[v]);
    }
    hold = Next<In>(hold);
    held = LoadWeights<In>(work, hold);
  }
}

template <typename In, typename Out>
QSWEEP_KERNEL TileValuesKernel(Work work) {
  QSWEEP_SHARED(Tables, tables);
  const Hold hold = TileOf<In>(work);
  const Held<In> held = LoadWeights<In>(work, hold);
  FillTables(work, tables);
  QSWEEP_UNROLL
  for (int v = 0; v < kHeldOf<In> / kPerVector<In>; ++v) {
    const float largest = TileAbsMax<In>(work, held.vectors[v]);
    const int64_t index = hold.index + v * hold.step;
    if (index < hold.end) {
      const float scale =
          ScaleOf(work, index >> work.group_bits, largest, IsFirstOfTeam(work));
      Quantize<In, Out>(work, tables, hold, true, v, largest, scale,
                        held.vectors[v]);
    }
  }
}

// As BinOf on the device.
int HostBinOf(float x) {
  const auto shifted = static_cast<float>(static_cast<double>(x) * kBinsPerOne +
                                          static_cast<double>(kFirstBin));
  uint32_t bits = 0;
  memcpy(&bits, &shifted, sizeof(bits));
  return static_cast<int>(bits >> 2 & (kBins - 1));
}

void FillBins(Work& work) {
  memcpy(work.levels, kNf4Levels, sizeof(work.levels));
  int code = 0;
  for (int bin = 0; bin < kBins; ++bin) {
    work.codes[bin] = static_cast<uint8_t>(code);
    const bool has_one =
        code < kNf4Codes - 1 && HostBinOf(Nf4Threshold(code)) == bin;
    work.thresholds[bin] = has_one ? Nf4Threshold(code) : kInfinity;
    code += has_one ? 1 : 0;
  }
}

// Whether the groups make tiles, whose bits are then filled in: each is a power
// of two of vectors, at most a warp's.
template <typename In>
bool MakesTiles(Work& work) {
  const auto size = static_cast<uint64_t>(work.group_size);
  const uint64_t vectors = size / kPerVector<In>;
  if (!work.aligned || work.offset != 0 || !std::has_single_bit(vectors) ||
      vectors > uint64_t{1} << kWarpBits ||
      work.count % work.group_size != 0) {
    return false;
  }
  work.team_bits = std::countr_zero(vectors);
  work.group_bits = std::countr_zero(size);
  return true;
}

template <typename In, typename Out>
int LaunchNf4(Work work, bool double_quant, Stream stream) {
  work.aligned = work.group_size % kPerVector<In> == 0 &&
                 work.offset % kPerVector<In> == 0 &&
                 IsAligned16(work.buffers.weights) &&
                 IsAligned16(work.buffers.out);
  const bool tiles = MakesTiles<In>(work);
  while (!tiles && work.team_bits < kWarpBits &&
         kHeldOf<In> << work.team_bits < work.group_size) {
    ++work.team_bits;
  }
  const int64_t blocks = tiles
                             ? CeilDiv(work.count, kThreads * kHeldOf<In>)
                             : CeilDiv(work.groups, kThreads >> work.team_bits);
  const Grid grid = {blocks, kThreads};
  if (double_quant) {
    int error = Launch(tiles ? TileAbsMaxKernel<In> : AbsMaxKernel<In>, grid,
                       stream, work);
    if (error == 0) {
      error = Launch(LanesKernel, {kSumBlocks, kSumThreads}, stream, work);
    }
    if (error == 0) {
      error = Launch(MeanKernel, {1, kSumThreads}, stream, work);
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
  return Launch(tiles ? TileValuesKernel<In, Out> : ValuesKernel<In, Out>, grid,
                stream, work);
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
  if (options.group_size < 1 || count < 0 || options.offset < 0 ||
      options.offset >= options.group_size ||
      options.groups(count) > kMaxGroups ||
      (buffers.out_type != buffers.weight_type &&
       buffers.out_type != FloatType::kFp32) ||
      (options.double_quant &&
       (buffers.absmax == nullptr || buffers.workspace == nullptr))) {
    return kInvalidValue;
  }
  if (count == 0) {
    return 0;
  }
  Work work = {.buffers = buffers,
               .count = count,
               .group_size = options.group_size,
               .offset = options.offset,
               .groups = options.groups(count),
               .team_bits = 0,
               .group_bits = 0,
               .aligned = false,
               .scales_given = false,
               .levels = {},
               .thresholds = {},
               .codes = {}};
  FillBins(work);
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
