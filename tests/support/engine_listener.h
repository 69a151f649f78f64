#ifndef QSWEEP_TESTS_SUPPORT_ENGINE_LISTENER_H_
#define QSWEEP_TESTS_SUPPORT_ENGINE_LISTENER_H_

#include <deque>
#include <optional>
#include <utility>

#include "absl/time/time.h"
#include <gtest/gtest.h>

#include "common/base/mutex.h"
#include "worker/agent/engine_process.h"

namespace qsweep::testing {

// Collects what an engine says. Must outlive the engine.
class EngineListener {
 public:
  EngineProcess::Callbacks callbacks() {
    return {.on_event =
                [this](v1::EngineEvent event) {
                  MutexLock lock(mutex_);
                  events_.push_back(std::move(event));
                  changed_.NotifyAll();
                },
            .on_exit =
                [this](absl::Status why, bool killed) {
                  MutexLock lock(mutex_);
                  EXPECT_FALSE(exit_.has_value());
                  exit_ = std::move(why);
                  killed_ = killed;
                  changed_.NotifyAll();
                }};
  }

  // The next event; fails the test after a minute, or when the engine ended.
  v1::EngineEvent Next() {
    MutexLock lock(mutex_);
    while (events_.empty()) {
      if (exit_ || changed_.WaitFor(mutex_, kPatience)) {
        ADD_FAILURE() << "no event, "
                      << exit_.value_or(absl::OkStatus()).ToString();
        return {};
      }
    }
    v1::EngineEvent event = std::move(events_.front());
    events_.pop_front();
    return event;
  }

  // The next event that is not progress.
  v1::EngineEvent NextAnswer() {
    for (;;) {
      v1::EngineEvent event = Next();
      if (!event.has_progress()) {
        return event;
      }
    }
  }

  // Whether a signal from elsewhere ended it; after Exit.
  bool killed() {
    MutexLock lock(mutex_);
    return killed_;
  }

  // How it ended.
  absl::Status Exit() {
    MutexLock lock(mutex_);
    while (!exit_) {
      if (changed_.WaitFor(mutex_, kPatience)) {
        ADD_FAILURE() << "still running";
        return absl::OkStatus();
      }
    }
    return *exit_;
  }

 private:
  static constexpr absl::Duration kPatience = absl::Seconds(60);
  Mutex mutex_;
  CondVar changed_;
  std::deque<v1::EngineEvent> events_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> exit_ ABSL_GUARDED_BY(mutex_);
  bool killed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_ENGINE_LISTENER_H_
