#include "common/base/error.h"

#include <set>
#include <string>

#include "gtest/gtest.h"

#include "common/base/error_codes.h"

namespace qsweep {
namespace {

TEST(Error, CarriesCodeFieldAndHint) {
  const absl::Status status =
      MakeError(kUnknownField, "no field \"laguages\"", "laguages",
                "did you mean \"languages\"?");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const ErrorInfo info = GetErrorInfo(status).value();
  EXPECT_EQ(info.code, "QS1001");
  EXPECT_EQ(info.field, "laguages");
  EXPECT_EQ(info.hint, "did you mean \"languages\"?");
}

TEST(Error, KeepsEveryByteOfAField) {
  const std::string field("a\0b\0", 4);
  const ErrorInfo info =
      GetErrorInfo(MakeError(kUnknownField, "x", field, "hint")).value();
  EXPECT_EQ(info.code, "QS1001");
  EXPECT_EQ(info.field, field);
  EXPECT_EQ(info.hint, "hint");
}

TEST(Error, PrintsCodeTextPlaceAndHint) {
  EXPECT_EQ(
      FormatErrorForPeople(MakeError(kBadSelector, "cannot read",
                                     "layerSets[0]", "write L0+L9")),
      "error[QS1010]: cannot read   at layerSets[0]\n  hint: write L0+L9");
}

TEST(Error, PutsThePrefixBeforeTheField) {
  const absl::Status status =
      WithFieldPrefix(MakeError(kBadValue, "x", "[0]"), "layerSets");
  EXPECT_EQ(GetErrorInfo(status)->field, "layerSets[0]");
}

TEST(Error, ExitsByItsCode_ElseByItsStatus) {
  EXPECT_EQ(ExitCodeOf(absl::OkStatus()), ExitCode::kOk);
  EXPECT_EQ(ExitCodeOf(MakeError(kDirectoryInUse, "x")), ExitCode::kConflict);
  EXPECT_EQ(ExitCodeOf(absl::UnavailableError("x")), ExitCode::kUnreachable);
}

TEST(ErrorCodes, AreUniqueAndInOrder) {
  std::set<std::string> seen;
  std::string last;
  for (const ErrorCode* code : AllErrorCodes()) {
    EXPECT_TRUE(seen.insert(code->code).second) << code->code;
    EXPECT_LT(last, code->code);
    last = code->code;
    EXPECT_NE(code->exit_code, ExitCode::kOk);
  }
}

}  // namespace
}  // namespace qsweep
