#include "worker/sweep/row_units.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/random.h"

namespace qsweep {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Units = std::vector<std::vector<size_t>>;

Units Pack(const std::vector<int64_t>& rows, int64_t capacity) {
  return PackUnits(rows, capacity, 128);
}

TEST(PackUnits, FillsTheTightestUnit_LongestDocumentsFirst) {
  EXPECT_THAT(Pack({}, 256), IsEmpty());
  EXPECT_THAT(Pack({5}, 256), ElementsAre(ElementsAre(0)));
  // 200 and 180 leave 56 and 76: 70 goes to the second, 56 to the first.
  EXPECT_THAT(Pack({56, 180, 70, 200}, 256),
              ElementsAre(ElementsAre(3, 0), ElementsAre(1, 2)));
  // Equal ones stay in order.
  EXPECT_THAT(Pack({128, 128, 128}, 256),
              ElementsAre(ElementsAre(0, 1), ElementsAre(2)));
}

TEST(PackUnits, FillsTheLastTileOfADocument_ThatIsLongerThanAUnit) {
  // 300 rows are three tiles, of which 84 rows are free.
  EXPECT_THAT(Pack({84, 300, 85}, 256),
              ElementsAre(ElementsAre(1, 0), ElementsAre(2)));
  EXPECT_THAT(Pack({384, 1}, 256), ElementsAre(ElementsAre(0), ElementsAre(1)));
}

TEST(PackUnits, HasEachDocumentOnce_AndLittleIsPadded) {
  Random random(1);
  std::vector<int64_t> rows;
  for (int i = 0; i < 500; ++i) {  // most are short, some longer than a unit
    rows.push_back(
        1 + static_cast<int64_t>(random.Uniform() * (i % 50 == 0 ? 400 : 120)));
  }
  std::vector<size_t> seen;
  int64_t asked = 0;
  int64_t padded = 0;
  for (const std::vector<size_t>& unit : Pack(rows, 256)) {
    ASSERT_FALSE(unit.empty());
    int64_t sum = 0;
    for (const size_t document : unit) {
      seen.push_back(document);
      sum += rows[document];
    }
    EXPECT_LE(sum, std::max<int64_t>(256, (rows[unit[0]] + 127) / 128 * 128));
    asked += sum;
    padded += (sum + 127) / 128 * 128;
  }
  std::ranges::sort(seen);
  ASSERT_EQ(seen.size(), rows.size());
  for (size_t i = 0; i < seen.size(); ++i) {
    EXPECT_EQ(seen[i], i);
  }
  EXPECT_LT(padded, asked + asked / 50);
}

}  // namespace
}  // namespace qsweep
