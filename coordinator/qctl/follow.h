#ifndef QSWEEP_COORDINATOR_QCTL_FOLLOW_H_
#define QSWEEP_COORDINATOR_QCTL_FOLLOW_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "coordinator/qctl/context.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// What a follower is told; borrowed for the call.
struct Observer {
  // After each event; the summary is asked anew when rows may have come.
  std::function<void(const v1::WatchEvent&)> on_event;
  std::function<void(const v1::JobSummary&)> on_summary;
  // True: enough has been seen.
  std::function<bool(const v1::JobSummary&)> stop;
};

// Follows a job until it has ended or the observer says stop; survives a
// coordinator that restarts, for a minute. The last summary. DEADLINE_EXCEEDED
// QS4044 after `timeout`; QS4001 when the coordinator stays away.
absl::StatusOr<v1::JobSummary> FollowJob(Context& context,
                                         const std::string& selector,
                                         absl::Duration timeout,
                                         const Observer& observer);

// From now on Ctrl-C ends the program with exit code 130 after writing that
// the job goes on and how to come back. Does nothing when the environment does
// not handle signals.
void DetachOnInterrupt(const Context& context, const v1::JobSummary& job);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_FOLLOW_H_
