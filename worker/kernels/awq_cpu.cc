#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "worker/kernels/aligned_array.h"
#include "worker/kernels/awq.h"
#include "worker/kernels/loops/rtn.h"
#include "worker/kernels/quantizer_loops.h"

namespace qsweep::kernels {
namespace {

constexpr float kSmallestScale = 1e-4f;
constexpr int64_t kRowTile = 64;  // rows that share a read of a Gram matrix
constexpr int kClips = 10;        // of a group
constexpr int kClipSteps = 20;    // from the whole group to nothing

RtnOptions GridOf(const AwqOptions& options) {
  return {.bits = options.bits,
          .grid = options.symmetric ? RtnGrid::kAwqSymmetric
                                    : RtnGrid::kAwqAsymmetric,
          .half_scale = options.half_scale};
}

GroupParameters ParametersOfGroup(const float* weights,
                                  const AwqOptions& options) {
  return ParametersOf<Fp32>(weights, options.group_size, GridOf(options));
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

// Looks for the limits of one group of columns, some rows at a time.
class LimitSearch {
 public:
  // count: columns of the group.
  LimitSearch(int64_t count, const AwqOptions& options)
      : options_(options),
        loops_(BestQuantizerLoops()),
        count_(count),
        panels_((count + kPanel - 1) / kPanel),
        scaled_(kRowTile * count),
        clipped_(kRowTile * count),
        values_(kRowTile * count),
        lost_(panels_ * kRowTile * kPanel),
        products_(panels_ * kRowTile * kPanel) {
    std::fill_n(lost_.data(), lost_.size(), 0.0f);
  }

  // The group that is looked at from now on; borrowed.
  void SetGram(const float* gram) { gram_ = gram; }

  static int64_t Bytes(int64_t count) {
    const int64_t padded = (count + kPanel - 1) / kPanel * kPanel;
    return kRowTile * (3 * count + 2 * padded) *
           static_cast<int64_t>(sizeof(float));
  }

  float* scaled_row(int64_t r) { return scaled_.data() + r * count_; }

  // limits: one for each of the first `rows` of scaled_row. False: stopped.
  bool Find(int64_t rows, int64_t limit_step, const Stopped& stopped,
            float* limits) {
    float largest[kRowTile];
    double least[kRowTile];
    loops_.nf4_scales(scaled_.data(), rows * count_, count_, largest);
    for (int step = 0; step < kClips; ++step) {
      if (IsStopped(stopped)) {
        return false;
      }
      const double share = 1 - static_cast<double>(step) / kClipSteps;
      const auto limit = [&](int64_t r) {
        return static_cast<float>(static_cast<double>(largest[r]) * share);
      };
      for (int64_t r = 0; r < rows; ++r) {
        Clip(scaled_row(r), limit(r), count_, clipped_.data() + r * count_);
      }
      loops_.rtn(clipped_.data(), {rows, count_, count_}, GridOf(options_),
                 values_.data(), nullptr, nullptr);
      SumProducts(rows);
      for (int64_t r = 0; r < rows; ++r) {
        const double error = ErrorOf(r);
        if (step == 0 || error < least[r]) {
          least[r] = error;
          limits[r * limit_step] = limit(r);
        }
      }
    }
    return true;
  }

 private:
  static constexpr int64_t kStep = kRowTile * kPanel;

  // What the rows lose, times the Gram matrix, with the other sign.
  void SumProducts(int64_t rows) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < count_; ++i) {
        lost_.data()[i / kPanel * kStep + r * kPanel + i % kPanel] =
            scaled_.data()[r * count_ + i] - values_.data()[r * count_ + i];
      }
    }
    std::fill_n(products_.data(), products_.size(), 0.0f);
    loops_.fp32.subtract_product(lost_.data(), kStep, gram_,
                                 panels_ * kPanel * kPanel, panels_,
                                 products_.data(), kStep, rows, panels_);
  }

  double ErrorOf(int64_t r) const {
    double sum = 0;
    for (int64_t panel = 0; panel < panels_; ++panel) {
      const int64_t first = panel * kStep + r * kPanel;
      for (int64_t i = first; i < first + kPanel; ++i) {
        sum -= static_cast<double>(products_.data()[i]) *
               static_cast<double>(lost_.data()[i]);
      }
    }
    return sum;
  }

  const AwqOptions& options_;
  const QuantizerLoops& loops_;
  const int64_t count_;
  const int64_t panels_;
  const float* gram_ = nullptr;
  AlignedArray<float> scaled_;  // [kRowTile, count], and the next two
  AlignedArray<float> clipped_;
  AlignedArray<float> values_;  // what the codes stand for
  AlignedArray<float> lost_;    // [panels, kRowTile, kPanel], and the next
  AlignedArray<float> products_;
};

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

int64_t AwqLimitsBytes(int64_t group_size) {
  return LimitSearch::Bytes(group_size);
}

bool AwqLimits(const float* weights, int64_t rows, int64_t columns,
               const float* column_scales, const float* grams,
               const AwqOptions& options, const Stopped& stopped,
               float* limits) {
  const int64_t count = options.group_size;
  const int64_t groups = options.groups_per_row(columns);
  LimitSearch search(count, options);
  for (int64_t g = 0; g < groups; ++g) {
    search.SetGram(grams + g * AwqGramSize(count));
    for (int64_t first = 0; first < rows; first += kRowTile) {
      const int64_t some = std::min(kRowTile, rows - first);
      for (int64_t r = 0; r < some; ++r) {
        ScaleGroup(weights + (first + r) * columns + g * count,
                   column_scales + g * count, count, search.scaled_row(r));
      }
      if (!search.Find(some, groups, stopped, limits + first * groups + g)) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace qsweep::kernels
