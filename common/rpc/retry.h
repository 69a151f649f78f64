#ifndef QSWEEP_COMMON_RPC_RETRY_H_
#define QSWEEP_COMMON_RPC_RETRY_H_

#include <functional>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

#include "common/base/clock.h"
#include "common/base/random.h"

namespace qsweep {

struct BackoffPolicy {
  absl::Duration first = absl::Milliseconds(100);  // ceiling of the first pause
  absl::Duration max = absl::Seconds(5);           // ceiling of every pause
};

// The pause before attempt number `attempt` (1: the first repeat): uniform
// between 0 and min(max, first * 2^(attempt - 1)). Full jitter, so that callers
// that failed together do not come back together.
absl::Duration FullJitterBackoff(const BackoffPolicy& policy, int attempt,
                                 Random& random);

// Waits; false when there is no reason to go on (the program is ending).
using Sleeper = std::function<bool(absl::Duration)>;

// A Sleeper that really sleeps and always goes on. Real time.
Sleeper RealSleeper();

// Calls `call` until it returns something else than UNAVAILABLE, the next pause
// would pass `deadline`, or the sleeper says stop; returns the last status. For
// calls that are idempotent only.
absl::Status RetryWhileUnavailable(const BackoffPolicy& policy,
                                   SteadyTime deadline, const Clock& clock,
                                   const Sleeper& sleeper, Random& random,
                                   absl::FunctionRef<absl::Status()> call);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_RPC_RETRY_H_
