#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "worker/kernels/nf4.h"
#include "worker/kernels/quantizer_loops.h"

namespace qsweep::kernels {
namespace {

constexpr int64_t kScalesPerGroup = 256;
constexpr size_t kMeanLanes = 4096;  // of the sum over all scales

// The 256 levels of a dynamic exponent, ascending.
std::array<float, 256> DynamicLevels() {
  std::array<float, 256> levels = {};
  size_t filled = 0;
  double power = 1e-6;
  for (int k = 0; k < 7; ++k) {
    for (int j = 0; j < 1 << k; ++j) {
      const auto level =
          static_cast<float>(power * (0.1 + 0.9 * (j + 0.5) / (1 << k)));
      levels[filled++] = level;
      levels[filled++] = -level;
    }
    power *= 10;
  }
  levels[filled++] = 0.0f;
  levels[filled++] = 1.0f;
  std::sort(levels.begin(), levels.end());
  return levels;
}

float NearestDynamicLevel(float x) {
  static const std::array<float, 256>& levels =
      *new std::array<float, 256>(DynamicLevels());
  const auto above = std::lower_bound(levels.begin(), levels.end(), x);
  if (above == levels.begin()) {
    return *above;
  }
  if (above == levels.end()) {
    return levels.back();
  }
  return *above - x < x - above[-1] ? *above : above[-1];
}

void QuantizeScales(std::vector<float>& scales) {
  double sums[kMeanLanes] = {};
  for (size_t i = 0; i < scales.size(); ++i) {
    sums[i % kMeanLanes] += scales[i];
  }
  for (size_t half = kMeanLanes / 2; half > 0; half /= 2) {
    for (size_t lane = 0; lane < half; ++lane) {
      sums[lane] += sums[lane + half];
    }
  }
  const auto mean =
      static_cast<float>(sums[0] / static_cast<double>(scales.size()));
  const auto size = static_cast<int64_t>(scales.size());
  for (int64_t begin = 0; begin < size; begin += kScalesPerGroup) {
    float* group = scales.data() + begin;
    const int64_t count = std::min(kScalesPerGroup, size - begin);
    for (int64_t i = 0; i < count; ++i) {
      group[i] -= mean;
    }
    float absmax = 0;
    BestQuantizerLoops().nf4_scales(group, count, count, &absmax);
    const float inverse = 1.0f / absmax;
    for (int64_t i = 0; i < count; ++i) {
      const float level =
          absmax == 0 ? 0.0f : NearestDynamicLevel(group[i] * inverse);
      group[i] = level * absmax + mean;
    }
  }
}

}  // namespace

bool Nf4Cpu(const float* weights, int64_t count, Nf4Options options, float* out,
            float* absmax, uint8_t* codes, const ParallelFor& parallel) {
  const QuantizerLoops& loops = BestQuantizerLoops();
  const int64_t group_size = options.group_size;
  // The shorter first group by itself, and what is behind it.
  const int64_t first =
      options.offset > 0 ? std::min(group_size - options.offset, count) : 0;
  const int64_t skipped = first > 0 ? 1 : 0;  // groups
  const int64_t rest = count - first;
  const int64_t step =
      std::max<int64_t>(kItemWeights / group_size, 1) * group_size;
  const int64_t items = (rest + step - 1) / step;
  std::vector<float> scales;  // of all groups, where they depend on each other
  if (options.double_quant) {
    scales.resize(static_cast<size_t>(options.groups(count)));
    loops.nf4_scales(weights, first, group_size, scales.data());
    const bool found = parallel(items, [&](int64_t item) {
      const int64_t begin = item * step;
      loops.nf4_scales(weights + first + begin, std::min(step, rest - begin),
                       group_size,
                       scales.data() + skipped + begin / group_size);
    });
    if (!found) {
      return false;
    }
    QuantizeScales(scales);
  }
  const auto behind = [](auto* array, int64_t offset) {
    return array == nullptr ? nullptr : array + offset;
  };
  const float* const given = options.double_quant ? scales.data() : nullptr;
  loops.nf4(weights, first, group_size, given, out, absmax, codes);
  return parallel(items, [&](int64_t item) {
    const int64_t begin = first + item * step;
    const int64_t group = skipped + item * step / group_size;
    loops.nf4(weights + begin, std::min(step, count - begin), group_size,
              behind(given, group), out + begin, behind(absmax, group),
              behind(codes, begin));
  });
}

}  // namespace qsweep::kernels
