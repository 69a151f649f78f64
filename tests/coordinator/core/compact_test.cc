#include "coordinator/core/compact.h"

#include <cstdint>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/ids.h"

namespace qsweep {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Numbers = SmallList<uint32_t>;

TEST(SmallList, TakesTwelveBytes) { EXPECT_EQ(sizeof(Numbers), 12u); }

TEST(SmallList, KeepsItsElements_WhenItGrowsAndShrinks) {
  Numbers list;
  EXPECT_THAT(list, IsEmpty());
  list.push_back(5);
  EXPECT_THAT(list, ElementsAre(5));
  list.InsertSorted(9);
  list.InsertSorted(1);
  list.InsertSorted(7);
  EXPECT_THAT(list, ElementsAre(1, 5, 7, 9));
  EXPECT_TRUE(list.EraseSorted(5));
  EXPECT_FALSE(list.EraseSorted(6));
  EXPECT_THAT(list, ElementsAre(1, 7, 9));
  EXPECT_EQ(list.back(), 9u);
  EXPECT_EQ(list[1], 7u);
  list.clear();
  EXPECT_THAT(list, IsEmpty());
  list.push_back(2);
  EXPECT_THAT(list, ElementsAre(2));
}

TEST(SmallList, HoldsNothing_WhenItOnlyReserved) {
  Numbers list;
  list.reserve(3);
  EXPECT_THAT(list, IsEmpty());
  list.push_back(4);
  EXPECT_THAT(list, ElementsAre(4));
}

TEST(SmallList, IsAValue_WithOneElementOrMany) {
  const Numbers one = {3};
  const Numbers many = {1, 2, 3};
  Numbers copy = one;
  EXPECT_THAT(copy, ElementsAre(3));
  copy = many;
  copy.push_back(4);
  EXPECT_THAT(copy, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(many, ElementsAre(1, 2, 3));
  Numbers moved = std::move(copy);
  EXPECT_THAT(moved, ElementsAre(1, 2, 3, 4));
  moved = one;
  EXPECT_THAT(moved, ElementsAre(3));
}

TEST(Compact, ComparesWithItsId) {
  const Compact<TaskId> two = TaskId(2);
  EXPECT_TRUE(two == TaskId(2));
  EXPECT_TRUE(TaskId(1) < two);
  EXPECT_TRUE(two < TaskId(3));
  EXPECT_FALSE(Compact<TaskId>().valid());
}

}  // namespace
}  // namespace qsweep
