#include "tests/support/kernel_references.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace qsweep::testing {
namespace {

using kernels::FloatType;
using kernels::RtnGrid;
using kernels::RtnOptions;
using kernels::RtnShape;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Format {
  int fraction_bits;
  int min_exponent;  // of a normal number
  int max_exponent;
};

Format FormatOf(FloatType type) {
  switch (type) {
    case FloatType::kFp32:
      return {23, -126, 127};
    case FloatType::kFp16:
      return {10, -14, 15};
    case FloatType::kBf16:
      return {7, -126, 127};
  }
  return {};
}

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

  void Quantize(double* values, double* scale, int16_t* codes) {
    FindScale();
    *scale = scale_;
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

}  // namespace

double RoundTo(FloatType type, double value) {
  if (type == FloatType::kFp32) {
    return static_cast<double>(static_cast<float>(value));
  }
  if (value == 0 || !std::isfinite(value)) {
    return value;
  }
  const Format format = FormatOf(type);
  const int exponent = std::max(std::ilogb(value), format.min_exponent);
  const double step = std::ldexp(1.0, exponent - format.fraction_bits);
  const double rounded = std::nearbyint(value / step) * step;
  return std::fabs(rounded) >= std::ldexp(1.0, format.max_exponent + 1)
             ? std::copysign(kInfinity, value)
             : rounded;
}

uint32_t Encode(FloatType type, double value) {
  if (type == FloatType::kFp32) {
    return std::bit_cast<uint32_t>(static_cast<float>(value));
  }
  const Format format = FormatOf(type);
  const uint32_t sign = std::signbit(value) ? 0x8000 : 0;
  const auto exponents =
      static_cast<uint32_t>(format.max_exponent - format.min_exponent + 2);
  const uint32_t infinity = exponents << format.fraction_bits;
  if (std::isnan(value)) {
    return infinity | 1u << (format.fraction_bits - 1);
  }
  const double rounded = std::fabs(RoundTo(type, value));
  if (rounded == kInfinity) {
    return infinity | sign;
  }
  if (rounded == 0) {
    return sign;
  }
  // In the smallest steps a number is its own code; each exponent above the
  // smallest adds a whole binade of codes.
  const int exponent = std::max(std::ilogb(rounded), format.min_exponent);
  const double steps = std::ldexp(rounded, format.fraction_bits - exponent);
  const int binade = exponent - format.min_exponent;
  return sign | (static_cast<uint32_t>(steps) +
                 (static_cast<uint32_t>(binade) << format.fraction_bits));
}

double Decode(FloatType type, uint32_t bits) {
  if (type == FloatType::kFp32) {
    return static_cast<double>(std::bit_cast<float>(bits));
  }
  const Format format = FormatOf(type);
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  const uint32_t magnitude = bits & 0x7fff;
  const auto exponent = static_cast<int>(magnitude >> format.fraction_bits);
  const uint32_t fraction = magnitude & ((1u << format.fraction_bits) - 1);
  if (exponent == format.max_exponent - format.min_exponent + 2) {
    return fraction != 0 ? kNan : sign * kInfinity;
  }
  const uint32_t steps =
      exponent == 0 ? fraction : fraction + (1u << format.fraction_bits);
  return sign *
         std::ldexp(steps, std::max(exponent, 1) - 1 + format.min_exponent -
                               format.fraction_bits);
}

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

HeadReference HeadByLoops(const std::vector<float>& logits,
                          const std::vector<float>& baseline, int64_t gold) {
  const auto log_sum = [](const std::vector<float>& row) {
    const double max = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (const float logit : row) {
      sum += std::exp(static_cast<double>(logit) - max);
    }
    return max + std::log(sum);
  };
  const double own_sum = log_sum(logits);
  const double base_sum = log_sum(baseline);
  HeadReference reference;
  reference.nll =
      own_sum - static_cast<double>(logits[static_cast<size_t>(gold)]);
  for (size_t i = 0; i < logits.size(); ++i) {
    const double p = static_cast<double>(baseline[i]) - base_sum;
    reference.kl +=
        std::exp(p) * (p - (static_cast<double>(logits[i]) - own_sum));
  }
  reference.argmax =
      std::max_element(logits.begin(), logits.end()) - logits.begin();
  return reference;
}

}  // namespace qsweep::testing
