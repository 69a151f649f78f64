#ifndef QSWEEP_COORDINATOR_CORE_JOB_CONTROL_H_
#define QSWEEP_COORDINATOR_CORE_JOB_CONTROL_H_

#include <string>
#include <vector>

#include "coordinator/core/decision.h"
#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"

namespace qsweep {

// What a user may do to a job besides ending it (cancel.h) and trying again
// (retry.h). Each states a wish: repeating it is OK and changes nothing.
// NOT_FOUND QS4020: no such job. FAILED_PRECONDITION QS4023: it has ended or
// stops.

// Nothing more is leased on its behalf; what runs goes on.
Decision<JobNumber> DecidePause(const State& state, JobNumber job,
                                const std::string& reason, const Now& now);

// A paused job goes on where it was.
Decision<JobNumber> DecideResume(const State& state, JobNumber job,
                                 const Now& now);

// Larger goes first; the default of a spec is 0.
Decision<JobNumber> DecidePriority(const State& state, JobNumber job,
                                   int priority, const Now& now);

// What time does to a job that has tasks to run: whether nobody is on them, for
// how long; an event after Settings::queue_warning, and a cancel after the
// job's own queue_timeout. Nothing due: empty.
std::vector<Mutation> DecideJobWait(const State& state, JobNumber job,
                                    const Settings& settings, const Now& now);
// When DecideJobWait next has something for a job that waits.
SteadyTime WaitDeadlineOf(const Job& job, const Settings& settings);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_JOB_CONTROL_H_
