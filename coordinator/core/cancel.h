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

// Ends a job gently: what waits is dropped as by a cancel, what runs may
// finish, and counts; then the job is CANCELLED. STOPPING until then.
// Stopping a job that stops is OK. Errors: as DecideCancel.
Decision<JobNumber> DecideStop(const State& state, JobNumber job,
                               absl::string_view reason, const Now& now);

// The lease of `task` ended without a result and it would be run again:
// its stopping jobs do not wait for that. False: nobody does, the caller
// cancels the task.
bool DropStoppingJobs(Draft& draft, const Task& task);

// Fails each active job of `task` whose limit of quarantined tasks is reached
// now that this task is quarantined too, while other tasks are still live.
void FailJobsOverLimit(Draft& draft, const Task& task);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_CANCEL_H_
