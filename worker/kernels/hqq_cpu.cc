#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "worker/kernels/hqq.h"
#include "worker/kernels/integer_bias.h"

namespace qsweep::kernels {
namespace {

constexpr int kSteps = 20;
constexpr float kSmallestSpan = 1e-4f;
constexpr float kLargestInverse = 2e4f;
constexpr int64_t kLanes = 32;         // of a sum over a group
constexpr int64_t kGroupLanes = 4096;  // of the sum over groups
// Below it |x|^-0.3 / 10 is larger than |x|: nothing is left after shrinking.
constexpr float kShrunkAway = 0.17f;

// x^-0.3, x >= kShrunkAway. Newton's iteration for the tenth root of x^-3 in
// fp64: additions and multiplications alone, so that a device computes the
// same bits. The first guess, from the exponent bits, is off by less than 7 %;
// five rounds reach the precision of fp64.
float PowerOfMinus03(float x) {
  const double cube = static_cast<double>(x) * x * x;
  const auto bits = static_cast<double>(std::bit_cast<int32_t>(x));
  double root = std::bit_cast<float>(
      static_cast<int32_t>(1.3 * 1064866805.0 - 0.3 * bits));
  for (int round = 0; round < 5; ++round) {
    const double square = root * root;
    const double fifth = square * square * root;
    root = root * (1.1 - 0.1 * (cube * (fifth * fifth)));
  }
  return static_cast<float>(root);
}

float Shrunk(float x) {
  const float magnitude = std::fabs(x);
  if (magnitude <= kShrunkAway) {
    return 0.0f;
  }
  const float left = magnitude - 0.1f * PowerOfMinus03(magnitude);
  return left > 0 ? std::copysign(left, x) : 0.0f;
}

template <typename Number, int64_t kCount>
Number Folded(Number (&lanes)[kCount]) {
  for (int64_t half = kCount / 2; half > 0; half /= 2) {
    for (int64_t lane = 0; lane < half; ++lane) {
      lanes[lane] += lanes[lane + half];
    }
  }
  return lanes[0];
}

struct Group {
  float inverse = 1;
  float zero = 0;
};

struct Span {
  int64_t begin = 0;
  int64_t count = 0;
};

// The weights of group g, of all `count`.
Span SpanOf(int64_t g, int64_t count, const HqqOptions& options) {
  const int64_t first = g * options.group_size - options.offset;
  const int64_t begin = std::max<int64_t>(first, 0);
  return {begin, std::min(first + options.group_size, count) - begin};
}

Group Start(const float* weights, int64_t count, const HqqOptions& options) {
  const auto [min, max] = std::minmax_element(weights, weights + count);
  const float levels = static_cast<float>((1 << options.bits) - 1);
  // Weights of 1e38 of both signs would have an infinite span.
  const float span = std::min(*max - *min, std::numeric_limits<float>::max());
  Group group;
  group.inverse = span <= kSmallestSpan
                      ? 1.0f
                      : std::min(1.0f / span * levels, kLargestInverse);
  group.zero = -*min * group.inverse;
  if (options.round_zero) {
    group.zero = std::nearbyint(group.zero);
  }
  return group;
}

// Clamped first, which gives the same, since both bounds are integers.
float CodeOf(float weight, Group group, float levels) {
  const float position = weight * group.inverse + group.zero;
  const float above = position > 0 ? position : 0.0f;
  const float inside = above < levels ? above : levels;
  return (inside + kIntegerBias) - kIntegerBias;
}

struct Sums {
  float moved = 0;  // of q - (w - e) i
  float error = 0;  // of |x|
};

// Over `kLanes` weights at a time.
template <bool kShrink>
Sums SumsOf(const float* weights, int64_t count, Group group, float levels,
            float* largest) {
  float moved[kLanes] = {};
  float error[kLanes] = {};
  float peak[kLanes] = {};
  for (int64_t begin = 0; begin < count; begin += kLanes) {
    const int64_t width = std::min(kLanes, count - begin);
    for (int64_t lane = 0; lane < width; ++lane) {
      const float w = weights[begin + lane];
      const float q = CodeOf(w, group, levels);
      const float x = w - (q - group.zero) / group.inverse;
      const float e = kShrink ? Shrunk(x) : 0.0f;
      const float magnitude = std::fabs(x);
      moved[lane] += q - (w - e) * group.inverse;
      error[lane] += magnitude;
      peak[lane] = magnitude > peak[lane] ? magnitude : peak[lane];
    }
  }
  *largest = *std::max_element(peak, peak + kLanes);
  return {Folded(moved), Folded(error)};
}

// A solver's step: moves the zero point, returns the sum of |x| before it.
float Step(const float* weights, int64_t group_size, float levels,
           Group& group) {
  float largest = 0;
  Sums sums = SumsOf<false>(weights, group_size, group, levels, &largest);
  if (largest > kShrunkAway) {
    sums = SumsOf<true>(weights, group_size, group, levels, &largest);
  }
  const float zero = sums.moved / static_cast<float>(group_size);
  if (std::isfinite(zero)) {  // a sum of weights of 1e37 may not be
    group.zero = zero;
  }
  return sums.error;
}

// Groups of axis 0 that are gathered together: their weights are neighbours.
constexpr int64_t kGathered = 16;

// The groups of a tensor, some of them at a time.
class Groups {
 public:
  Groups(const float* weights, int64_t count, const HqqOptions& options)
      : weights_(weights),
        count_(count),
        options_(options),
        num_groups_(options.groups(count)),
        groups_per_item_(
            std::max<int64_t>(kItemWeights / options.group_size, 1)) {}

  int64_t size() const { return num_groups_; }
  int64_t items() const {
    return (num_groups_ + groups_per_item_ - 1) / groups_per_item_;
  }

  // visit(g, weights, their number) of each group of an item.
  template <typename Visit>
  void ForEach(int64_t item, const Visit& visit) const {
    const int64_t first = item * groups_per_item_;
    const int64_t last = std::min(first + groups_per_item_, num_groups_);
    if (options_.axis == 1) {
      for (int64_t g = first; g < last; ++g) {
        const Span span = SpanOf(g, count_, options_);
        visit(g, weights_ + span.begin, span.count);
      }
      return;
    }
    const int64_t size = options_.group_size;
    std::vector<float> gathered(static_cast<size_t>(kGathered * size));
    for (int64_t begin = first; begin < last; begin += kGathered) {
      const int64_t some = std::min(kGathered, last - begin);
      for (int64_t i = 0; i < size; ++i) {
        for (int64_t g = 0; g < some; ++g) {
          gathered[static_cast<size_t>(g * size + i)] =
              weights_[i * num_groups_ + begin + g];
        }
      }
      for (int64_t g = 0; g < some; ++g) {
        visit(begin + g, gathered.data() + g * size, size);
      }
    }
  }

  // Of a group's weight i.
  int64_t PlaceOf(int64_t g, int64_t i) const {
    return options_.axis == 1 ? SpanOf(g, count_, options_).begin + i
                              : i * num_groups_ + g;
  }

 private:
  const float* const weights_;
  const int64_t count_;
  const HqqOptions& options_;
  const int64_t num_groups_;
  const int64_t groups_per_item_;
};

// False: told to stop.
bool Solve(const Groups& tensor, int64_t count, const HqqOptions& options,
           const ParallelFor& parallel, std::vector<Group>& groups) {
  const float levels = static_cast<float>((1 << options.bits) - 1);
  if (!parallel(tensor.items(), [&](int64_t item) {
        tensor.ForEach(item, [&](int64_t g, const float* w, int64_t size) {
          groups[static_cast<size_t>(g)] = Start(w, size, options);
        });
      })) {
    return false;
  }
  std::vector<float> errors(groups.size());
  float best = std::numeric_limits<float>::infinity();
  for (int step = 0; step < kSteps; ++step) {
    if (!parallel(tensor.items(), [&](int64_t item) {
          tensor.ForEach(item, [&](int64_t g, const float* w, int64_t size) {
            const auto group = static_cast<size_t>(g);
            errors[group] = Step(w, size, levels, groups[group]);
          });
        })) {
      return false;
    }
    double sums[kGroupLanes] = {};
    for (size_t g = 0; g < errors.size(); ++g) {
      sums[g % kGroupLanes] += errors[g];
    }
    const auto mean =
        static_cast<float>(Folded(sums) / static_cast<double>(count));
    if (!(mean < best)) {
      break;
    }
    best = mean;
  }
  return true;
}

}  // namespace

bool HqqCpu(const float* weights, int64_t count, HqqOptions options, float* out,
            float* inverse, float* zeros, uint8_t* codes,
            const ParallelFor& parallel) {
  const Groups tensor(weights, count, options);
  std::vector<Group> groups(static_cast<size_t>(tensor.size()));
  if (!Solve(tensor, count, options, parallel, groups)) {
    return false;
  }
  const float levels = static_cast<float>((1 << options.bits) - 1);
  // A group's weights are read before they may be written over.
  return parallel(tensor.items(), [&](int64_t item) {
    tensor.ForEach(item, [&](int64_t g, const float* w, int64_t size) {
      const Group& group = groups[static_cast<size_t>(g)];
      const float scale = 1.0f / group.inverse;
      const int64_t first = tensor.PlaceOf(g, 0);
      const int64_t step = tensor.PlaceOf(g, 1) - first;
      for (int64_t i = 0; i < size; ++i) {
        const float q = CodeOf(w[i], group, levels);
        if (codes != nullptr) {
          codes[first + i * step] = static_cast<uint8_t>(q);
        }
        out[first + i * step] = (q - group.zero) * scale;
      }
      if (inverse != nullptr) {
        inverse[g] = group.inverse;
      }
      if (zeros != nullptr) {
        zeros[g] = group.zero;
      }
    });
  });
}

int64_t HqqBytes(int64_t count, const HqqOptions& options) {
  return options.groups(count) *
         static_cast<int64_t>(sizeof(Group) + sizeof(float));
}

}  // namespace qsweep::kernels
