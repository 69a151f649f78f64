#ifndef QSWEEP_COORDINATOR_CORE_CANCEL_H_
#define QSWEEP_COORDINATOR_CORE_CANCEL_H_

#include "absl/strings/string_view.h"

#include "coordinator/core/decision.h"
#include "coordinator/core/state.h"

namespace qsweep {

// Ends a job: its subscriptions go; a task that nobody else waits for is
// cancelled, running or not. Cancelling a cancelled job is OK and changes
// nothing. NOT_FOUND QS4020; FAILED_PRECONDITION QS4023: it has ended.
Decision<JobNumber> DecideCancel(const State& state, JobNumber job,
                                 absl::string_view reason, const Now& now);

// Fails each active job of `task` whose limit of quarantined tasks is reached
// now that this task is quarantined too, while other tasks are still live.
void FailJobsOverLimit(Draft& draft, const Task& task);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_CANCEL_H_
