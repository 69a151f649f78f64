#ifndef QSWEEP_COORDINATOR_CORE_CANCEL_H_
#define QSWEEP_COORDINATOR_CORE_CANCEL_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"

#include "coordinator/core/decision.h"
#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"

namespace qsweep {

// Ends a job: its subscriptions go; a task that nobody else waits for is
// cancelled, running or not. Of a job with more than drop_slice_tasks waiting
// tasks only what runs ends with this decision: the job is STOPPING, so that it
// is granted no lease any more, and what waits is dropped in slices
// (DecideDropWaiting). Cancelling a cancelled job is OK and changes nothing.
// NOT_FOUND QS4020; FAILED_PRECONDITION QS4023: it has ended.
Decision<JobNumber> DecideCancel(const State& state, JobNumber job,
                                 absl::string_view reason,
                                 const Settings& settings, const Now& now);

// Ends a job gently: what waits is dropped as by a cancel, what runs may
// finish, and counts; then the job is CANCELLED. STOPPING until then.
// Stopping a job that stops is OK. Errors: as DecideCancel.
Decision<JobNumber> DecideStop(const State& state, JobNumber job,
                               absl::string_view reason,
                               const Settings& settings, const Now& now);

// Whether a job that stops has tasks that wait, which is so until slices have
// dropped them.
bool HasTasksToDrop(const Job& job);

// Drops the next drop_slice_tasks of them; with its last live task the job
// ends. What the slices still have to do is what State says: a restart goes on.
std::vector<Mutation> DecideDropWaiting(const State& state, JobNumber job,
                                        const Settings& settings,
                                        const Now& now);

// Ends a job that stops and has nothing live any more: FAILED when so many
// failed tasks are its limit, else CANCELLED.
void EndStoppingJob(Draft& draft, const Job& job, int64_t quarantined);

// The lease of `task` ended without a result and it would be run again:
// its stopping jobs do not wait for that. False: nobody does, the caller
// cancels the task.
bool DropStoppingJobs(Draft& draft, const Task& task);

// Fails each active job of `task` whose limit of quarantined tasks is reached
// now that this task is quarantined too, while other tasks are still live.
// Many that wait are dropped in slices, as by a cancel.
void FailJobsOverLimit(Draft& draft, const Task& task,
                       const Settings& settings);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_CANCEL_H_
