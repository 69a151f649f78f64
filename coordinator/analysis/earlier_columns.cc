#include "coordinator/analysis/earlier_columns.h"

#include <algorithm>
#include <cmath>

namespace qsweep::analysis {

double DegradationPercent(double delta_nll) {
  return 100 * std::expm1(delta_nll);
}

std::optional<double> Disparity(double delta_nll, double reference_delta_nll,
                                RefRule rule) {
  if (reference_delta_nll <= 0) {
    switch (rule) {
      case RefRule::kOne:
        return DegradationPercent(delta_nll);
      case RefRule::kInf:
        return std::nullopt;
      case RefRule::kZero:
        return 0.0;
    }
  }
  if (delta_nll <= 0) {
    return std::expm1(delta_nll) / std::expm1(reference_delta_nll);
  }
  // (e^a - 1) / (e^b - 1) with e^a and e^b taken out: a loss of hundreds of
  // nats must not turn into inf / inf.
  return std::exp(delta_nll - reference_delta_nll) *
         (std::expm1(-delta_nll) / std::expm1(-reference_delta_nll));
}

std::optional<double> FiniteMean(std::span<const double> values) {
  double sum = 0;
  int count = 0;
  for (const double value : values) {
    if (std::isfinite(value)) {
      sum += value;
      ++count;
    }
  }
  return count == 0 ? std::nullopt : std::optional<double>(sum / count);
}

std::optional<double> FiniteMax(std::span<const double> values) {
  std::optional<double> max;
  for (const double value : values) {
    if (std::isfinite(value)) {
      max = std::max(max.value_or(value), value);
    }
  }
  return max;
}

}  // namespace qsweep::analysis
