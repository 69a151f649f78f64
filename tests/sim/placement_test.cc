#include "tests/sim/placement.h"

#include <iostream>

#include "gtest/gtest.h"

namespace qsweep::sim {
namespace {

TEST(Placement, LoadsHardlyMoreThanStrictAffinityAndLetsNobodyWait) {
  const std::vector<PlacementRow> rows = ComparePlacement();
  std::cout << FormatPlacement(rows);
  ASSERT_EQ(rows.size(), 4u);
  for (const PlacementRow& row : rows) {
    SCOPED_TRACE(FormatPlacement({row}));
    EXPECT_GT(row.strict.load_minutes, 0);
    EXPECT_LE(row.load_ratio(), 1.25);
    EXPECT_LE(row.policy.below_floor, row.policy.below_floor_max);
  }
}

}  // namespace
}  // namespace qsweep::sim
