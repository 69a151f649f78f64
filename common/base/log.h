#ifndef QSWEEP_COMMON_BASE_LOG_H_
#define QSWEEP_COMMON_BASE_LOG_H_

#include "absl/strings/string_view.h"

namespace qsweep {

// Lines on stderr, in order, one per state change, with job, task, epoch,
// worker. Thread-safe. Log once, where an error is handled; never in core.
void LogInfo(absl::string_view line);
void LogWarning(absl::string_view line);
void LogError(absl::string_view line);

// Puts the program's name into every line. Call once, before threads start.
void SetLogName(absl::string_view name);

// Drops every line from now on: in a simulation each fault would log one.
void SilenceLog();

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_LOG_H_
