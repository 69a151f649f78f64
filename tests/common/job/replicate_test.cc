#include "common/job/replicate.h"

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"

namespace qsweep {
namespace {

using testing::FieldOf;
using testing::HintOf;

int FirstGroup(const std::string& quantizer, int replicate) {
  const auto drawn = ReplicateOf(*ParseQuantizer(quantizer), replicate);
  QSWEEP_EXPECT_OK(drawn);
  return drawn->scheme.group - GroupOffset(drawn->scheme);
}

// Written into digests' meaning: these numbers never change.
TEST(Replicate, BeginsGroups_WhereTheMirroredNumberSays) {
  EXPECT_EQ(FirstGroup("rtn", 0), 128);
  const int want[] = {64, 32, 96, 16, 80, 48, 112, 8};
  for (int r = 1; r <= 8; ++r) {
    EXPECT_EQ(FirstGroup("rtn:group=128", r), want[r - 1]) << r;
  }
  EXPECT_EQ(FirstGroup("rtn:group=128", 127), 127);
  EXPECT_EQ(FirstGroup("nf4:group=64", 3), 48);
  EXPECT_EQ(FirstGroup("hqq:group=24", 1), 12);
  EXPECT_EQ(FirstGroup("rtn:group=100", 1), 50);
  EXPECT_EQ(FirstGroup("rtn:group=100", 63), 98);  // 100 x 63/64
}

TEST(Replicate, BeginsSomewhereElse_ForEachOfThem) {
  for (const int group : {1, 2, 3, 7, 64, 100, 127, 128, 129, 1000}) {
    const auto rtn = ParseQuantizer("rtn:group=" + std::to_string(group));
    std::set<int> firsts;
    const int count = NumReplicates(rtn->scheme);
    for (int r = 0; r < count; ++r) {
      const int offset = GroupOffset(ReplicateOf(*rtn, r)->scheme);
      EXPECT_GE(offset, 0);
      EXPECT_LT(offset, group);
      firsts.insert(offset);
    }
    EXPECT_EQ(firsts.size(), static_cast<size_t>(count)) << group;
    EXPECT_GT(2 * count, group);
    EXPECT_FALSE(ReplicateOf(*rtn, count).ok());
  }
}

TEST(CheckReplicate, SaysWhyAndWhatToDo) {
  struct Case {
    const char* quantizer;
    const char* text;
    const char* hint;
  };
  for (const Case& c : {
           Case{"rtn:gran=channel", "gran=channel has none",
                "Leave it out, or use groups: group=128."},
           Case{"upstream:gpu", "gran=tensor has none",
                "Leave it out, or use groups: group=128."},
           Case{"rtn:group=64", "not in 0 to 63",
                "Use fewer replicates, or larger groups."},
           Case{"hqq:axis=0", "axis=0", "Use axis=1."},
           Case{"gptq", "those of gptq cannot move",
                "Leave it out: calibration.seeds draws other texts instead."},
           Case{"checkpoint:path=/m", "a ready checkpoint is as it is",
                "Leave it out."},
       }) {
    const auto refused = ReplicateOf(*ParseQuantizer(c.quantizer), 64);
    EXPECT_EQ(FieldOf(refused), "replicate");
    EXPECT_THAT(std::string(refused.status().message()),
                ::testing::HasSubstr(c.text));
    EXPECT_EQ(HintOf(refused), c.hint);
    EXPECT_EQ(*ReplicateOf(*ParseQuantizer(c.quantizer), 0),
              *ParseQuantizer(c.quantizer));
  }
}

TEST(EffectiveBits, CountsTheGroupThatAShiftAdds) {
  const auto bits = [](const char* quantizer) {
    return ParseQuantizer(quantizer)->scheme.EffectiveBits(10, 256);
  };
  EXPECT_EQ(bits("rtn:group=128"), 4 + 2 * 32 / 256.0);
  EXPECT_EQ(bits("rtn:group=128,replicate=1"), 4 + 3 * 32 / 256.0);
  EXPECT_EQ(bits("nf4:group=64"), 4 + 40 * 32 / 2560.0);
  EXPECT_EQ(bits("nf4:group=64,replicate=1"), 4 + 41 * 32 / 2560.0);
}

}  // namespace
}  // namespace qsweep
