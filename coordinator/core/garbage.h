#ifndef QSWEEP_COORDINATOR_CORE_GARBAGE_H_
#define QSWEEP_COORDINATOR_CORE_GARBAGE_H_

#include <vector>

#include "coordinator/core/decision.h"
#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"

namespace qsweep {

// Forgets jobs that ended before `request` says, the oldest first, with the
// tasks that nobody else has; the newest job of all stays, so that no number is
// used twice. Measurements stay, and with them what later submits reuse. At
// most about plan_at_once_tasks tasks in one decision, and at least one job;
// `more` when some are left. A dry run counts all and changes nothing.
// And forgets lost workers that were last seen before then, among
// `unused_workers`, to which nothing stored refers; not those that are
// quarantined or drain: they may come back; as many at most as tasks.
// INVALID_ARGUMENT QS1004: older_than_ms is above 100 years.
Decision<v1::CollectGarbageResponse> DecideCollectGarbage(
    const State& state, const v1::CollectGarbageRequest& request,
    const std::vector<WorkerUuid>& unused_workers, const Settings& settings,
    const Now& now);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_GARBAGE_H_
