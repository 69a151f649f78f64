#include "worker/engine/pass.h"

#include <limits>

#include <gtest/gtest.h>

namespace qsweep {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

TEST(DocumentSums, LeavesATokenOut_WhenEitherLossIsNotFinite) {
  DocumentSums sums;
  sums.Add({.nll = 2, .nll_fp = 1.5, .kl = 0.25, .top1 = true});
  sums.Add({.nll = 3, .nll_fp = kInf, .kl = 0.5, .top1 = true});
  sums.Add({.nll = kNan, .nll_fp = 4, .kl = 0.5, .top1 = true});
  EXPECT_EQ(sums.tokens, 3u);
  EXPECT_EQ(sums.nonfinite, 2u);
  EXPECT_EQ(sums.nll, 2);
  EXPECT_EQ(sums.nll_fp, 1.5);
  EXPECT_EQ(sums.kl, 0.25);
  EXPECT_EQ(sums.top1, 1u);
}

}  // namespace
}  // namespace qsweep
