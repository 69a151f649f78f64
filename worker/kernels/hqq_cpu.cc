#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "worker/kernels/hqq.h"

namespace qsweep::kernels {
namespace {

constexpr int kSteps = 20;
constexpr float kSmallestSpan = 1e-4f;
constexpr float kLargestInverse = 2e4f;
constexpr int64_t kLanes = 32;         // of a sum over a group
constexpr int64_t kGroupLanes = 4096;  // of the sum over groups
// Below it |x|^-0.3 / 10 is larger than |x|: nothing is left after shrinking.
constexpr float kShrunkAway = 0.17f;

// Adding this to |x| < 2^22 leaves no bit for a fraction: rounded to an integer
// by the addition itself, halves to even.
constexpr float kIntegerBias = 0x1.8p23f;

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

// weights: groups one after another.
std::vector<Group> Solve(const float* weights, int64_t count,
                         const HqqOptions& options) {
  const float levels = static_cast<float>((1 << options.bits) - 1);
  const int64_t num_groups = options.groups(count);
  std::vector<Group> groups;
  groups.reserve(static_cast<size_t>(num_groups));
  for (int64_t g = 0; g < num_groups; ++g) {
    const Span span = SpanOf(g, count, options);
    groups.push_back(Start(weights + span.begin, span.count, options));
  }
  float best = std::numeric_limits<float>::infinity();
  for (int step = 0; step < kSteps; ++step) {
    double sums[kGroupLanes] = {};
    for (int64_t g = 0; g < num_groups; ++g) {
      const Span span = SpanOf(g, count, options);
      sums[g % kGroupLanes] += Step(weights + span.begin, span.count, levels,
                                    groups[static_cast<size_t>(g)]);
    }
    const auto mean =
        static_cast<float>(Folded(sums) / static_cast<double>(count));
    if (!(mean < best)) {
      break;
    }
    best = mean;
  }
  return groups;
}

// [rows, cols] -> [cols, rows].
template <typename T>
std::vector<T> Transposed(const T* values, int64_t rows, int64_t cols) {
  std::vector<T> result(static_cast<size_t>(rows * cols));
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) {
      result[static_cast<size_t>(col * rows + row)] = values[row * cols + col];
    }
  }
  return result;
}

void QuantizeGroups(const float* weights, int64_t count,
                    const HqqOptions& options, float* out, float* inverse,
                    float* zeros, uint8_t* codes) {
  const float levels = static_cast<float>((1 << options.bits) - 1);
  const std::vector<Group> groups = Solve(weights, count, options);
  for (int64_t g = 0; g < options.groups(count); ++g) {
    const Group& group = groups[static_cast<size_t>(g)];
    const float scale = 1.0f / group.inverse;
    const Span span = SpanOf(g, count, options);
    for (int64_t i = span.begin; i < span.begin + span.count; ++i) {
      const float q = CodeOf(weights[i], group, levels);
      if (codes != nullptr) {
        codes[i] = static_cast<uint8_t>(q);
      }
      out[i] = (q - group.zero) * scale;
    }
    if (inverse != nullptr) {
      inverse[g] = group.inverse;
    }
    if (zeros != nullptr) {
      zeros[g] = group.zero;
    }
  }
}

}  // namespace

void HqqCpu(const float* weights, int64_t count, HqqOptions options, float* out,
            float* inverse, float* zeros, uint8_t* codes) {
  if (options.axis == 1) {
    QuantizeGroups(weights, count, options, out, inverse, zeros, codes);
    return;
  }
  const int64_t groups = count / options.group_size;
  std::vector<float> values = Transposed(weights, options.group_size, groups);
  std::vector<uint8_t> column_codes(codes == nullptr ? 0 : values.size());
  QuantizeGroups(values.data(), count, options, values.data(), inverse, zeros,
                 codes == nullptr ? nullptr : column_codes.data());
  values = Transposed(values.data(), groups, options.group_size);
  std::copy(values.begin(), values.end(), out);
  if (codes != nullptr) {
    column_codes = Transposed(column_codes.data(), groups, options.group_size);
    std::copy(column_codes.begin(), column_codes.end(), codes);
  }
}

}  // namespace qsweep::kernels
