#ifndef QSWEEP_COORDINATOR_CORE_LEASE_H_
#define QSWEEP_COORDINATOR_CORE_LEASE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "coordinator/core/decision.h"
#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"

namespace qsweep {

// The life of a lease: granted, ended by its worker, by time, or by a listing
// that lacks it.

struct LeaseGrant {
  TaskId task;
  Epoch epoch;
};

// Grants the worker one task for lease_ttl. Nothing fits now, or no credit: no
// mutation, empty reply. NOT_FOUND: no such worker.
Decision<std::optional<LeaseGrant>> DecideLease(const State& state,
                                                const WorkerUuid& worker,
                                                const Settings& settings,
                                                const Now& now);

// Gives a lease back. A lease ends once: a repeat, or an epoch that ended
// otherwise, is OK and changes nothing. NOT_FOUND QS4021: no such task, or an
// epoch that was never granted. PERMISSION_DENIED QS6002: granted to another
// credential. INVALID_ARGUMENT QS1004: no reason given.
Decision<v1::ReleaseTaskResponse> DecideRelease(
    const State& state, absl::string_view credential,
    const v1::ReleaseTaskRequest& request, const Settings& settings,
    const Now& now);

// The failed attempts after which a task is given up: of its jobs' limits the
// largest, so that the most patient one decides.
int FailedBudget(const State& state, const Task& task,
                 const Settings& settings);

// The lease of `task`, which must be LEASED, ends without a result. kLost and
// kPreempted: always worth another attempt. Charges the budget, chooses READY,
// BACKOFF, QUARANTINED, or CANCELLED when all its jobs stop, and ends jobs that
// have nothing left to wait for.
std::vector<Mutation> DecideLeaseEnd(const State& state, TaskId task,
                                     LeaseEnd end, absl::string_view reason,
                                     bool retryable, const Settings& settings,
                                     const Now& now);

// What time does to one task: an expired or stalled lease ends, a BACKOFF is
// over. Nothing due: empty.
std::vector<Mutation> DecideTimeout(const State& state, TaskId task,
                                    const Settings& settings, const Now& now);

// When DecideTimeout next has something for the task; InfiniteFuture: never.
SteadyTime TimeoutOf(const State& state, const Task& task,
                     const Settings& settings);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_LEASE_H_
