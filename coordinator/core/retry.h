#ifndef QSWEEP_COORDINATOR_CORE_RETRY_H_
#define QSWEEP_COORDINATOR_CORE_RETRY_H_

#include <vector>

#include "coordinator/core/decision.h"
#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"
#include "coordinator/core/submit.h"

namespace qsweep {

// Another try of what a job did not get: exactly what failed or is missing.

// Makes a task that was QUARANTINED or CANCELLED READY for `wanting`, with new
// budgets and the same sequence of epochs. Other jobs that ended or are
// stopping do not wait for it any more.
void ReviveTask(Draft& draft, const Task& task, JobNumber wanting);

// Whether the job's measurements have to be planned again: it has ended, its
// tasks may have been dropped, and others may have measured in the meantime.
bool NeedsNewPlan(const Job& job);

// Failed and cancelled tasks of the job become READY with new budgets; a job
// that ended goes on. None, or it is being planned: OK, no mutation.
// FAILED_PRECONDITION QS4023: it stops.
Decision<JobNumber> DecideRetryTasks(const State& state, JobNumber job,
                                     const Now& now);

// Plans a job that ended over what is measured now. prepared: its own spec;
// measured: as for DecideSubmit. Nothing missing: it has SUCCEEDED. A job that
// succeeded: OK, no mutation. INVALID_ARGUMENT QS1051: too many tasks.
Decision<JobNumber> DecideReplan(const State& state, JobNumber job,
                                 const PreparedSubmit& prepared,
                                 const std::vector<PanelStatuses>& measured,
                                 const Settings& settings, const Now& now);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_RETRY_H_
