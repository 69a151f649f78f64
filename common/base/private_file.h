#ifndef QSWEEP_COMMON_BASE_PRIVATE_FILE_H_
#define QSWEEP_COMMON_BASE_PRIVATE_FILE_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qsweep {

// Files that hold a secret: their owner's alone, mode 0600.

// The whole file; nothing: there is none. FAILED_PRECONDITION QS6011: it cannot
// be read, or others may read it.
absl::StatusOr<std::optional<std::string>> ReadPrivateFile(
    const std::string& path);

// Replaces the file; a crash leaves the old one or the new. FAILED_PRECONDITION
// QS7002.
absl::Status WritePrivateFile(const std::string& path, absl::string_view text);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_PRIVATE_FILE_H_
