#include "common/job/utf8.h"

#include <string>

#include "gtest/gtest.h"

namespace qsweep {
namespace {

TEST(IsValidUtf8, KnowsEveryBoundary) {
  for (const char* good :
       {"", "abc", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
        "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(IsValidUtf8(good)) << good;
  }
  for (const char* bad :
       {"\x80", "\xc1\xbf", "\xc2", "\xc2\x41", "\xe0\x9f\xbf", "\xed\xa0\x80",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff"}) {
    EXPECT_FALSE(IsValidUtf8(bad)) << bad;
  }
}

TEST(AppendUtf8, WritesOneToFourBytes) {
  std::string text;
  for (const uint32_t c : {0x41U, 0xE9U, 0x20ACU, 0x1F600U, 0xD800U}) {
    AppendUtf8(c, text);
  }
  EXPECT_EQ(text, "Aé€😀\xEF\xBF\xBD");
}

TEST(StripUnicodeWhitespace, TakesBothEndsOnly) {
  EXPECT_EQ(StripUnicodeWhitespace(" \n\u3000a b\u00a0\u2003\t"), "a b");
  EXPECT_EQ(StripUnicodeWhitespace("\u3000 "), "");
  EXPECT_EQ(StripUnicodeWhitespace("\u200ba"), "\u200ba");  // no white space
  EXPECT_EQ(StripUnicodeWhitespace("é"), "é");
}

}  // namespace
}  // namespace qsweep
