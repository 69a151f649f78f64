#include "coordinator/analysis/earlier_columns.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace qsweep::analysis {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Losses in nats per token that the earlier work's percentages stand for:
// 4543.63% and 11928.9% for English, 213.8 times the former for Hebrew.
TEST(EarlierColumns, GiveTheEarlierWorksNumbers) {
  EXPECT_NEAR(DegradationPercent(3.838), 4543, 5);
  EXPECT_NEAR(DegradationPercent(4.790), 11929, 15);
  EXPECT_NEAR(*Disparity(9.182, 3.838, RefRule::kOne), 213.8, 0.4);
}

TEST(EarlierColumns, FollowTheRefRule_WhenTheReferenceDidNotDegrade) {
  for (const double reference : {0.0, -0.45}) {
    EXPECT_DOUBLE_EQ(*Disparity(0.5, reference, RefRule::kOne),
                     100 * std::expm1(0.5));
    EXPECT_EQ(Disparity(0.5, reference, RefRule::kInf), std::nullopt);
    EXPECT_EQ(Disparity(0.5, reference, RefRule::kZero), 0.0);
  }
}

TEST(EarlierColumns, AreSigned_WhenALanguageGotBetter) {
  EXPECT_DOUBLE_EQ(*Disparity(-0.2, 0.3, RefRule::kOne),
                   std::expm1(-0.2) / std::expm1(0.3));
}

// C27: both perplexities are far beyond a double.
TEST(EarlierColumns, StayFinite_WhereTheQuotientIs) {
  EXPECT_EQ(DegradationPercent(800), kInfinity);
  EXPECT_NEAR(*Disparity(801, 800, RefRule::kOne), std::exp(1.0), 1e-12);
  EXPECT_NEAR(*Disparity(278, 277, RefRule::kOne), std::exp(1.0), 1e-12);
  EXPECT_EQ(Disparity(900, 1, RefRule::kOne), kInfinity);
}

TEST(EarlierColumns, DropInfiniteValues_FromMeanAndMaximum) {
  EXPECT_EQ(FiniteMean(std::vector<double>{1, kInfinity, 3}), 2.0);
  EXPECT_EQ(FiniteMax(std::vector<double>{1, kInfinity, -3}), 1.0);
  EXPECT_EQ(FiniteMean(std::vector<double>{kInfinity}), std::nullopt);
  EXPECT_EQ(FiniteMax({}), std::nullopt);
}

}  // namespace
}  // namespace qsweep::analysis
