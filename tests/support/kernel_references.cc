#include "tests/support/kernel_references.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace qsweep::testing {
namespace {

using kernels::FloatType;

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
