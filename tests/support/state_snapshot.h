#ifndef QSWEEP_TESTS_SUPPORT_STATE_SNAPSHOT_H_
#define QSWEEP_TESTS_SUPPORT_STATE_SNAPSHOT_H_

#include "coordinator/core/state.h"

namespace qsweep::testing {

// What a restart without a disk finds: the durable members of jobs, tasks,
// groups and workers.
StateSnapshot SnapshotOf(const State& state);

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_STATE_SNAPSHOT_H_
