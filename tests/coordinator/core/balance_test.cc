#include "coordinator/core/balance.h"

#include <algorithm>
#include <cstddef>
#include <vector>

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

// Weights that do not add up exactly: two chunks must not give one item to each
// other for ever.
TEST(Balance, Ends_WhateverTheWeights) {
  for (int num_items = 1; num_items <= 40; ++num_items) {
    for (size_t wanted = 1; wanted <= 12; ++wanted) {
      for (const double unit_weight : {1 / 3.5, 0.1, 7 / 3.5, 1e6 / 3.5}) {
        std::vector<BalancedItem> items;
        for (int i = 0; i < num_items; ++i) {
          items.push_back({.unit = i / 5, .weight = unit_weight * (1 + i % 3)});
        }
        EXPECT_EQ(Balance(items, wanted).size(),
                  std::min<size_t>(wanted, items.size()));
      }
    }
  }
}

}  // namespace
}  // namespace qsweep::testing
