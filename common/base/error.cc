#include "common/base/error.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/base/error_codes.h"

namespace qsweep {
namespace {

// Private to this file; on the wire it is a qsweep.v1.ErrorDetail. Code, size
// of the field, field and hint: a field is what a user wrote, any byte may be
// in it.
constexpr char kPayloadUrl[] = "qsweep/error-info";
constexpr char kSeparator = '\0';

}  // namespace

void SetErrorInfo(absl::Status& status, const ErrorInfo& info) {
  const absl::string_view separator(&kSeparator, 1);
  status.SetPayload(kPayloadUrl, absl::Cord(absl::StrCat(
                                     info.code, separator, info.field.size(),
                                     separator, info.field, info.hint)));
}

absl::Status MakeError(const ErrorCode& code, absl::string_view message,
                       absl::string_view field, absl::string_view hint) {
  absl::Status status(code.status, message);
  SetErrorInfo(status, {code.code, std::string(field), std::string(hint)});
  return status;
}

std::optional<ErrorInfo> GetErrorInfo(const absl::Status& status) {
  const auto payload = status.GetPayload(kPayloadUrl);
  if (!payload) {
    return std::nullopt;
  }
  const std::vector<std::string> parts =
      absl::StrSplit(std::string(*payload), absl::MaxSplits(kSeparator, 2));
  size_t field_size = 0;
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[1], &field_size) ||
      field_size > parts[2].size()) {
    return std::nullopt;
  }
  return ErrorInfo{parts[0], parts[2].substr(0, field_size),
                   parts[2].substr(field_size)};
}

absl::Status WithFieldPrefix(const absl::Status& status,
                             absl::string_view prefix) {
  absl::Status prefixed = status;
  if (std::optional<ErrorInfo> info = GetErrorInfo(status)) {
    info->field = absl::StrCat(prefix, info->field);
    SetErrorInfo(prefixed, *info);
  }
  return prefixed;
}

ExitCode ExitCodeOf(const absl::Status& status) {
  if (status.ok()) {
    return ExitCode::kOk;
  }
  if (const std::optional<ErrorInfo> info = GetErrorInfo(status)) {
    for (const ErrorCode* code : AllErrorCodes()) {
      if (info->code == code->code) {
        return code->exit_code;
      }
    }
  }
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return ExitCode::kUsage;
    case absl::StatusCode::kNotFound:
      return ExitCode::kNotFound;
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return ExitCode::kNotAllowed;
    case absl::StatusCode::kAlreadyExists:
      return ExitCode::kConflict;
    case absl::StatusCode::kUnavailable:
      return ExitCode::kUnreachable;
    case absl::StatusCode::kDeadlineExceeded:
      return ExitCode::kTimeout;
    default:
      return ExitCode::kFailed;
  }
}

std::string FormatErrorForPeople(const absl::Status& status) {
  const ErrorInfo info = GetErrorInfo(status).value_or(ErrorInfo{});
  std::string text =
      info.code.empty() ? "error: " : absl::StrCat("error[", info.code, "]: ");
  absl::StrAppend(&text, status.message());
  if (!info.field.empty()) {
    absl::StrAppend(&text, "   at ", info.field);
  }
  if (!info.hint.empty()) {
    absl::StrAppend(&text, "\n  hint: ", info.hint);
  }
  return text;
}

}  // namespace qsweep
