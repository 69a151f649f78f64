#include "common/job/did_you_mean.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace qsweep {
namespace {

const std::vector<std::string> kWords = {"languages", "layers", "layerSets",
                                         "labels"};

TEST(EditDistance, CountsEdits) {
  EXPECT_EQ(EditDistance("", "abc"), 3);
  EXPECT_EQ(EditDistance("abc", "abc"), 0);
  EXPECT_EQ(EditDistance("abc", "acb"), 1);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
}

TEST(ClosestMatch, FindsTheNearWord) {
  EXPECT_EQ(ClosestMatch("langauges", kWords), "languages");
  EXPECT_EQ(ClosestMatch("layersets", kWords), "layerSets");
  EXPECT_EQ(ClosestMatch("label", kWords), "labels");
  EXPECT_EQ(ClosestMatch("corpus", kWords), std::nullopt);
  EXPECT_EQ(ClosestMatch("", kWords), std::nullopt);
  EXPECT_EQ(ClosestMatch(std::string(1000, 'l'), kWords), std::nullopt);
}

TEST(DidYouMeanHint, ListsFewChoices_WhenNoneIsNear) {
  EXPECT_EQ(DidYouMeanHint("layer", kWords), "Did you mean \"layers\"?");
  EXPECT_EQ(DidYouMeanHint("corpus", kWords),
            "Choose one of languages, layers, layerSets, labels.");
  EXPECT_EQ(DidYouMeanHint("corpus", std::vector<std::string>(13, "wxyz")), "");
}

}  // namespace
}  // namespace qsweep
