#include "common/rpc/lock_checks.h"

#include "absl/synchronization/mutex.h"

namespace qsweep {

void DisableGrpcLockChecks() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

}  // namespace qsweep
