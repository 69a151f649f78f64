#include "common/base/error_json.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"

namespace qsweep {
namespace {

TEST(FormatErrorAsJson, HoldsCodePlaceHintAndExitCode) {
  EXPECT_EQ(FormatErrorAsJson(MakeError(kJobNotFound, "no job", "JOB", "look")),
            "{\"schema\":\"qctl/v1\",\"kind\":\"Error\",\"code\":\"QS4020\","
            "\"message\":\"no job\",\"field\":\"JOB\",\"hint\":\"look\","
            "\"exit\":3}\n");
}

TEST(ParseErrorJson, FindsTheLastErrorBetweenLinesOfALog) {
  const absl::Status first = MakeError(kBadValue, "first");
  const absl::Status last =
      MakeError(kModelNotFound, "no \"model\"", "/m\n", "look");
  const std::string text = FormatErrorAsJson(first) + "I 12:00 loading {\n" +
                           FormatErrorAsJson(last) + "[1]\n";
  EXPECT_EQ(ParseErrorJson(text), last);
}

TEST(ParseErrorJson, FindsNothing_WhenNoLineIsAnErrorOfOurs) {
  for (const std::string text :
       {"", "error[QS1004]: text for people", "{\"kind\":\"Error\"}",
        "{\"kind\":7}", "{\"kind\":\"Error\",\"code\":\"QS0000\"}"}) {
    EXPECT_EQ(ParseErrorJson(text), std::nullopt) << text;
  }
}

TEST(WantsJson, ReadsEveryWayToAsk) {
  using Arguments = std::vector<std::string>;
  EXPECT_TRUE(WantsJson(Arguments{"describe", "-o", "json"}));
  EXPECT_TRUE(WantsJson(Arguments{"--output=jsonl", "score"}));
  EXPECT_TRUE(WantsJson(Arguments{"-ojson"}));
  EXPECT_TRUE(WantsJson(Arguments{"--output", "yaml"}));
  EXPECT_FALSE(WantsJson(Arguments{"json", "-o", "table"}));
  EXPECT_FALSE(WantsJson(Arguments{"-o"}));
}

}  // namespace
}  // namespace qsweep
