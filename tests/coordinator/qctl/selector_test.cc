#include "coordinator/qctl/selector.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/error.h"

namespace qsweep::qctl {
namespace {

using ::testing::ElementsAre;

TEST(ExpandSelectors, WritesRangesOut) {
  EXPECT_THAT(*ExpandSelectors({"10-12", "14", "2-10:4"}),
              ElementsAre("10", "11", "12", "14", "2", "6", "10"));
}

TEST(ExpandSelectors, LeavesNamesAndUuidsAlone) {
  EXPECT_THAT(*ExpandSelectors({"last", "my-sweep", "7f3a91c2", "job/7f3a-1",
                                "12-final", "1-2:x"}),
              ElementsAre("last", "my-sweep", "7f3a91c2", "job/7f3a-1",
                          "12-final", "1-2:x"));
}

TEST(ExpandSelectors, RefusesEmptyAndEndlessRanges) {
  for (const char* range : {"3-2", "1-9:0", "1-100000"}) {
    const absl::Status status = ExpandSelectors({range}).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage) << range;
  }
}

}  // namespace
}  // namespace qsweep::qctl
