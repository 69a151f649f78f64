#include "coordinator/analysis/resamples.h"

#include "gtest/gtest.h"

#include "common/base/random.h"

namespace qsweep::analysis {
namespace {

TEST(Resamples, TakesItsDrawsInOrder_FromOneStream) {
  const Resamples resamples(5, 3, 42);
  Random random(42);
  for (int b = 0; b < 3; ++b) {
    std::vector<int> counts(5);
    for (int draw = 0; draw < 5; ++draw) {
      ++counts[random.Below(5)];
    }
    for (size_t unit = 0; unit < 5; ++unit) {
      EXPECT_EQ(resamples.weights(b)[unit], counts[unit]);
    }
  }
}

TEST(Resamples, IsNotUsable_WhenOneUnitWasDrawnAlone) {
  const Resamples one(1, 2, 0);
  EXPECT_FALSE(one.usable(0));
  const Resamples two(2, 200, 0);
  int usable = 0;
  for (int b = 0; b < two.count(); ++b) {
    EXPECT_EQ(two.usable(b), two.weights(b)[0] == 1);
    usable += two.usable(b) ? 1 : 0;
  }
  EXPECT_GT(usable, 60);
  EXPECT_LT(usable, 140);
}

// Bit for bit: the blocks of the product must not change the order of
// additions.
TEST(WeightedSums, EqualsThePlainLoop_ForEveryShape) {
  Random random(7);
  for (const int units : {1, 2, 3, 17}) {
    for (const int num_columns : {1, 7, 8, 9, 20}) {
      const Resamples resamples(units, 11, 3);
      Columns columns(units);
      for (int c = 0; c < num_columns; ++c) {
        std::vector<double> values;
        for (int u = 0; u < units; ++u) {
          values.push_back(random.Uniform() - 0.5);
        }
        EXPECT_EQ(columns.Add(values), c);
      }
      const size_t stride =
          static_cast<size_t>(columns.num_blocks() * Columns::kWidth);
      for (const int count : {1, 4, 6}) {
        std::vector<double> sums(stride * static_cast<size_t>(count));
        WeightedSums(resamples, 5, count, columns, sums);
        for (int i = 0; i < count; ++i) {
          for (int c = 0; c < num_columns; ++c) {
            double want = 0;
            for (int u = 0; u < units; ++u) {
              want += columns.at(c, u) *
                      resamples.weights(5 + i)[static_cast<size_t>(u)];
            }
            EXPECT_EQ(
                sums[static_cast<size_t>(i) * stride + static_cast<size_t>(c)],
                want);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace qsweep::analysis
