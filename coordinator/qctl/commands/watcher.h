#ifndef QSWEEP_COORDINATOR_QCTL_COMMANDS_WATCHER_H_
#define QSWEEP_COORDINATOR_QCTL_COMMANDS_WATCHER_H_

#include <iosfwd>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "coordinator/qctl/context.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// Follows a job and shows it on `out` until it ends: a live screen on a
// terminal, lines elsewhere. Errors as FollowJob.
absl::StatusOr<v1::JobSummary> WatchOnto(Context& context,
                                         const std::string& selector,
                                         absl::Duration timeout,
                                         std::ostream& out, bool terminal);

// The sentence a job ended with, and what to do next, on stderr.
void NoteOutcome(Context& context, const v1::JobSummary& job);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_COMMANDS_WATCHER_H_
