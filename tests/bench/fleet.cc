#include "tests/bench/fleet.h"

#include <algorithm>
#include <optional>

#include "common/rpc/worker_session.h"
#include "tests/bench/fleet_worker.h"
#include "tests/support/child_process.h"

namespace qsweep::bench {

Fleet::Fleet(const std::vector<Endpoint>& endpoints, const Options& options)
    : options_(options), sessions_(std::make_unique<RunningSessions>()) {
  for (const Endpoint& endpoint : endpoints) {
    const int index = static_cast<int>(workers_.size());
    workers_.push_back(std::make_unique<FleetWorker>(index, endpoint, *this));
  }
  pump_ = std::thread([this] { Pump(); });
}

Fleet::~Fleet() {
  Post([this] {
    for (const auto& worker : workers_) {
      worker->End();
    }
    mailbox_.Close();
  });
  pump_.join();
  sessions_.reset();  // waits for what gRPC still has, while channels live
}

void Fleet::Start() {
  Post([this] {
    for (const auto& worker : workers_) {
      worker->Start();
    }
  });
}

FleetCounts Fleet::counts() const {
  MutexLock lock(mutex_);
  return counts_;
}

void Fleet::ResetCounts() {
  MutexLock lock(mutex_);
  counts_ = FleetCounts{.attached = counts_.attached};
}

bool Fleet::Await(absl::Duration timeout,
                  const std::function<bool(const FleetCounts&)>& ready) const {
  return testing::AwaitTrue(timeout, [&] {
    MutexLock lock(mutex_);
    return ready(counts_);
  });
}

void Fleet::Freeze(int worker) {
  Post([this, worker] { workers_[static_cast<size_t>(worker)]->Freeze(); });
}

void Fleet::Leave(int worker) {
  Post([this, worker] {
    workers_[static_cast<size_t>(worker)]->Feed(
        event::ShutdownRequested{"SIGTERM", /*at_once=*/true});
  });
}

void Fleet::Pump() {
  for (;;) {
    absl::Duration pause = absl::InfiniteDuration();
    if (!timers_.empty()) {
      pause = std::max(timers_.begin()->first - Clock::Real().SteadyNow(),
                       absl::ZeroDuration());
    }
    const std::optional<std::function<void()>> run = mailbox_.Take(pause);
    if (run) {
      (*run)();
    } else if (mailbox_.closed()) {
      return;
    }
    RunTimers();
  }
}

void Fleet::RunTimers() {
  const SteadyTime now = Clock::Real().SteadyNow();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    const auto run = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    run();
  }
}

}  // namespace qsweep::bench
