#include "coordinator/analysis/ratio_bootstrap.h"

#include <algorithm>
#include <cmath>

#include "common/base/check.h"

namespace qsweep::analysis {
namespace {

// Resamples per product: the sums of one chunk stay in the cache.
constexpr int kChunk = 64;

// A standard error below this share of the values is rounding of an exact 0.
constexpr double kRounding = 1e-7;

}  // namespace

RatioBootstrap::RatioBootstrap(const Resamples& resamples, double confidence)
    : resamples_(resamples),
      confidence_(confidence),
      factor_(resamples.units() / std::max(1.0, resamples.units() - 1.0)),
      columns_(resamples.units()) {
  QSWEEP_CHECK(confidence > 0 && confidence < 1);
}

int RatioBootstrap::AddColumn(std::span<const double> values) {
  return columns_.Add(values);
}

int RatioBootstrap::AddEstimand(const Estimand& estimand) {
  Compiled compiled = {
      estimand.constant, estimand.sign, MakeTerm(estimand.first), {}};
  for (const Ratio& other : estimand.subtract) {
    compiled.subtract.emplace_back(MakeTerm(other),
                                   MakeCross(estimand.first, other));
  }
  estimands_.push_back(std::move(compiled));
  return static_cast<int>(estimands_.size()) - 1;
}

int RatioBootstrap::Product(int a, int b) {
  const std::pair<int, int> key(std::min(a, b), std::max(a, b));
  const auto [it, inserted] = products_.try_emplace(key, 0);
  if (inserted) {
    std::vector<double> values(static_cast<size_t>(columns_.units()));
    for (int unit = 0; unit < columns_.units(); ++unit) {
      values[static_cast<size_t>(unit)] =
          columns_.at(a, unit) * columns_.at(b, unit);
    }
    it->second = columns_.Add(values);
  }
  return it->second;
}

RatioBootstrap::Term RatioBootstrap::MakeTerm(const Ratio& ratio) {
  return {.ratio = ratio,
          .numerator_squared = Product(ratio.numerator, ratio.numerator),
          .product = Product(ratio.numerator, ratio.denominator),
          .denominator_squared = Product(ratio.denominator, ratio.denominator)};
}

RatioBootstrap::Cross RatioBootstrap::MakeCross(const Ratio& a,
                                                const Ratio& b) {
  return {.numerators = Product(a.numerator, b.numerator),
          .numerator_a_denominator_b = Product(a.numerator, b.denominator),
          .denominator_a_numerator_b = Product(a.denominator, b.numerator),
          .denominators = Product(a.denominator, b.denominator)};
}

// Of the linear approximation of the ratio around these sums, without factor_.
double RatioBootstrap::Variance(const Term& term, double value,
                                const double* sums) const {
  const double denominator = sums[term.ratio.denominator];
  return (sums[term.numerator_squared] - 2 * value * sums[term.product] +
          value * value * sums[term.denominator_squared]) /
         (denominator * denominator);
}

RatioBootstrap::Evaluated RatioBootstrap::Evaluate(const Compiled& estimand,
                                                   const double* sums) const {
  const Ratio& ratio = estimand.first.ratio;
  const double first = sums[ratio.numerator] / sums[ratio.denominator];
  const double variance = Variance(estimand.first, first, sums);
  const std::pair<Term, Cross>* least = nullptr;
  double second = 0;
  for (const auto& other : estimand.subtract) {
    const double value =
        sums[other.first.ratio.numerator] / sums[other.first.ratio.denominator];
    if (least == nullptr || value < second) {
      least = &other;
      second = value;
    }
  }
  if (least == nullptr) {
    return {estimand.constant + estimand.sign * first, factor_ * variance,
            std::abs(first)};
  }
  const auto& [term, cross] = *least;
  const double covariance =
      (sums[cross.numerators] - second * sums[cross.numerator_a_denominator_b] -
       first * sums[cross.denominator_a_numerator_b] +
       first * second * sums[cross.denominators]) /
      (sums[ratio.denominator] * sums[term.ratio.denominator]);
  return {estimand.constant + estimand.sign * (first - second),
          factor_ * (variance + Variance(term, second, sums) - 2 * covariance),
          std::abs(first) + std::abs(second)};
}

bool RatioBootstrap::Defined(const Compiled& estimand,
                             const double* totals) const {
  bool defined = totals[estimand.first.ratio.denominator] > 0;
  for (const auto& [term, cross] : estimand.subtract) {
    defined = defined && totals[term.ratio.denominator] > 0;
  }
  return defined;
}

Estimate RatioBootstrap::Interval(const Evaluated& point,
                                  std::vector<double>& statistics) const {
  Estimate estimate = {.value = point.value};
  const double error = std::sqrt(std::max(point.variance, 0.0));
  const bool constant = !(error > kRounding * point.scale);
  if (columns_.units() >= 2) {
    estimate.standard_error = constant ? 0 : error;
  }
  if (columns_.units() < kMinimumUnits || (!constant && statistics.empty())) {
    estimate.status = EstimateStatus::kFewUnits;
    return estimate;
  }
  if (constant) {
    estimate.low = estimate.high = point.value;
    return estimate;
  }
  const auto [low, high] = TailQuantiles(statistics, confidence_);
  estimate.low = point.value - high * error;
  estimate.high = point.value - low * error;
  return estimate;
}

std::vector<double> RatioBootstrap::Totals() const {
  std::vector<double> totals(static_cast<size_t>(columns_.size()), 0.0);
  for (int column = 0; column < columns_.size(); ++column) {
    for (int unit = 0; unit < columns_.units(); ++unit) {
      totals[static_cast<size_t>(column)] += columns_.at(column, unit);
    }
  }
  return totals;
}

std::vector<Estimate> RatioBootstrap::Run(const Work& work) {
  const std::vector<double> totals = Totals();
  std::vector<Evaluated> points;
  for (const Compiled& estimand : estimands_) {
    points.push_back(Evaluate(estimand, totals.data()));
  }
  std::vector<std::vector<double>> statistics(estimands_.size());
  const size_t stride = static_cast<size_t>(columns_.num_blocks()) *
                        static_cast<size_t>(Columns::kWidth);
  std::vector<double> sums(stride * kChunk);
  for (int first = 0; columns_.units() >= kMinimumUnits &&
                      first < resamples_.count() && !work.stopped();
       first += kChunk) {
    const int chunk = std::min(kChunk, resamples_.count() - first);
    WeightedSums(resamples_, first, chunk, columns_, sums);
    for (int i = 0; i < chunk; ++i) {
      if (!resamples_.usable(first + i)) {
        continue;
      }
      const double* row = &sums[static_cast<size_t>(i) * stride];
      for (size_t e = 0; e < estimands_.size(); ++e) {
        const Evaluated drawn = Evaluate(estimands_[e], row);
        const double t =
            (drawn.value - points[e].value) / std::sqrt(drawn.variance);
        if (std::isfinite(t)) {
          statistics[e].push_back(t);
        }
      }
    }
  }
  std::vector<Estimate> estimates;
  for (size_t e = 0; e < estimands_.size(); ++e) {
    estimates.push_back(Defined(estimands_[e], totals.data())
                            ? Interval(points[e], statistics[e])
                            : Estimate{.status = EstimateStatus::kUndefined});
  }
  return estimates;
}

std::pair<double, double> TailQuantiles(std::vector<double>& values,
                                        double confidence) {
  const double size = static_cast<double>(values.size());
  const auto k = static_cast<std::ptrdiff_t>(
      std::max(1.0, std::floor((size + 1) * ((1 - confidence) / 2))));
  const auto low = values.begin() + (k - 1);
  std::nth_element(values.begin(), low, values.end());
  const double low_value = *low;
  const auto high = values.end() - k;
  std::nth_element(values.begin(), high, values.end());
  return {low_value, *high};
}

double UpperQuantile(std::vector<double>& values, double confidence) {
  const double size = static_cast<double>(values.size());
  const auto k = static_cast<std::ptrdiff_t>(
      std::min(size, std::ceil((size + 1) * confidence)));
  const auto at = values.begin() + (k - 1);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

}  // namespace qsweep::analysis
