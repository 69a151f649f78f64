#include "common/base/token_text.h"

#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/random.h"
#include "tests/support/error_matchers.h"

namespace qsweep::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::string& Hex() {
  static const std::string hex =
      "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";
  return hex;
}

TEST(Secret, IsNewEachTime) {
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    seen.insert(Secret::Make().hex());
  }
  EXPECT_EQ(seen.size(), 100u);
  EXPECT_EQ(seen.begin()->size(), 64u);
}

TEST(Token, ReadsBackWhatItWrote) {
  const Secret secret = *Secret::FromHex(Hex());
  const std::string access =
      FormatToken(AccessTokenText{.id = TokenId(7), .secret = secret});
  EXPECT_EQ(access, absl::StrCat("qsw-7-", Hex()));
  const auto access_back = ParseAccessToken(absl::StrCat(" ", access, "\n"));
  QSWEEP_ASSERT_OK(access_back);
  EXPECT_EQ(access_back->id, TokenId(7));
  EXPECT_EQ(access_back->secret.hex(), Hex());

  const Digest ca = Digest::Of("authority");
  const std::string join = FormatToken(
      JoinTokenText{.ca = ca, .id = TokenId(1234), .secret = secret});
  EXPECT_THAT(join, StartsWith("qsw-join-"));
  const auto join_back = ParseJoinToken(join);
  QSWEEP_ASSERT_OK(join_back);
  EXPECT_EQ(join_back->ca, ca);
  EXPECT_EQ(join_back->id, TokenId(1234));
  EXPECT_EQ(join_back->secret.digest(), secret.digest());
}

TEST(Token, RefusesWhatIsNotOne_AndDoesNotRepeatIt) {
  const std::string ca = Digest::Of("authority").hex();
  for (const std::string& text : {std::string(),
                                  std::string("qsw-"),
                                  std::string("qsw-7"),
                                  "qsw-7-" + Hex().substr(1),
                                  "qsw-7-" + Hex() + "0",
                                  "qsw-7" + Hex(),
                                  "qsw-0-" + Hex(),
                                  "qsw--1-" + Hex(),
                                  "qsw-07-" + Hex(),
                                  "qsw-+7-" + Hex(),
                                  "qsw- 7-" + Hex(),
                                  "qsw-7x-" + Hex(),
                                  "qsw-9223372036854775808-" + Hex(),
                                  "QSW-7-" + Hex(),
                                  "7-" + Hex(),
                                  "qsw-7-" + Hex() + "-1",
                                  "qsw-7-" + std::string(64, 'g'),
                                  "qsw-7-" + std::string(64, 'A'),
                                  "qsw-7-" + std::string(64, '\0'),
                                  "qsw-join-" + ca + "-7-" + Hex()}) {
    const auto token = ParseAccessToken(text);
    EXPECT_EQ(CodeOf(token), "QS6007") << text;
    EXPECT_THAT(token.status().ToString(), Not(HasSubstr(Hex().substr(2, 20))));
  }
  for (const std::string& text :
       {std::string(), "qsw-7-" + Hex(), "qsw-join-7-" + Hex(),
        "qsw-join-" + ca + "-7", "qsw-join-" + ca + "-0-" + Hex(),
        "qsw-join-" + ca.substr(1) + "-7-" + Hex(),
        "qsw-join-" + std::string(64, 'F') + "-7-" + Hex(),
        "qsw-join-" + ca + "-7-" + Hex() + "-", "qsw-join--7-" + Hex()}) {
    const auto token = ParseJoinToken(text);
    EXPECT_EQ(CodeOf(token), "QS6007") << text;
    EXPECT_THAT(token.status().ToString(), Not(HasSubstr(Hex().substr(2, 20))));
  }
}

// Whatever a text is mutated to, it is a token only when it reads back as
// itself: no two texts name one token.
TEST(Token, HasOneSpelling_WhateverItIsMutatedTo) {
  Random random(7);
  const std::string join =
      FormatToken(JoinTokenText{.ca = Digest::Of("authority"),
                                .id = TokenId(42),
                                .secret = *Secret::FromHex(Hex())});
  int accepted = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text = join;
    for (uint64_t edits = 1 + random.Below(2); edits > 0; --edits) {
      const size_t at = random.Below(text.size());
      switch (random.Below(3)) {
        case 0:
          text[at] = static_cast<char>(random.Below(256));
          break;
        case 1:
          text.erase(at, 1);
          break;
        default:
          text.insert(at, 1, "0123456789abcdef-qswjoin"[random.Below(24)]);
      }
    }
    if (const auto token = ParseJoinToken(text); token.ok()) {
      ++accepted;
      EXPECT_EQ(FormatToken(*token),
                std::string(absl::StripAsciiWhitespace(text)));
    }
  }
  EXPECT_GT(accepted, 100);  // a digit for another
}

TEST(EqualInConstantTime, ComparesBytes) {
  EXPECT_TRUE(EqualInConstantTime("", ""));
  EXPECT_TRUE(EqualInConstantTime("abc", "abc"));
  EXPECT_FALSE(EqualInConstantTime("abc", "abd"));
  EXPECT_FALSE(EqualInConstantTime("abc", "ab"));
}

}  // namespace
}  // namespace qsweep::testing
