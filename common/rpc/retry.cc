#include "common/rpc/retry.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "common/base/check.h"

namespace qsweep {

absl::Duration FullJitterBackoff(const BackoffPolicy& policy, int attempt,
                                 Random& random) {
  QSWEEP_CHECK(attempt >= 1);
  absl::Duration ceiling = std::min(policy.first, policy.max);
  for (int i = 1; i < attempt && ceiling < policy.max; ++i) {
    ceiling = std::min(ceiling * 2, policy.max);
  }
  return ceiling * random.Uniform();
}

Sleeper RealSleeper() {
  return [](absl::Duration pause) {
    std::this_thread::sleep_for(absl::ToChronoNanoseconds(pause));
    return true;
  };
}

absl::Status RetryWhileUnavailable(const BackoffPolicy& policy,
                                   SteadyTime deadline, const Clock& clock,
                                   const Sleeper& sleeper, Random& random,
                                   absl::FunctionRef<absl::Status()> call) {
  for (int attempt = 1;; ++attempt) {
    absl::Status status = call();
    if (!absl::IsUnavailable(status)) {
      return status;
    }
    const absl::Duration pause = FullJitterBackoff(policy, attempt, random);
    if (clock.SteadyNow() + pause >= deadline || !sleeper(pause)) {
      return status;
    }
  }
}

}  // namespace qsweep
