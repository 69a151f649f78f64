#ifndef QSWEEP_COMMON_BASE_ERROR_H_
#define QSWEEP_COMMON_BASE_ERROR_H_

#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace qsweep {

// Exit codes of every program.
enum class ExitCode {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,  // usage or invalid spec
  kNotFound = 3,
  kNotAllowed = 4,
  kConflict = 5,
  kUnreachable = 6,
  kPartial = 7,    // waited; some tasks failed or documents were skipped
  kCancelled = 8,  // waited; cancelled
  kDifferences = 9,
  kNeverFits = 10,
  kTimeout = 124,
  kInterrupted = 130,
};

// A row of the registry in error_codes.h. A code never changes meaning.
struct ErrorCode {
  const char* code;  // "QS1001"
  absl::StatusCode status;
  ExitCode exit_code;
  const char*
      title;  // what it means, one sentence; docs/reference/errors.md shows it
};

// What travels with a Status: read by people and by `-o json`.
struct ErrorInfo {
  std::string code;   // "QS1001"; empty for an error without one
  std::string field;  // spec field or file it is about
  std::string hint;   // what to do
};

// A Status of code.status whose text is message and whose payload is the
// ErrorInfo. field: spec path ("languages[0]") or file. hint: an imperative
// sentence, or empty.
absl::Status MakeError(const ErrorCode& code, absl::string_view message,
                       absl::string_view field = "",
                       absl::string_view hint = "");

// The same status with `prefix` put before its field: "layerSets" + "[0]".
absl::Status WithFieldPrefix(const absl::Status& status,
                             absl::string_view prefix);

// The info MakeError put in, or nothing.
std::optional<ErrorInfo> GetErrorInfo(const absl::Status& status);

// Puts info into status, replacing what is there. For status_conversion.
void SetErrorInfo(absl::Status& status, const ErrorInfo& info);

// Process exit code: the registry's for a known code, else by status code.
ExitCode ExitCodeOf(const absl::Status& status);

// "error[QS1042]: message   at field\n  hint: ...": what a program prints on
// stderr.
std::string FormatErrorForPeople(const absl::Status& status);

// All codes, in order.
std::span<const ErrorCode* const> AllErrorCodes();

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_ERROR_H_
