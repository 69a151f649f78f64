#ifndef QSWEEP_TESTS_SUPPORT_SIMULATED_CLOCK_H_
#define QSWEEP_TESTS_SUPPORT_SIMULATED_CLOCK_H_

#include "common/base/clock.h"

namespace qsweep::testing {

// A clock that stands until it is advanced. Single-thread.
class SimulatedClock : public Clock {
 public:
  SteadyTime SteadyNow() const override { return steady_; }
  absl::Time Now() const override { return wall_; }

  void Advance(absl::Duration duration) {
    steady_ = steady_ + duration;
    wall_ += duration * (1 + wall_drift_);
  }
  // What a person or NTP does to the wall clock.
  void JumpWall(absl::Duration duration) { wall_ += duration; }
  // A wall clock that gains (or loses) this share of the time from now on.
  void SetWallDrift(double share) { wall_drift_ = share; }

 private:
  SteadyTime steady_ = SteadyTime::FromSinceBoot(absl::Seconds(1000));
  absl::Time wall_ = absl::FromUnixSeconds(1'700'000'000);
  double wall_drift_ = 0;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_SIMULATED_CLOCK_H_
