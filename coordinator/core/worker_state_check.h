#ifndef QSWEEP_COORDINATOR_CORE_WORKER_STATE_CHECK_H_
#define QSWEEP_COORDINATOR_CORE_WORKER_STATE_CHECK_H_

#include "absl/status/status.h"

#include "qsweep/v1/worker.pb.h"

namespace qsweep {

// Of one worker; a machine with more runs several.
inline constexpr int kDevicesMax = 16;

// Whether a message of a worker is one that decisions can be made from, and the
// store can keep: its size, that each number is one a worker can mean (a NaN
// compares as nothing, and is NULL to SQLite), and that each task it lists is
// in a phase that is known, for a phase has its own time limit.
// INVALID_ARGUMENT QS1004 naming the field.
absl::Status CheckWorkerState(const v1::WorkerState& report);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_WORKER_STATE_CHECK_H_
