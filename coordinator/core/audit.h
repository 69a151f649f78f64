#ifndef QSWEEP_COORDINATOR_CORE_AUDIT_H_
#define QSWEEP_COORDINATOR_CORE_AUDIT_H_

#include "coordinator/core/decision.h"
#include "coordinator/core/settings.h"

namespace qsweep {

// Detection of wrong numbers: the results of some tasks are measured again by
// another worker, and rows that differ raise the determinism alarm as any
// repeated measurement does (commit.h).

// With the draw for `task`, whose first result from `worker` is being stored,
// adds a task of the same content to all its jobs, so that none of them ends
// before the comparison; it brings them no measurement. False, and nothing was
// added: not drawn, an audit itself, a job of it is stopping or being planned,
// or no other worker fits now.
bool AddAudit(Draft& draft, const Task& task, const WorkerUuid& worker,
              const Settings& settings);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_AUDIT_H_
