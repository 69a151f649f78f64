#ifndef QSWEEP_COORDINATOR_QCTL_ERROR_TEXT_H_
#define QSWEEP_COORDINATOR_QCTL_ERROR_TEXT_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace qsweep::qctl {

// The last error that another of our programs printed for people in `text`
// (FormatErrorForPeople), as a status again. field: used when it names none.
// Nothing when there is none of a known code.
std::optional<absl::Status> FindErrorText(absl::string_view text,
                                          const std::string& field);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_ERROR_TEXT_H_
