#ifndef QSWEEP_COORDINATOR_QCTL_COMMANDS_WATCHER_H_
#define QSWEEP_COORDINATOR_QCTL_COMMANDS_WATCHER_H_

#include <cstdint>
#include <iosfwd>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "coordinator/qctl/context.h"
#include "coordinator/qctl/output/watch_view.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// A job as it runs, in lines for logs: one when its state changes, with each
// whole percent of its tasks, and every 10 s; the first cells at once, then
// now and then. `out` outlives it. Single-thread.
class WatchLines {
 public:
  explicit WatchLines(std::ostream& out) : out_(out) {}
  void Add(const WatchView& view, absl::Time now);

 private:
  std::ostream& out_;
  std::string state_;
  int64_t percent_ = -1;
  int64_t cells_ = 0;  // that were shown
  absl::Time last_line_ = absl::InfinitePast();
  absl::Time last_cells_ = absl::InfinitePast();
};

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
