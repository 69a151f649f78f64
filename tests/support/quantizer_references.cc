#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "tests/support/kernel_references.h"

namespace qsweep::testing {
namespace {

using kernels::FloatType;
using kernels::RtnGrid;
using kernels::RtnOptions;
using kernels::RtnShape;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// The rules of one group, after the table of the quantizers.
class Group {
 public:
  Group(const double* weights, int64_t count, RtnOptions options)
      : options_(options) {
    for (int64_t i = 0; i < count; ++i) {
      weights_.push_back(Operation(weights[i]));
    }
    levels_ = std::exp2(options.bits) - 1;
    half_ = std::exp2(options.bits - 1);
  }

  struct Parameters {
    double scale = 0;
    double zero = 0;
  };
  Parameters Find() {
    FindScale();
    return {scale_, zero_};
  }

  void Quantize(double* values, double* scale, int16_t* codes) {
    *scale = Find().scale;
    for (size_t i = 0; i < weights_.size(); ++i) {
      const double w = weights_[i];
      if (!std::isfinite(scale_)) {
        values[i] = kNan;
        codes[i] = 0;
      } else if (scale_ == 0) {
        values[i] = max_ == 0 && min_ == 0 ? w : 0.0;
        codes[i] = static_cast<int16_t>(zero_);
      } else {
        double code = std::nearbyint(Operation(w / scale_)) + zero_;
        code = code < lowest_ ? lowest_ : code;
        code = code > highest_ ? highest_ : code;
        codes[i] = static_cast<int16_t>(code);
        // Where codes are signed, so is a zero.
        const double integer = has_zero_point_ ? code - zero_
                               : code == 0     ? std::copysign(0.0, w)
                                               : code;
        values[i] = Operation(integer * scale_);
      }
    }
  }

 private:
  // What the arithmetic makes of an exact result.
  double Operation(double exact) const {
    const double single = RoundTo(FloatType::kFp32, exact);
    return options_.half_arithmetic ? RoundTo(FloatType::kFp16, single)
                                    : single;
  }
  double Stored(double scale) const {
    return options_.half_scale ? RoundTo(FloatType::kFp16, scale) : scale;
  }

  void FindScale() {
    min_ = kInfinity;
    max_ = -kInfinity;
    for (const double w : weights_) {
      if (!std::isfinite(w)) {
        scale_ = kInfinity;
        return;
      }
      min_ = w < min_ ? w : min_;
      max_ = w > max_ ? w : max_;
    }
    switch (options_.grid) {
      case RtnGrid::kAbsmax:
        Symmetric(std::max(std::fabs(min_), std::fabs(max_)));
        break;
      case RtnGrid::kAwqSymmetric:
        Symmetric(std::max({std::fabs(min_), std::fabs(max_), Floor()}));
        break;
      case RtnGrid::kGptqSymmetric:
        GptqScale(true);
        zero_ = half_;
        break;
      case RtnGrid::kGptqAsymmetric:
        zero_ = ZeroOf(-GptqScale(false));
        break;
      case RtnGrid::kAwqAsymmetric:
        scale_ = Stored(
            Operation(std::max(Operation(max_ - min_), Floor()) / levels_));
        zero_ = ZeroOf(-min_);
        break;
    }
    if (options_.grid != RtnGrid::kAbsmax &&
        options_.grid != RtnGrid::kAwqSymmetric) {
      has_zero_point_ = true;
      lowest_ = 0;
      highest_ = levels_;
    }
  }

  double Floor() const { return Operation(1e-5); }

  void Symmetric(double absmax) {
    scale_ = Stored(Operation(absmax / (half_ - 1)));
    lowest_ = -half_;
    highest_ = half_ - 1;
  }

  // Sets the scale and returns the low end of the range.
  double GptqScale(bool symmetric) {
    double a = min_ < 0 ? min_ : 0;
    double c = max_ > 0 ? max_ : 0;
    if (symmetric) {
      c = std::max(std::fabs(a), c);
      if (a < 0) {
        a = -c;
      }
    }
    if (a == 0 && c == 0) {
      a = -1;
      c = 1;
    }
    scale_ = Stored(Operation(Operation(c - a) / levels_));
    return a;
  }

  double ZeroOf(double minus_low) const {
    if (scale_ == 0 || !std::isfinite(scale_)) {
      return 0;
    }
    const double zero = std::nearbyint(Operation(minus_low / scale_));
    return zero < 0 ? 0 : zero > levels_ ? levels_ : zero;
  }

  RtnOptions options_;
  std::vector<double> weights_;
  double levels_ = 0;
  double half_ = 0;
  double min_ = 0;
  double max_ = 0;
  double scale_ = 0;
  double zero_ = 0;
  double lowest_ = 0;
  double highest_ = 0;
  bool has_zero_point_ = false;
};

double Fp32(double exact) { return RoundTo(FloatType::kFp32, exact); }
double Exact(double sum) { return sum; }

// Some lanes take turns; then halves of them are added to halves.
template <typename Round>
double SumOfLanes(const std::vector<double>& terms, size_t num_lanes,
                  const Round& round) {
  std::vector<double> lanes(num_lanes);
  for (size_t i = 0; i < terms.size(); ++i) {
    double& lane = lanes[i % num_lanes];
    lane = round(lane + terms[i]);
  }
  for (size_t half = num_lanes / 2; half > 0; half /= 2) {
    for (size_t lane = 0; lane < half; ++lane) {
      lanes[lane] = round(lanes[lane] + lanes[lane + half]);
    }
  }
  return lanes[0];
}

constexpr size_t kGroupLanes = 32;
constexpr size_t kTensorLanes = 4096;

// The groups of a flattened tensor, of which the first lacks `offset`.
struct Span {
  size_t begin;
  size_t end;
};
std::vector<Span> SpansOf(size_t count, int64_t group_size, int64_t offset) {
  std::vector<Span> spans;
  auto end = static_cast<size_t>(group_size - offset);
  for (size_t begin = 0; begin < count; begin = spans.back().end) {
    spans.push_back({begin, std::min(end, count)});
    end += static_cast<size_t>(group_size);
  }
  return spans;
}

// The quantiles of bitsandbytes, as fp32 has them.
std::vector<double> Nf4Levels() {
  std::vector<double> levels = {-1,
                                -0.6961928009986877,
                                -0.5250730514526367,
                                -0.39491748809814453,
                                -0.28444138169288635,
                                -0.18477343022823334,
                                -0.09105003625154495,
                                0,
                                0.07958029955625534,
                                0.16093020141124725,
                                0.24611230194568634,
                                0.33791524171829224,
                                0.44070982933044434,
                                0.5626170039176941,
                                0.7229568362236023,
                                1};
  for (double& level : levels) {
    level = Fp32(level);
  }
  return levels;
}

// 0, 1 and +-10^(k-6) (0.1 + 0.9 (j + 1/2) / 2^k).
std::vector<double> DynamicLevels() {
  std::vector<double> levels = {0, 1};
  for (int k = 0; k < 7; ++k) {
    for (int j = 0; j < 1 << k; ++j) {
      const double level =
          Fp32(std::pow(10.0, k - 6) * (0.1 + 0.9 * (j + 0.5) / std::exp2(k)));
      levels.insert(levels.end(), {level, -level});
    }
  }
  std::ranges::sort(levels);
  return levels;
}

void QuantizeScales(std::vector<double>& scales) {
  constexpr size_t kTogether = 256;
  const std::vector<double> levels = DynamicLevels();
  const double mean = Fp32(SumOfLanes(scales, kTensorLanes, Exact) /
                           static_cast<double>(scales.size()));
  for (size_t begin = 0; begin < scales.size(); begin += kTogether) {
    const size_t end = std::min(begin + kTogether, scales.size());
    double absmax = 0;
    for (size_t i = begin; i < end; ++i) {
      scales[i] = Fp32(scales[i] - mean);
      absmax = std::max(absmax, std::fabs(scales[i]));
    }
    for (size_t i = begin; i < end; ++i) {
      // Infinite where the reciprocal is.
      const double x = absmax == 0
                           ? 0
                           : std::clamp(Fp32(scales[i] * Fp32(1 / absmax)),
                                        levels.front(), levels.back());
      double nearest = levels.front();
      for (const double level : levels) {  // of two the lower
        nearest = Fp32(std::fabs(level - x)) < Fp32(std::fabs(nearest - x))
                      ? level
                      : nearest;
      }
      scales[i] = Fp32(Fp32(nearest * absmax) + mean);
    }
  }
}

class HqqGroup {
 public:
  explicit HqqGroup(const kernels::HqqOptions& options)
      : levels_(std::exp2(options.bits) - 1), round_zero_(options.round_zero) {}

  // A weight and where it is in the tensor.
  void Add(size_t place, double weight) {
    places_.push_back(place);
    weights_.push_back(weight);
  }

  void Start() {
    const auto [min, max] = std::ranges::minmax(weights_);
    const double span =
        std::min(Fp32(max - min), double{std::numeric_limits<float>::max()});
    inverse_ =
        span <= Fp32(1e-4) ? 1 : std::min(Fp32(Fp32(1 / span) * levels_), 2e4);
    zero_ = Fp32(-min * inverse_);
    zero_ = round_zero_ ? std::nearbyint(zero_) : zero_;
  }

  // Moves the zero point; the sum of errors before it.
  double Step() {
    std::vector<double> moved;
    std::vector<double> errors;
    for (const double w : weights_) {
      const double q = CodeOf(w);
      const double x = Fp32(w - Fp32(Fp32(q - zero_) / inverse_));
      const double size = std::fabs(x);
      const double left =
          Fp32(size - Fp32(Fp32(0.1) * Fp32(std::pow(size, -0.3))));
      const double e = left > 0 ? std::copysign(left, x) : 0;
      moved.push_back(Fp32(q - Fp32(Fp32(w - e) * inverse_)));
      errors.push_back(size);
    }
    const double zero = Fp32(SumOfLanes(moved, kGroupLanes, Fp32) /
                             static_cast<double>(weights_.size()));
    zero_ = std::isfinite(zero) ? zero : zero_;
    return SumOfLanes(errors, kGroupLanes, Fp32);
  }

  void Write(HqqReference& reference) const {
    reference.inverse.push_back(inverse_);
    reference.zeros.push_back(zero_);
    for (size_t i = 0; i < weights_.size(); ++i) {
      const double q = CodeOf(weights_[i]);
      reference.codes[places_[i]] = static_cast<uint8_t>(q);
      reference.values[places_[i]] = Fp32(Fp32(q - zero_) * Fp32(1 / inverse_));
    }
  }

 private:
  double CodeOf(double weight) const {
    const double position = Fp32(Fp32(weight * inverse_) + zero_);
    return std::min(position > 0 ? std::nearbyint(position) : 0, levels_);
  }

  double levels_;
  bool round_zero_;
  std::vector<size_t> places_;
  std::vector<double> weights_;
  double inverse_ = 1;
  double zero_ = 0;
};

// R and the blocks of U of a factor, by column.
struct GptqTables {
  explicit GptqTables(const kernels::GptqFactor& factor) {
    for (int64_t j = 0; j < factor.columns; ++j) {
      auto& upper_of = upper.emplace_back();
      auto& inverse_of = inverse.emplace_back();
      for (int64_t i = 0; i <= j; ++i) {
        upper_of.push_back(factor.Upper(i, j));
        inverse_of.push_back(
            i / kColumns == j / kColumns ? factor.UpperInverse(i, j) : 0.0f);
      }
    }
  }
  static constexpr int64_t kColumns = 128;  // of a block

  std::vector<std::vector<float>> upper;    // [j][i], i <= j
  std::vector<std::vector<float>> inverse;  // the same; 0 out of the blocks
};

// A row in the order of rounding. Sums of products are fused, as the paper's
// matrices are multiplied; what a column rounds is not.
class GptqRow {
 public:
  GptqRow(const double* weights, const kernels::GptqFactor& factor,
          const GptqTables& tables, const kernels::GptqOptions& options)
      : weights_(weights), factor_(factor), tables_(tables), options_(options) {
    for (const int32_t column : factor.order) {
      const auto at = static_cast<size_t>(column);
      came_.push_back(factor.dead[at] ? 0.0f : static_cast<float>(weights[at]));
    }
    now_ = came_;
    lost_.resize(came_.size());
    parameters_.resize(static_cast<size_t>(
        options.groups_per_row(static_cast<int64_t>(came_.size()))));
  }

  void Quantize(uint8_t* codes, std::vector<double>& scales,
                std::vector<uint8_t>& zeros) {
    FindUnmoved();
    for (size_t begin = 0; begin < came_.size(); begin += kBlock) {
      const size_t end = std::min(begin + kBlock, came_.size());
      FindMoved(begin, end);
      Update(begin, end);
      Round(begin, end, codes);
    }
    for (const Group::Parameters& p : parameters_) {
      scales.push_back(p.scale);
      zeros.push_back(static_cast<uint8_t>(p.zero));
    }
  }

 private:
  static constexpr auto kBlock = static_cast<size_t>(GptqTables::kColumns);

  bool moving() const {
    return options_.group_size != 0 && !options_.static_groups;
  }

  Group::Parameters ParametersOf(const std::vector<double>& weights) const {
    return Group(weights.data(), static_cast<int64_t>(weights.size()),
                 {.bits = options_.bits,
                  .grid = options_.symmetric ? RtnGrid::kGptqSymmetric
                                             : RtnGrid::kGptqAsymmetric,
                  .half_scale = options_.half_scale})
        .Find();
  }

  // From the weights as they came, in their own order, dead ones too.
  void FindUnmoved() {
    for (size_t g = 0; !moving() && g < parameters_.size(); ++g) {
      const size_t size = options_.group_size == 0
                              ? came_.size()
                              : static_cast<size_t>(options_.group_size);
      const size_t end = std::min((g + 1) * size, came_.size());
      parameters_[g] = ParametersOf(
          std::vector<double>(weights_ + g * size, weights_ + end));
    }
  }

  // Of the groups that start in a block: from the weights as all blocks before
  // it leave them, without what its own columns will lose.
  void FindMoved(size_t begin, size_t end) {
    const auto size = static_cast<size_t>(options_.group_size);
    for (size_t g = moving() ? (begin + size - 1) / size : parameters_.size();
         g < parameters_.size() && g * size < end; ++g) {
      const size_t last = std::min((g + 1) * size, came_.size());
      for (size_t first = begin; first < last; first += kBlock) {
        Update(first, std::min(first + kBlock, came_.size()));
        // What later blocks see of one that is not rounded yet.
        for (size_t i = first; i < std::min(first + kBlock, last); ++i) {
          lost_[i] = came_[i] - now_[i];
        }
      }
      parameters_[g] = ParametersOf(
          std::vector<double>(now_.begin() + static_cast<ptrdiff_t>(g * size),
                              now_.begin() + static_cast<ptrdiff_t>(last)));
    }
  }

  // A block after all before it: W + (lost R) U.
  void Update(size_t begin, size_t end) {
    std::vector<float> sums;
    for (size_t j = begin; j < end; ++j) {
      float sum = 0;
      for (size_t before = 0; before < begin; before += kBlock) {
        float part = 0;
        for (size_t k = before; k < before + kBlock; ++k) {
          part = std::fma(lost_[k], tables_.upper[j][k], part);
        }
        sum -= part;  // of one block of columns
      }
      sums.push_back(sum);
    }
    for (size_t j = begin; j < end; ++j) {
      float part = 0;
      for (size_t k = begin; begin > 0 && k <= j; ++k) {
        part = std::fma(sums[k - begin], tables_.inverse[j][k], part);
      }
      now_[j] = came_[j] - part;
    }
  }

  void Round(size_t begin, size_t end, uint8_t* codes) {
    const double levels = std::exp2(options_.bits) - 1;
    for (size_t i = begin; i < end; ++i) {
      const auto column = static_cast<size_t>(factor_.order[i]);
      const size_t place = options_.static_groups ? column : i;
      const Group::Parameters& p =
          parameters_[options_.group_size == 0
                          ? 0
                          : place / static_cast<size_t>(options_.group_size)];
      double integer =
          p.scale == 0 ? 0 : std::nearbyint(Fp32(double{now_[i]} / p.scale));
      integer = std::min(std::max(integer, -p.zero), levels - p.zero);
      codes[column] = static_cast<uint8_t>(integer + p.zero);
      const double value = Fp32(integer * p.scale);
      const double error =
          Fp32(Fp32(double{now_[i]} - value) / double{tables_.inverse[i][i]});
      for (size_t j = i + 1; j < end; ++j) {
        now_[j] = static_cast<float>(
            double{now_[j]} - Fp32(error * double{tables_.inverse[j][i]}));
      }
      lost_[i] = static_cast<float>(double{came_[i]} - value);
    }
  }

  const double* weights_;  // in their own order
  const kernels::GptqFactor& factor_;
  const GptqTables& tables_;
  const kernels::GptqOptions options_;
  std::vector<float> came_;
  std::vector<float> now_;
  std::vector<float> lost_;  // of what came, by rounding
  std::vector<Group::Parameters> parameters_;
};

}  // namespace

RtnReference RtnByLoops(const std::vector<double>& weights, RtnShape shape,
                        RtnOptions options) {
  RtnReference reference;
  reference.values.resize(weights.size());
  reference.codes.resize(weights.size());
  for (int64_t row = 0; row < shape.rows; ++row) {
    int64_t end = 0;
    for (int64_t col = 0; col < shape.cols; col = end) {
      end = col == 0 ? shape.group_size - shape.offset : col + shape.group_size;
      end = std::min(end, shape.cols);
      const int64_t first = row * shape.cols + col;
      Group group(weights.data() + first, end - col, options);
      double scale = 0;
      group.Quantize(reference.values.data() + first, &scale,
                     reference.codes.data() + first);
      reference.scales.push_back(scale);
    }
  }
  return reference;
}

Nf4Reference Nf4ByLoops(const std::vector<double>& weights,
                        kernels::Nf4Options options) {
  const std::vector<double> levels = Nf4Levels();
  std::vector<double> thresholds;
  for (size_t code = 0; code + 1 < levels.size(); ++code) {
    thresholds.push_back(Fp32((levels[code] + levels[code + 1]) / 2));
  }
  const std::vector<Span> groups =
      SpansOf(weights.size(), options.group_size, options.offset);
  Nf4Reference reference;
  for (const Span& group : groups) {
    double absmax = 0;
    for (size_t i = group.begin; i < group.end; ++i) {
      absmax = std::max(absmax, std::fabs(weights[i]));
    }
    reference.scales.push_back(absmax);
  }
  // Codes come before the scales are rounded.
  for (size_t g = 0; g < groups.size(); ++g) {
    const double reciprocal = Fp32(1 / reference.scales[g]);
    for (size_t i = groups[g].begin; i < groups[g].end; ++i) {
      const double x = Fp32(weights[i] * reciprocal);
      size_t code = 0;
      while (code + 1 < levels.size() && x > thresholds[code]) {
        ++code;
      }
      reference.codes.push_back(static_cast<uint8_t>(code));
    }
  }
  if (options.double_quant) {
    QuantizeScales(reference.scales);
  }
  for (size_t g = 0; g < groups.size(); ++g) {
    for (size_t i = groups[g].begin; i < groups[g].end; ++i) {
      reference.values.push_back(
          Fp32(levels[reference.codes[i]] * reference.scales[g]));
    }
  }
  return reference;
}

HqqReference HqqByLoops(const std::vector<double>& weights,
                        kernels::HqqOptions options) {
  constexpr int kSteps = 20;
  std::vector<HqqGroup> groups;
  if (options.axis == 1) {
    for (const Span& span :
         SpansOf(weights.size(), options.group_size, options.offset)) {
      groups.emplace_back(options);
      for (size_t i = span.begin; i < span.end; ++i) {
        groups.back().Add(i, weights[i]);
      }
    }
  } else {
    const size_t columns =
        weights.size() / static_cast<size_t>(options.group_size);
    groups.assign(columns, HqqGroup(options));
    for (size_t i = 0; i < weights.size(); ++i) {
      groups[i % columns].Add(i, weights[i]);
    }
  }
  for (HqqGroup& group : groups) {
    group.Start();
  }
  double best = kInfinity;
  for (int step = 0; step < kSteps; ++step) {
    std::vector<double> errors;
    for (HqqGroup& group : groups) {
      errors.push_back(group.Step());
    }
    const double mean = Fp32(SumOfLanes(errors, kTensorLanes, Exact) /
                             static_cast<double>(weights.size()));
    if (!(mean < best)) {
      break;
    }
    best = mean;
  }
  HqqReference reference;
  reference.values.resize(weights.size());
  reference.codes.resize(weights.size());
  for (const HqqGroup& group : groups) {
    group.Write(reference);
  }
  return reference;
}

GptqReference GptqByLoops(const std::vector<double>& weights, int64_t rows,
                          const kernels::GptqFactor& factor,
                          kernels::GptqOptions options) {
  GptqReference reference;
  reference.codes.resize(weights.size());
  const GptqTables tables(factor);
  const auto columns = static_cast<size_t>(factor.columns);
  for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
    GptqRow(weights.data() + row * columns, factor, tables, options)
        .Quantize(reference.codes.data() + row * columns, reference.scales,
                  reference.zeros);
  }
  return reference;
}

}  // namespace qsweep::testing
