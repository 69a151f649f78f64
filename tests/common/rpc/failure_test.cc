#include "common/rpc/failure.h"

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"

namespace qsweep {
namespace {

TEST(Failure, KeepsEverything_WhenItGoesThereAndBack) {
  const absl::Status status =
      MakeError(kLayerOutOfRange, "L99 of a model with layers L0-L29",
                "layerSets[0]", "use L0 to L29");
  const v1::Failure failure = FailureFromStatus(status, true);
  EXPECT_TRUE(failure.retryable());
  v1::Failure parsed;
  ASSERT_TRUE(parsed.ParseFromString(failure.SerializeAsString()));
  const absl::Status back = StatusFromFailure(parsed);
  EXPECT_EQ(back.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(back.message(), status.message());
  EXPECT_EQ(GetErrorInfo(back)->code, "QS1011");
  EXPECT_EQ(GetErrorInfo(back)->field, "layerSets[0]");
  EXPECT_EQ(GetErrorInfo(back)->hint, "use L0 to L29");
}

TEST(Failure, IsNeverASuccess_WhenTheCodeIsOkOrUnknown) {
  for (const int code : {0, -1, 17, 999}) {
    SCOPED_TRACE(code);
    v1::Failure failure;
    failure.set_status_code(code);
    EXPECT_EQ(StatusFromFailure(failure).code(), absl::StatusCode::kUnknown);
  }
}

TEST(CleanText, ReplacesOnlyWhatIsNotUtf8) {
  struct Case {
    const char* name;
    std::string text;
    std::string want;
  };
  for (const Case& c : {
           Case{"ascii", "abc", "abc"},
           Case{"four scripts", "é 中 😀 ไ", "é 中 😀 ไ"},
           Case{"lone continuation", "a\x80z", "a?z"},
           Case{"cut character", "a\xE4\xB8", "a??"},
           Case{"overlong", "\xC0\xAF", "??"},
           Case{"surrogate", "\xED\xA0\x80", "???"},
           Case{"beyond U+10FFFF", "\xF4\x90\x80\x80", "????"},
       }) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(CleanText(c.text, 100), c.want);
  }
}

TEST(CleanText, CutsAtACharactersEnd_WhenTooLong) {
  EXPECT_EQ(CleanText("中中", 5), "中");
  EXPECT_EQ(CleanText("中中", 6), "中中");
}

TEST(IsRetryable, IsTrue_WhenTheMachineIsAtFault) {
  for (const absl::Status& status :
       {absl::UnavailableError(""), absl::ResourceExhaustedError(""),
        absl::FailedPreconditionError("the engine is busy"),
        MakeError(kModelNotFound, ""), MakeError(kModelDigestMismatch, ""),
        MakeError(kTruncatedModel, ""), MakeError(kOutOfMemory, ""),
        MakeError(kEngineDied, ""), MakeError(kSpoolFull, ""),
        MakeError(kArtifactMismatch, "")}) {
    EXPECT_TRUE(IsRetryable(status)) << status;
  }
}

TEST(IsRetryable, IsFalse_WhenTheTaskIsAtFault) {
  for (const absl::Status& status :
       {absl::InvalidArgumentError(""), absl::UnimplementedError(""),
        MakeError(kUnknownMethod, ""), MakeError(kLayerOutOfRange, ""),
        MakeError(kNonFiniteWeights, ""), MakeError(kArtifactNotFound, ""),
        MakeError(kUnsupportedArchitecture, "")}) {
    EXPECT_FALSE(IsRetryable(status)) << status;
  }
}

}  // namespace
}  // namespace qsweep
