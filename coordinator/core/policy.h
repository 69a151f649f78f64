#ifndef QSWEEP_COORDINATOR_CORE_POLICY_H_
#define QSWEEP_COORDINATOR_CORE_POLICY_H_

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
                                   const Worker& worker);

// The task failed on this worker, and another one that fits has not tried it:
// a machine that lacks a file or a library must not use up the task's budget.
bool IsForOthers(const State& state, const Task& task, const Worker& worker);

// May the worker take one more lease, of whatever task?
bool HasCredit(const Worker& worker);

struct Pick {
  TaskId task;
  JobNumber job;  // the subscriber on whose behalf: it holds the worker then
};

// The task the worker should run next; nothing: none fits.
//   1. Fit. A worker that holds a lease takes only tasks of the same model, so
//      that a prefetched task never waits for a model load. A model that no
//      worker has run goes to one worker until that one runs it. A task goes
//      back to a worker it failed on only when no other fits.
//   2. Priority classes, highest first; a job that waits for its first lease
//      rises a class per Settings::ageing.
//   3. Fairness over workers held, inside a class. A job's share is the live
//      workers divided by the owners with placeable work, then by the owner's
//      jobs. The worker stays with the job that holds it, unless that holds
//      more than ceil(share), or another holds less than floor(share) while
//      this one is above its own floor. Else: lowest held / share, then oldest.
//   4. Inside the job: a model that is in the worker's memory, then on its
//      disk, then any; then the oldest task.
std::optional<Pick> PickTask(const State& state, const Worker& worker,
                             const Settings& settings, const Now& now);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_POLICY_H_
