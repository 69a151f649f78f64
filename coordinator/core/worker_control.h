#ifndef QSWEEP_COORDINATOR_CORE_WORKER_CONTROL_H_
#define QSWEEP_COORDINATOR_CORE_WORKER_CONTROL_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "coordinator/core/decision.h"
#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"

namespace qsweep {

// Name, UUID or a unique prefix of one (8 hex digits or more). Of several
// workers with one name the one that is not lost. NOT_FOUND QS4026.
// INVALID_ARGUMENT QS4027: it fits several.
absl::StatusOr<WorkerUuid> ResolveWorker(const State& state,
                                         absl::string_view selector);

// kDraining: the worker finishes what it holds and leaves. kOpen: it is leased
// tasks again, after a drain or a quarantine. Repeating a wish is OK and
// changes nothing. The worker must exist. drain_deadline: after it the worker
// gives back what it still holds; zero: no hurry.
Decision<WorkerUuid> DecideWorkerMode(
    const State& state, const WorkerUuid& worker, WorkerMode mode,
    const std::string& reason, const Now& now,
    absl::Duration drain_deadline = absl::ZeroDuration());

// A result of `task` came from `finisher`: every other worker on which it
// failed is blamed once, and quarantined when that happened with
// Settings::blame_limit tasks that were not forgiven since (kTasksPerPardon). A
// broken machine fails much of what it is given, and would use up the budgets
// of tasks that are sound.
void BlameWorkers(Draft& draft, const Task& task, const WorkerUuid& finisher,
                  const Settings& settings);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_WORKER_CONTROL_H_
