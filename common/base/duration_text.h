#ifndef QSWEEP_COMMON_BASE_DURATION_TEXT_H_
#define QSWEEP_COMMON_BASE_DURATION_TEXT_H_

#include <optional>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace qsweep {

// A duration as people write it: "90s", "5m", "1h30m", "30d", or "90" for
// seconds. Nothing: it is none, is below zero or has no end.
std::optional<absl::Duration> ParseDurationText(absl::string_view text);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_DURATION_TEXT_H_
