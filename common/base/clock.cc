#include "common/base/clock.h"

#include <ctime>

#include "absl/time/clock.h"

#include "common/base/check.h"

namespace qsweep {
namespace {

class RealClock : public Clock {
 public:
  SteadyTime SteadyNow() const override {
    timespec now = {};
    QSWEEP_CHECK(clock_gettime(CLOCK_BOOTTIME, &now) == 0);
    return SteadyTime::FromSinceBoot(absl::DurationFromTimespec(now));
  }
  absl::Time Now() const override { return absl::Now(); }
};

}  // namespace

const Clock& Clock::Real() {
  static const RealClock clock;
  return clock;
}

}  // namespace qsweep
