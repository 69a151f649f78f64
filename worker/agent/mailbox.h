#ifndef QSWEEP_WORKER_AGENT_MAILBOX_H_
#define QSWEEP_WORKER_AGENT_MAILBOX_H_

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>

#include "absl/time/time.h"

#include "common/base/mutex.h"

namespace qsweep {

// A queue into a thread. Unbounded: what goes in is bounded by the tasks held.
// Thread-safe.
template <typename T>
class Mailbox {
 public:
  // Dropped when closed.
  void Put(T message) {
    MutexLock lock(mutex_);
    if (!closed_) {
      messages_.push_back(std::move(message));
      changed_.NotifyAll();
    }
  }

  // The next message; nothing when timeout passes first or it is closed.
  std::optional<T> Take(absl::Duration timeout = absl::InfiniteDuration()) {
    MutexLock lock(mutex_);
    while (messages_.empty() && !closed_) {
      // Capped: the standard library adds it to a time point.
      if (changed_.WaitFor(mutex_, std::min(timeout, absl::Hours(1))) &&
          timeout < absl::Hours(1)) {
        break;
      }
    }
    if (messages_.empty() || closed_) {
      return std::nullopt;
    }
    std::optional<T> message = std::move(messages_.front());
    messages_.pop_front();
    return message;
  }

  // What is left is dropped; every Take returns nothing from now on.
  void Close() {
    MutexLock lock(mutex_);
    closed_ = true;
    messages_.clear();
    changed_.NotifyAll();
  }
  // Waits, whatever comes in; true: it was closed.
  bool WaitUntilClosed(absl::Duration timeout) {
    MutexLock lock(mutex_);
    while (!closed_) {
      if (changed_.WaitFor(mutex_, std::min(timeout, absl::Hours(1)))) {
        break;
      }
    }
    return closed_;
  }
  bool closed() const {
    MutexLock lock(mutex_);
    return closed_;
  }

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<T> messages_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_AGENT_MAILBOX_H_
