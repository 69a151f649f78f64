#include "coordinator/core/balance.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;

TEST(Balance, KeepsUnitsWhole_WhenThatIsEven) {
  EXPECT_THAT(Balance({{0, 3}, {0, 3}, {1, 4}, {2, 1}, {2, 1}}, 2),
              ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3, 4)));
}

TEST(Balance, CutsTheHeaviestUnit_WhenUnitsAreUneven) {
  EXPECT_THAT(Balance({{0, 4}, {0, 4}, {0, 4}, {1, 1}, {1, 1}, {2, 2}}, 4),
              ElementsAre(ElementsAre(0), ElementsAre(1), ElementsAre(2),
                          ElementsAre(3, 4, 5)));
}

TEST(Balance, LeavesAHeavyItemAlone) {
  EXPECT_THAT(Balance({{0, 1}, {0, 100}, {0, 1}, {1, 1}}, 3),
              ElementsAre(ElementsAre(0, 2), ElementsAre(1), ElementsAre(3)));
}

TEST(Balance, MakesAChunkAnItem_WhenMoreAreWanted) {
  EXPECT_THAT(Balance({{0, 2}, {0, 1}}, 9),
              ElementsAre(ElementsAre(0), ElementsAre(1)));
  EXPECT_THAT(Balance({{7, 2}, {7, 1}}, 0), ElementsAre(ElementsAre(0, 1)));
}

TEST(Balance, CountsItems_WhenTheyWeighNothing) {
  EXPECT_THAT(Balance({{0, 0}, {0, 0}, {0, 0}, {0, 0}}, 2),
              ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3)));
}

// Rounded sums of these make a chunk of 15 and 5 heavier than another of 15 by
// more than 5, so that the 5 would go to and fro.
TEST(Balance, Ends_WhenRoundedSumsDiffer) {
  EXPECT_THAT(Balance({{1, 5 / 3.5}, {1, 15 / 3.5}, {0, 15 / 3.5}}, 2),
              ElementsAre(ElementsAre(0, 1), ElementsAre(2)));
}

}  // namespace
}  // namespace qsweep::testing
