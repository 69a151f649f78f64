#ifndef QSWEEP_COORDINATOR_SERVICE_REFUSAL_LOG_H_
#define QSWEEP_COORDINATOR_SERVICE_REFUSAL_LOG_H_

#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "coordinator/core/mutation.h"

namespace qsweep {

// Calls that were refused, as lines for the audit. A stranger can make as many
// as he likes, so most are only counted: a burst of kBurst lines, then one a
// minute that stands for all since the last. Thread-safe.
class RefusalLog {
 public:
  static constexpr int kBurst = 20;
  static constexpr absl::Duration kInterval = absl::Minutes(1);

  // `sink` is called on the caller's thread and must not block. `clock`
  // outlives the log.
  RefusalLog(const Clock& clock, std::function<void(AuditRecorded)> sink)
      : clock_(clock), sink_(std::move(sink)) {}

  void Add(const std::string& actor, absl::string_view method,
           const absl::Status& why);

 private:
  // Calls this line stands for; 0: no line now.
  int64_t Take();

  const Clock& clock_;
  const std::function<void(AuditRecorded)> sink_;

  Mutex mutex_;
  int lines_left_ ABSL_GUARDED_BY(mutex_) = kBurst;
  SteadyTime refilled_at_ ABSL_GUARDED_BY(mutex_);
  int64_t untold_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_REFUSAL_LOG_H_
