#ifndef QSWEEP_COORDINATOR_STORE_SNAPSHOT_CHECK_H_
#define QSWEEP_COORDINATOR_STORE_SNAPSHOT_CHECK_H_

#include "absl/status/status.h"

#include "coordinator/core/state.h"

namespace qsweep {

// Whether the rows of a snapshot fit each other, as far as State and decisions
// rely on it. SQLite checks pages and single rows: a changed byte that turns
// one task's id into another's is a sound file to it. Linear in the number of
// tasks and grants. DATA_LOSS QS4006 naming the row.
absl::Status CheckSnapshot(const StateSnapshot& snapshot);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_SNAPSHOT_CHECK_H_
