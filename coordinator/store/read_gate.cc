#include "coordinator/store/read_gate.h"

namespace qsweep {
namespace {

constexpr int kPause = 10;  // times as long as it was closed

}  // namespace

absl::Duration ReadGate::Left() const {
  return closed_until_ - Clock::Real().SteadyNow();
}

void ReadGate::Wait() {
  MutexLock lock(mutex_);
  while (Left() > absl::ZeroDuration()) {
    changed_.WaitFor(mutex_, Left());
  }
}

void ReadGate::Watch(int64_t bytes) {
  MutexLock lock(mutex_);
  if (bytes <= closes_above_bytes_) {
    if (Left() > absl::ZeroDuration()) {
      closed_until_ = not_again_before_ = SteadyTime();
      changed_.NotifyAll();
    }
    return;
  }
  const SteadyTime now = Clock::Real().SteadyNow();
  if (now >= not_again_before_) {
    closed_until_ = now + most_;
    not_again_before_ = closed_until_ + kPause * most_;
  }
}

bool ReadGate::closed() const {
  MutexLock lock(mutex_);
  return Left() > absl::ZeroDuration();
}

}  // namespace qsweep
