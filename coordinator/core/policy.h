#ifndef QSWEEP_COORDINATOR_CORE_POLICY_H_
#define QSWEEP_COORDINATOR_CORE_POLICY_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/decision.h"
#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"

namespace qsweep {

// Who runs what next. Pure; asked when a worker has credit.

// Why the worker cannot run the task now, a sentence each; empty: it fits.
std::vector<std::string> WhyNotFit(const State& state, const Task& task,
                                   const Worker& worker,
                                   const Settings& settings);

// Why the worker runs nothing on behalf of the job, whatever the task: what the
// job asks for, with the number that does not fit.
std::vector<std::string> WhyNotRequired(const Job& job, const Worker& worker);

// The same for a task: what keeps the worker from it for each of the jobs that
// are to be served; empty: it may run the task for one of them.
std::vector<std::string> WhyNotRequired(const State& state, const Task& task,
                                        const Worker& worker);

// Whether the worker fits the task and may run it for one of its jobs.
bool MayRun(const State& state, const Task& task, const Worker& worker,
            const Settings& settings);

// The task failed on this worker, or checks a result of it, and another one
// that may run it has not tried it: a machine that lacks a file or a library
// must not use up the task's budget, and none can vouch for itself.
bool IsForOthers(const State& state, const Task& task, const Worker& worker,
                 const Settings& settings);

// For sentences about memory.
double InGib(uint64_t bytes);

// One that runs, and one fetched ahead so that the device does not wait.
inline constexpr size_t kLeasesPerDevice = 2;

// How many leases the worker may hold: its credits, but never more than its
// devices have use for, whatever it says.
size_t LeasesMax(const Worker& worker);

// May the worker take one more lease, of whatever task?
bool HasCredit(const Worker& worker);

struct Pick {
  TaskId task;
  JobNumber job;  // the subscriber on whose behalf: it holds the worker then
};

// The task the worker should run next; nothing: none fits, or the one whose
// turn it is has to wait until the worker holds no lease.
//   1. Fit, and what the job requires. A worker that holds a lease takes only
//      tasks of the same model, so that a prefetched task never waits for a
//      model load. A model that no worker has run goes to one worker until that
//      one runs it. A task goes back to a worker it failed on, and an audit
//      to the worker it checks, only when no other fits.
//   2. Priority classes, highest first; a job that has tasks to run and nobody
//      on them rises a class per Settings::ageing.
//   3. Fairness over workers held, inside a class: first between owners, then
//      between the jobs of one. An owner's share is that of his weight among
//      the owners with work for this one, of the live workers; a job's is the
//      owner's divided by his jobs. The worker stays with the owner whose job
//      holds it, unless he holds more than ceil(share), or another less than
//      floor(share) while he is above his own floor; and with the job likewise.
//      Else: who is below the floor, then lowest held / share, then oldest.
//   4. Inside the job: the model of the leases it holds, one that is in its
//      memory, then on its disk, then any; then the oldest task.
std::optional<Pick> PickTask(const State& state, const Worker& worker,
                             const Settings& settings, const Now& now);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_POLICY_H_
