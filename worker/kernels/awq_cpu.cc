#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "worker/kernels/awq.h"
#include "worker/kernels/loops/rtn.h"

namespace qsweep::kernels {
namespace {

constexpr float kSmallestScale = 1e-4f;
constexpr int kClips = 10;      // of a group
constexpr int kClipSteps = 20;  // from the whole group to nothing

GroupParameters ParametersOfGroup(const float* weights,
                                  const AwqOptions& options) {
  return ParametersOf<Fp32>(
      weights, options.group_size,
      {.bits = options.bits,
       .grid =
           options.symmetric ? RtnGrid::kAwqSymmetric : RtnGrid::kAwqAsymmetric,
       .half_scale = options.half_scale});
}

float IntegerOf(float weight, const GroupParameters& p) {
  if (p.scale == 0) {
    return 0;
  }
  return RoundToInteger(std::clamp(weight / p.scale, p.lowest, p.highest));
}

// One group, its columns multiplied by their scales.
void ScaleGroup(const float* weights, const float* column_scales, int64_t count,
                float* out) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = weights[i] * column_scales[i];
  }
}

void Clip(const float* weights, float limit, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = std::clamp(weights[i], -limit, limit);
  }
}

// lost^T gram lost, in fp64.
double ErrorOf(const float* lost, const float* gram, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    double row = 0;
    for (int64_t j = 0; j < count; ++j) {
      row += static_cast<double>(gram[i * count + j]) * lost[j];
    }
    sum += row * lost[i];
  }
  return sum;
}

float BestLimit(const float* scaled, const float* gram,
                const AwqOptions& options, float* clipped, float* lost) {
  const int64_t count = options.group_size;
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::fabs(scaled[i]));
  }
  float best = largest;
  double least = 0;
  for (int step = 0; step < kClips; ++step) {
    const float limit =
        static_cast<float>(static_cast<double>(largest) *
                           (1 - static_cast<double>(step) / kClipSteps));
    Clip(scaled, limit, count, clipped);
    const GroupParameters p = ParametersOfGroup(clipped, options);
    for (int64_t i = 0; i < count; ++i) {
      lost[i] = scaled[i] - IntegerOf(clipped[i], p) * p.scale;
    }
    const double error = ErrorOf(lost, gram, count);
    if (step == 0 || error < least) {
      least = error;
      best = limit;
    }
  }
  return best;
}

}  // namespace

void AwqScales(const float* magnitudes, int64_t columns, double ratio,
               float* scales) {
  float least = 0;
  float most = 0;
  for (int64_t i = 0; i < columns; ++i) {
    scales[i] = std::max(
        static_cast<float>(std::pow(static_cast<double>(magnitudes[i]), ratio)),
        kSmallestScale);
    least = i == 0 ? scales[i] : std::min(least, scales[i]);
    most = i == 0 ? scales[i] : std::max(most, scales[i]);
  }
  const float middle = std::sqrt(most * least);
  for (int64_t i = 0; i < columns; ++i) {
    const float scale = scales[i] / middle;
    scales[i] = std::isfinite(scale) ? scale : 1.0f;
  }
}

void AwqCpu(const float* weights, int64_t rows, int64_t columns,
            const float* column_scales, const float* limits,
            const AwqOptions& options, const AwqOutput& out) {
  const int64_t count = options.group_size;
  const int64_t groups = options.groups_per_row(columns);
  std::vector<float> scaled(static_cast<size_t>(count));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t first = r * columns + g * count;
      ScaleGroup(weights + first, column_scales + g * count, count,
                 scaled.data());
      const int64_t group = r * groups + g;
      if (limits != nullptr) {
        Clip(scaled.data(), limits[group], count, scaled.data());
      }
      const GroupParameters p = ParametersOfGroup(scaled.data(), options);
      const float zero = options.symmetric ? -p.lowest : p.zero;
      out.scales[group] = p.scale;
      out.zeros[group] = static_cast<uint8_t>(zero);
      for (int64_t i = 0; i < count; ++i) {
        out.codes[first + i] = static_cast<uint8_t>(
            IntegerOf(scaled[static_cast<size_t>(i)], p) + zero);
      }
    }
  }
}

void AwqLimits(const float* weights, int64_t rows, int64_t columns,
               const float* column_scales, const float* grams,
               const AwqOptions& options, float* limits) {
  const int64_t count = options.group_size;
  const int64_t groups = options.groups_per_row(columns);
  const auto size = static_cast<size_t>(count);
  std::vector<float> scaled(size);
  std::vector<float> clipped(size);
  std::vector<float> lost(size);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t g = 0; g < groups; ++g) {
      ScaleGroup(weights + r * columns + g * count, column_scales + g * count,
                 count, scaled.data());
      limits[r * groups + g] =
          BestLimit(scaled.data(), grams + g * count * count, options,
                    clipped.data(), lost.data());
    }
  }
}

}  // namespace qsweep::kernels
