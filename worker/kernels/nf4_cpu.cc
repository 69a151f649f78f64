#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "worker/kernels/nf4.h"

namespace qsweep::kernels {
namespace {

constexpr int64_t kScalesPerGroup = 256;
constexpr size_t kMeanLanes = 256;  // of the sum over all scales

float AbsMax(const float* weights, int64_t count) {
  constexpr int64_t kLanes = 16;
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const float magnitude = std::fabs(weights[i + lane]);
      lanes[lane] = magnitude > lanes[lane] ? magnitude : lanes[lane];
    }
  }
  float largest = *std::max_element(lanes, lanes + kLanes);
  for (; i < count; ++i) {
    largest = std::max(largest, std::fabs(weights[i]));
  }
  return largest;
}

// As a sum of comparisons, which vectorizes. 0 * infinity, in a group of
// zeros, is above no threshold.
int32_t CodeOf(float x) {
  int32_t code = 0;
  for (int q = 0; q + 1 < kNf4Codes; ++q) {
    code += x > Nf4Threshold(q) ? 1 : 0;
  }
  return code;
}

// The level of CodeOf(x), without a look-up.
float LevelOf(float x) {
  float level = kNf4Levels[0];
  for (int q = 0; q + 1 < kNf4Codes; ++q) {
    level = x > Nf4Threshold(q) ? kNf4Levels[q + 1] : level;
  }
  return level;
}

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
    const float absmax = AbsMax(group, count);
    const float inverse = 1.0f / absmax;
    for (int64_t i = 0; i < count; ++i) {
      const float level =
          absmax == 0 ? 0.0f : NearestDynamicLevel(group[i] * inverse);
      group[i] = level * absmax + mean;
    }
  }
}

}  // namespace

void Nf4Cpu(const float* weights, int64_t count, Nf4Options options, float* out,
            float* absmax, uint8_t* codes) {
  const int64_t group_size = options.group_size;
  std::vector<float> scales;  // of all groups, where they depend on each other
  if (options.double_quant) {
    for (int64_t begin = 0; begin < count; begin += group_size) {
      scales.push_back(
          AbsMax(weights + begin, std::min(group_size, count - begin)));
    }
    QuantizeScales(scales);
  }
  for (int64_t begin = 0; begin < count; begin += group_size) {
    const int64_t size = std::min(group_size, count - begin);
    const float* group = weights + begin;
    const float largest = AbsMax(group, size);
    const float inverse = 1.0f / largest;
    const float scale = options.double_quant
                            ? scales[static_cast<size_t>(begin / group_size)]
                            : largest;
    if (codes != nullptr) {
      for (int64_t i = 0; i < size; ++i) {
        codes[begin + i] = static_cast<uint8_t>(CodeOf(group[i] * inverse));
      }
    }
    for (int64_t i = 0; i < size; ++i) {
      out[begin + i] = LevelOf(group[i] * inverse) * scale;
    }
    if (absmax != nullptr) {
      absmax[begin / group_size] = scale;
    }
  }
}

}  // namespace qsweep::kernels
