#ifndef QSWEEP_COORDINATOR_SERVICE_DATA_DIRECTORY_H_
#define QSWEEP_COORDINATOR_SERVICE_DATA_DIRECTORY_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace qsweep {

// Makes the directory, open to its owner only, unless it is there.
// FAILED_PRECONDITION QS7002: it cannot be made.
absl::Status MakeDataDirectory(const std::string& path);

// The bearer token in DIR/token; makes a random one (0600) when there is none.
// FAILED_PRECONDITION QS7002: it cannot be written. UNAUTHENTICATED QS6001: the
// file is there and unreadable or empty.
absl::StatusOr<std::string> ReadOrMakeToken(const std::string& directory);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_DATA_DIRECTORY_H_
