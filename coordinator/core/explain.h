#ifndef QSWEEP_COORDINATOR_CORE_EXPLAIN_H_
#define QSWEEP_COORDINATOR_CORE_EXPLAIN_H_

#include "coordinator/core/decision.h"
#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"

namespace qsweep {

// Why the task is where it is, with the number that does not fit and what would
// change it, in sentences for people; its attempts, and each attached worker
// with what speaks against it. Asks the same predicates as placement does
// (policy.h), so that it cannot say otherwise. Reads only.
v1::ExplainTaskResponse ExplainTask(const State& state, const Task& task,
                                    const Settings& settings, const Now& now);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_EXPLAIN_H_
