#include "coordinator/call_queue.h"

#include <utility>

#include "common/base/error_codes.h"

namespace qsweep {
namespace {

constexpr absl::Duration kHealthyWithin = absl::Seconds(5);
// Twice the largest call, an artifact.
constexpr size_t kBytesMax = size_t{512} << 20;

absl::Status Stops() { return absl::UnavailableError("the coordinator stops"); }

}  // namespace

CallQueue::CallQueue(const Settings& settings, const Clock& clock)
    : high_water_(static_cast<size_t>(settings.queue_high_water)),
      batch_max_(static_cast<size_t>(settings.batch_requests_max)),
      clock_(clock) {}

void CallQueue::Push(Call call, bool always) {
  bool full = false;
  bool stopped = false;
  {
    MutexLock lock(mutex_);
    full = !always && (calls_.size() >= 2 * high_water_ ||
                       bytes_ + call.bytes > kBytesMax);
    stopped = closed_ || stopping_;
    if (!full && !stopped) {
      bytes_ += call.bytes;
      calls_.push_back(std::move(call));
      if (waiting_since_ == SteadyTime::InfiniteFuture()) {
        waiting_since_ = clock_.SteadyNow();
      }
    }
  }
  if (stopped) {
    call.refuse(Stops());
  } else if (full) {
    call.refuse(MakeError(kOverloaded, "too many calls wait", "",
                          "Try again in a few seconds."));
  } else {
    wake_.NotifyOne();
  }
}

std::vector<Call> CallQueue::Drain() {
  MutexLock lock(mutex_);
  std::vector<Call> calls;
  while (!calls_.empty() && calls.size() < batch_max_) {
    bytes_ -= calls_.front().bytes;
    calls.push_back(std::move(calls_.front()));
    calls_.pop_front();
  }
  return calls;
}

bool CallQueue::Crowded() const {
  MutexLock lock(mutex_);
  return calls_.size() > high_water_;
}

void CallQueue::StepDone() {
  MutexLock lock(mutex_);
  waiting_since_ =
      calls_.empty() ? SteadyTime::InfiniteFuture() : clock_.SteadyNow();
}

bool CallQueue::Wait(absl::Duration until_due) {
  MutexLock lock(mutex_);
  if (calls_.empty() && !stopping_ && until_due > absl::ZeroDuration()) {
    if (until_due == absl::InfiniteDuration()) {
      wake_.Wait(mutex_);
    } else {
      wake_.WaitFor(mutex_, until_due);
    }
  }
  return !stopping_ || !calls_.empty();
}

void CallQueue::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.NotifyOne();
}

void CallQueue::Close() {
  std::deque<Call> rest;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    rest.swap(calls_);
    bytes_ = 0;
    waiting_since_ = SteadyTime::InfiniteFuture();
  }
  for (Call& call : rest) {
    call.refuse(Stops());
  }
}

bool CallQueue::Healthy() const {
  MutexLock lock(mutex_);
  return !closed_ && (waiting_since_ == SteadyTime::InfiniteFuture() ||
                      clock_.SteadyNow() - waiting_since_ < kHealthyWithin);
}

}  // namespace qsweep
