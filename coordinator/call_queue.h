#ifndef QSWEEP_COORDINATOR_CALL_QUEUE_H_
#define QSWEEP_COORDINATOR_CALL_QUEUE_H_

#include <cstddef>
#include <deque>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "coordinator/core/settings.h"
#include "coordinator/loop_core.h"

namespace qsweep {

// The calls that wait for the loop, and how it sleeps until there is one: the
// only thing of the loop that other threads touch. Thread-safe.
class CallQueue {
 public:
  // `clock` outlives the queue.
  CallQueue(const Settings& settings, const Clock& clock);

  // Refuses the call on the caller's thread after Stop, or when too many wait
  // or too many bytes: a queue that grows without bound would only make every
  // answer late.
  // `always`: never refused for that.
  void Push(Call call, bool always = false);

  // What the next step runs; batch_requests_max at most.
  std::vector<Call> Drain();
  // So many wait that they come before new work for workers.
  bool Crowded() const;
  // After a step: the oldest call is waiting from now on.
  void StepDone();
  // Sleeps until there is a call, `until_due` has passed, or Stop; a spurious
  // wake-up is harmless. False: Stop, and no call is left.
  bool Wait(absl::Duration until_due);

  void Stop();
  // Refuses what waits and all that comes.
  void Close();
  // Nobody has waited for 5 s.
  bool Healthy() const;

 private:
  const size_t high_water_;
  const size_t batch_max_;
  const Clock& clock_;

  mutable Mutex mutex_;
  CondVar wake_;
  std::deque<Call> calls_ ABSL_GUARDED_BY(mutex_);
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // of calls_
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  // When the oldest call that is not answered came; InfiniteFuture: none.
  SteadyTime waiting_since_ ABSL_GUARDED_BY(mutex_) =
      SteadyTime::InfiniteFuture();
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CALL_QUEUE_H_
