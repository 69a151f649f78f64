// Runs the properties with a seed that is the same every time, so that a test
// run fails for a change and not by chance. RapidCheck prints the seed, and of
// a failure the smallest case it found and how to repeat it. Other cases, or
// more of them:
//   RC_PARAMS="seed=7 max_success=10000" build/dev/tests/test_properties
#include <stdlib.h>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

int main(int argc, char** argv) {
  const char* given = getenv("RC_PARAMS");
  std::string params = given == nullptr ? "" : given;
  const auto add = [&params](const char* key, const char* value) {
    if (!absl::StrContains(params, key)) {
      absl::StrAppend(&params, params.empty() ? "" : " ", key, value);
    }
  };
  add("seed=", "20261127");
  add("max_success=", "1000");
  setenv("RC_PARAMS", params.c_str(), 1);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
