#include "coordinator/analysis/ratio_bootstrap.h"

#include <cmath>

#include "gtest/gtest.h"

#include "common/base/random.h"
#include "tests/coordinator/analysis/synthetic_panel.h"

namespace qsweep::analysis {
namespace {

TEST(RatioBootstrap, GivesTheClusteredErrorOfAMean) {
  const Resamples resamples(5, 500, 1);
  RatioBootstrap bootstrap(resamples, 0.95);
  const int x = bootstrap.AddColumn(std::vector<double>{1, 2, 4, 4, 9});
  const int one = bootstrap.AddColumn(std::vector<double>(5, 1.0));
  bootstrap.AddEstimand({.first = {x, one}});
  const Estimate mean = bootstrap.Run()[0];
  EXPECT_DOUBLE_EQ(*mean.value, 4);
  // Sum of squares around 4: 9 + 4 + 0 + 0 + 25 = 38; s = sqrt(38 / 4).
  EXPECT_NEAR(*mean.standard_error, std::sqrt(38.0 / 4 / 5), 1e-12);
  EXPECT_LT(*mean.low, 4);
  EXPECT_GT(*mean.high, 4);
  EXPECT_EQ(mean.status, EstimateStatus::kOk);
}

TEST(RatioBootstrap, GivesTheErrorOfADifferenceOfRatios) {
  const Resamples resamples(3, 100, 1);
  RatioBootstrap bootstrap(resamples, 0.95);
  const std::vector<double> a = {1, 2, 6}, b = {2, 2, 4}, c = {1, 1, 1},
                            d = {1, 2, 3};
  const int ia = bootstrap.AddColumn(a), ib = bootstrap.AddColumn(b);
  const int ic = bootstrap.AddColumn(c), id = bootstrap.AddColumn(d);
  bootstrap.AddEstimand(
      {.constant = 1, .sign = -1, .first = {ia, ib}, .subtract = {{ic, id}}});
  const Estimate estimate = bootstrap.Run()[0];
  const double r = 9.0 / 8, s = 3.0 / 6;
  EXPECT_DOUBLE_EQ(*estimate.value, 1 - (r - s));
  double squares = 0;
  for (size_t i = 0; i < 3; ++i) {
    const double influence = (a[i] - r * b[i]) / 8 - (c[i] - s * d[i]) / 6;
    squares += influence * influence;
  }
  EXPECT_NEAR(*estimate.standard_error, std::sqrt(1.5 * squares), 1e-12);
}

TEST(RatioBootstrap, SubtractsTheSmallerRatio_WhenThereAreTwo) {
  const Resamples resamples(3, 100, 1);
  RatioBootstrap bootstrap(resamples, 0.95);
  const int x = bootstrap.AddColumn(std::vector<double>{3, 4, 5});
  const int y = bootstrap.AddColumn(std::vector<double>{2, 2, 3});
  const int z = bootstrap.AddColumn(std::vector<double>{1, 0, 1});
  const int one = bootstrap.AddColumn(std::vector<double>(3, 1.0));
  bootstrap.AddEstimand({.first = {x, one}, .subtract = {{y, one}, {z, one}}});
  bootstrap.AddEstimand({.first = {x, one}, .subtract = {{z, one}}});
  const std::vector<Estimate> estimates = bootstrap.Run();
  EXPECT_EQ(estimates[0].value, estimates[1].value);
  EXPECT_EQ(estimates[0].standard_error, estimates[1].standard_error);
}

TEST(RatioBootstrap, SaysWhyAnIntervalIsMissing) {
  const Resamples one_unit(1, 50, 1);
  RatioBootstrap few(one_unit, 0.95);
  const int x = few.AddColumn(std::vector<double>{3});
  const int one = few.AddColumn(std::vector<double>{2});
  few.AddEstimand({.first = {x, one}});
  const Estimate alone = few.Run()[0];
  EXPECT_EQ(alone.status, EstimateStatus::kFewUnits);
  EXPECT_EQ(alone.value, 1.5);
  EXPECT_FALSE(alone.low.has_value());
  EXPECT_FALSE(alone.standard_error.has_value());

  const Resamples four_units(4, 50, 1);
  RatioBootstrap four(four_units, 0.95);
  const int w = four.AddColumn(std::vector<double>{1, 2, 3, 4});
  const int ones = four.AddColumn(std::vector<double>(4, 1.0));
  four.AddEstimand({.first = {w, ones}});
  const Estimate pilot = four.Run()[0];
  EXPECT_EQ(pilot.status, EstimateStatus::kFewUnits);
  EXPECT_TRUE(pilot.standard_error.has_value());
  EXPECT_FALSE(pilot.low.has_value());

  const Resamples resamples(5, 50, 1);
  RatioBootstrap bootstrap(resamples, 0.95);
  const int y = bootstrap.AddColumn(std::vector<double>{1, 2, 3, 4, 5});
  const int negative =
      bootstrap.AddColumn(std::vector<double>{1, -2, 0.5, 0, 0});
  const int equal = bootstrap.AddColumn(std::vector<double>(5, 0.1));
  const int third = bootstrap.AddColumn(std::vector<double>(5, 0.3));
  bootstrap.AddEstimand({.first = {y, negative}});
  bootstrap.AddEstimand({.first = {equal, third}});
  const std::vector<Estimate> estimates = bootstrap.Run();
  EXPECT_EQ(estimates[0].status, EstimateStatus::kUndefined);
  EXPECT_FALSE(estimates[0].value.has_value());
  EXPECT_EQ(estimates[1].low, estimates[1].value);  // units do not differ
  EXPECT_EQ(estimates[1].standard_error, 0.0);
}

TEST(Quantiles, TakeOrderStatistics) {
  std::vector<double> values;
  for (int i = 999; i >= 1; --i) {
    values.push_back(i);
  }
  EXPECT_EQ(TailQuantiles(values, 0.95), std::pair(25.0, 975.0));
  EXPECT_EQ(UpperQuantile(values, 0.95), 950.0);
  std::vector<double> one = {5};
  EXPECT_EQ(TailQuantiles(one, 0.95), std::pair(5.0, 5.0));
  EXPECT_EQ(UpperQuantile(one, 0.95), 5.0);
}

// C24: gaps in relative loss between two languages whose units have lengths in
// common, with a known true value.
TEST(RatioBootstrap, CoversTheTruth_AtItsNominalLevel) {
  constexpr int kRepetitions = 2000;
  constexpr int kSampleUnits = 40;
  const double truth = 0.10 - 0.08;
  Random random(20240607);
  int covered = 0;
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    std::vector<double> loss(kSampleUnits), fp(kSampleUnits),
        loss_ref(kSampleUnits), fp_ref(kSampleUnits);
    for (size_t u = 0; u < kSampleUnits; ++u) {
      const double length = 100 * std::exp(0.5 * Normal(random));
      fp[u] = 3 * length * std::exp(0.1 * Normal(random));
      fp_ref[u] = 2.5 * length * std::exp(0.1 * Normal(random));
      loss[u] = fp[u] * (0.10 + 0.04 * Normal(random));
      loss_ref[u] = fp_ref[u] * (0.08 + 0.03 * Normal(random));
    }
    const Resamples resamples(kSampleUnits, 999,
                              static_cast<uint64_t>(repetition));
    RatioBootstrap bootstrap(resamples, 0.95);
    const int a = bootstrap.AddColumn(loss), b = bootstrap.AddColumn(fp);
    const int c = bootstrap.AddColumn(loss_ref),
              d = bootstrap.AddColumn(fp_ref);
    bootstrap.AddEstimand({.first = {a, b}, .subtract = {{c, d}}});
    const Estimate gap = bootstrap.Run()[0];
    covered += *gap.low <= truth && truth <= *gap.high ? 1 : 0;
  }
  EXPECT_GE(covered, 0.935 * kRepetitions);
  EXPECT_LE(covered, 0.965 * kRepetitions);
}

}  // namespace
}  // namespace qsweep::analysis
