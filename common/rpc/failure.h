#ifndef QSWEEP_COMMON_RPC_FAILURE_H_
#define QSWEEP_COMMON_RPC_FAILURE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "qsweep/v1/task.pb.h"

namespace qsweep {

// The Failure that says what status says: code, message, and its ErrorInfo.
// Text that is not UTF-8 is made so, because proto refuses it. retryable:
// whether another attempt may end differently. status must not be OK.
v1::Failure FailureFromStatus(const absl::Status& status, bool retryable);

// The Status a Failure came from. A code this build does not know becomes
// UNKNOWN, and so does OK: a Failure is never a success.
absl::Status StatusFromFailure(const v1::Failure& failure);

// Whether the fault lies with the machine that says so, not with the task, so
// that another worker may succeed. By its code where the table in failure.cc
// has it; else all but INVALID_ARGUMENT, OUT_OF_RANGE, NOT_FOUND,
// ALREADY_EXISTS and UNIMPLEMENTED.
bool IsRetryable(const absl::Status& status);

// text with every byte that is not part of valid UTF-8 replaced by "?", and cut
// to max_bytes at a character's end.
std::string CleanText(absl::string_view text, size_t max_bytes);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_RPC_FAILURE_H_
