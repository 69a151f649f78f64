#ifndef QSWEEP_TESTS_SIM_SCHEDULE_H_
#define QSWEEP_TESTS_SIM_SCHEDULE_H_

#include <cstdint>
#include <functional>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "tests/support/simulated_clock.h"

namespace qsweep::sim {

// Virtual time: what is to happen, in the order of its time, then of its
// planning. Time stands while something happens. Single-thread.
class Schedule {
 public:
  Schedule() = default;

  testing::SimulatedClock& clock() { return clock_; }
  SteadyTime now() const { return clock_.SteadyNow(); }

  void At(SteadyTime time, std::function<void()> run) {
    queue_.push({std::max(time, now()), next_++, std::move(run)});
  }
  void After(absl::Duration delay, std::function<void()> run) {
    At(now() + delay, std::move(run));
  }
  // Moves the clock to the next event and runs it. There must be one.
  void RunNext() {
    // The queue's order does not look at `run`, so taking it out is safe.
    auto& next = const_cast<Event&>(queue_.top());
    const SteadyTime time = next.time;
    const std::function<void()> run = std::move(next.run);
    queue_.pop();
    clock_.Advance(time - now());
    run();
  }
  bool empty() const { return queue_.empty(); }

 private:
  struct Event {
    SteadyTime time;
    uint64_t number;
    std::function<void()> run;
    bool operator<(const Event& other) const {  // the queue's top is greatest
      return time != other.time ? time > other.time : number > other.number;
    }
  };

  testing::SimulatedClock clock_;
  std::priority_queue<Event> queue_;
  uint64_t next_ = 0;
};

// One line per thing that happened, for people; written only when asked for.
class Trace {
 public:
  // Null: nobody reads it. `out` outlives the trace.
  Trace(const Schedule& schedule, std::string* out)
      : schedule_(schedule), out_(out) {}
  template <typename... Parts>
  void Line(const Parts&... parts) {
    if (out_ != nullptr) {
      absl::StrAppend(out_,
                      absl::FormatDuration(schedule_.now().since_boot() -
                                           absl::Seconds(1000)),
                      " ", parts..., "\n");
    }
  }
  bool wanted() const { return out_ != nullptr; }

 private:
  const Schedule& schedule_;
  std::string* const out_;
};

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_SCHEDULE_H_
