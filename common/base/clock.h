#ifndef QSWEEP_COMMON_BASE_CLOCK_H_
#define QSWEEP_COMMON_BASE_CLOCK_H_

#include <compare>

#include "absl/time/time.h"

namespace qsweep {

// A point of CLOCK_BOOTTIME: steady, counts suspend, means nothing in another
// process or after a restart, so it is never stored. Deadlines are SteadyTimes;
// people read absl::Time.
class SteadyTime {
 public:
  SteadyTime() = default;
  static SteadyTime FromSinceBoot(absl::Duration since_boot) {
    return SteadyTime(since_boot);
  }
  static SteadyTime InfiniteFuture() {
    return SteadyTime(absl::InfiniteDuration());
  }

  absl::Duration since_boot() const { return since_boot_; }

  friend bool operator==(SteadyTime a, SteadyTime b) {
    return a.since_boot_ == b.since_boot_;
  }
  // Written out: Debian 12's absl::Duration has no operator<=>.
  friend std::strong_ordering operator<=>(SteadyTime a, SteadyTime b) {
    return a.since_boot_ < b.since_boot_   ? std::strong_ordering::less
           : b.since_boot_ < a.since_boot_ ? std::strong_ordering::greater
                                           : std::strong_ordering::equal;
  }
  friend SteadyTime operator+(SteadyTime t, absl::Duration d) {
    return SteadyTime(t.since_boot_ + d);
  }
  friend SteadyTime operator-(SteadyTime t, absl::Duration d) {
    return SteadyTime(t.since_boot_ - d);
  }
  friend absl::Duration operator-(SteadyTime a, SteadyTime b) {
    return a.since_boot_ - b.since_boot_;
  }

 private:
  explicit SteadyTime(absl::Duration since_boot) : since_boot_(since_boot) {}
  absl::Duration since_boot_;
};

// Where time comes from. Thread-safe. Only clock.cc reads the real one.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual SteadyTime SteadyNow() const = 0;
  virtual absl::Time Now() const = 0;

  // The machine's clocks. Lives as long as the process.
  static const Clock& Real();
};

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_CLOCK_H_
