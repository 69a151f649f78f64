#ifndef QSWEEP_COORDINATOR_ANALYSIS_RATIO_BOOTSTRAP_H_
#define QSWEEP_COORDINATOR_ANALYSIS_RATIO_BOOTSTRAP_H_

#include <map>
#include <span>
#include <utility>
#include <vector>

#include "coordinator/analysis/panel.h"
#include "coordinator/analysis/resamples.h"
#include "coordinator/analysis/work.h"

namespace qsweep::analysis {

// With fewer units than this a bootstrap has too few different resamples for
// an interval.
inline constexpr int kMinimumUnits = 5;

// Sum of one column over sum of another.
struct Ratio {
  int numerator = 0;
  int denominator = 0;
};

// constant + sign x (first - min over subtract), the second part left out where
// subtract is empty. At most two subtracted ratios.
struct Estimand {
  double constant = 0;
  double sign = 1;
  Ratio first;
  std::vector<Ratio> subtract;
};

// Values and studentized bootstrap intervals of estimands that are made of
// ratios of sums over the same units, all resampled together.
//   RatioBootstrap bootstrap(resamples, 0.95);
//   const int x = bootstrap.AddColumn(values), one = bootstrap.AddColumn(ones);
//   const int mean = bootstrap.AddEstimand({.first = {x, one}});
//   const std::vector<Estimate> estimates = bootstrap.Run();  // [mean]
// Borrows resamples. Single-thread. Formulas: docs/metrics.md, "Intervals".
class RatioBootstrap {
 public:
  // confidence: in (0, 1).
  RatioBootstrap(const Resamples& resamples, double confidence);

  // values: [units].
  int AddColumn(std::span<const double> values);
  int AddEstimand(const Estimand& estimand);

  // Parallel to the estimands. kUndefined, no value: a denominator is not
  // positive. kFewUnits, no bounds: fewer than kMinimumUnits units (one unit:
  // no standard error either). Units that do not differ at all: an interval of
  // width 0. Stops early, with estimates not worth reading, when
  // work.stopped(); works on this thread alone.
  std::vector<Estimate> Run(const Work& work = {});

 private:
  // A ratio and the columns of its products.
  struct Term {
    Ratio ratio;
    int numerator_squared;
    int product;
    int denominator_squared;
  };
  // Products of the first ratio (a) with a subtracted one (b).
  struct Cross {
    int numerators;
    int numerator_a_denominator_b;
    int denominator_a_numerator_b;
    int denominators;
  };
  struct Compiled {
    double constant;
    double sign;
    Term first;
    std::vector<std::pair<Term, Cross>> subtract;
  };
  struct Evaluated {
    double value;
    double variance;
    double scale;  // size of what was subtracted, to tell 0 from rounding
  };

  int Product(int a, int b);  // column of products, made on first use
  Term MakeTerm(const Ratio& ratio);
  Cross MakeCross(const Ratio& a, const Ratio& b);
  double Variance(const Term& term, double value, const double* sums) const;
  Evaluated Evaluate(const Compiled& estimand, const double* sums) const;
  bool Defined(const Compiled& estimand, const double* totals) const;
  Estimate Interval(const Evaluated& point,
                    std::vector<double>& statistics) const;
  std::vector<double> Totals() const;

  const Resamples& resamples_;
  double confidence_;
  double factor_;  // n / (n - 1)
  Columns columns_;
  std::vector<Compiled> estimands_;
  std::map<std::pair<int, int>, int> products_;  // smaller column index first
};

// The k-th and the k-th from the end of the sorted values, k =
// max(1, floor((values + 1) x (1 - confidence) / 2)). values: not empty,
// reordered.
std::pair<double, double> TailQuantiles(std::vector<double>& values,
                                        double confidence);

// The k-th of the sorted values, k = min(values, ceil((values + 1) x
// confidence)). values: not empty, reordered.
double UpperQuantile(std::vector<double>& values, double confidence);

}  // namespace qsweep::analysis

#endif  // QSWEEP_COORDINATOR_ANALYSIS_RATIO_BOOTSTRAP_H_
