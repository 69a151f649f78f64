#ifndef QSWEEP_TESTS_FUZZ_EXPECT_H_
#define QSWEEP_TESTS_FUZZ_EXPECT_H_

#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"

#include "common/base/error.h"

namespace qsweep::fuzz {

// Ends the process, which is how a fuzzer learns of a finding.
[[noreturn]] inline void Fail(const std::string& what) {
  std::fprintf(stderr, "FINDING: %s\n", what.c_str());
  std::abort();
}

inline void Expect(bool condition, const char* what) {
  if (!condition) {
    Fail(what);
  }
}

// A refusal must say which error of the registry it is.
inline void ExpectNamed(const absl::Status& status) {
  const auto info = GetErrorInfo(status);
  if (!status.ok() && !(info && absl::StartsWith(info->code, "QS"))) {
    Fail("an error without a code: " + status.ToString());
  }
}

// OK, or a refusal with a name. True: OK.
template <typename T>
bool OkOrNamed(const T& result) {
  ExpectNamed(result.status());
  return result.ok();
}

}  // namespace qsweep::fuzz

#endif  // QSWEEP_TESTS_FUZZ_EXPECT_H_
