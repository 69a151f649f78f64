#ifndef QSWEEP_COORDINATOR_QCTL_NAMES_H_
#define QSWEEP_COORDINATOR_QCTL_NAMES_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "common/base/error.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// What users read for the numbers and bytes of the protocol. Pure.

std::string JobStateName(v1::JobState state);  // "running"
// queued, leased, running, succeeded, failed, cancelled, blocked: the phase
// tells a task that loads from one that runs.
std::string TaskStateName(const v1::TaskSummary& task);

// The stored states a user's word stands for; empty: no such word.
std::vector<v1::TaskState> TaskStatesOf(absl::string_view name);
std::vector<v1::JobState> JobStatesOf(absl::string_view name);

bool HasEnded(v1::JobState state);

// "7f3a91c2-...": 16 bytes as text; "" for anything else.
std::string UuidText(const std::string& bytes);
std::string HexText(const std::string& bytes);

// How often a digest is shown to people.
std::string ShortHex(const std::string& bytes);

// Unix microseconds as a time.
absl::Time TimeOf(int64_t microseconds);

// What a wait for this job ends with: 0, 7 (tasks failed or documents were
// skipped), 8 (cancelled), 1.
ExitCode OutcomeOf(const v1::JobSummary& job);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_NAMES_H_
