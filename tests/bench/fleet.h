#ifndef QSWEEP_TESTS_BENCH_FLEET_H_
#define QSWEEP_TESTS_BENCH_FLEET_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/rpc/channel.h"
#include "tests/bench/latencies.h"
#include "worker/agent/agent_events.h"
#include "worker/agent/mailbox.h"

namespace qsweep {
class RunningSessions;
}

namespace qsweep::bench {

class FleetWorker;

// What a fleet has seen so far.
struct FleetCounts {
  int attached = 0;           // workers whose stream has had its Welcome
  int64_t attaches = 0;       // Welcomes in all
  int64_t leases = 0;         // new ones
  int64_t runs_finished = 0;  // results made
  int64_t results = 0;        // acknowledged as stored
  int64_t results_other = 0;  // answered with something else
  int64_t reruns = 0;         // runs of a task whose result was made before
  std::string first_other;    // the first such answer, in words
  SteadyTime first_lease;     // of this count
  SteadyTime last_lease;
  SteadyTime last_result;  // acknowledged
  // From the call with a result to the lease that takes its place.
  Latencies result_to_lease;
};

// Workers in this process, each with a connection and a credential of its own
// and the product's AgentCore, so that they say what a real worker says. Engine
// and spool are simulated: a task takes `task_time` and a disk nothing. One
// thread steps them all. Thread-safe.
class Fleet {
 public:
  struct Options {
    absl::Duration task_time = absl::ZeroDuration();
    // A state that follows another sooner than this waits for it, and a newer
    // one takes its place. Zero: all that the agent says is sent.
    absl::Duration state_interval = absl::ZeroDuration();
  };
  Fleet(const std::vector<Endpoint>& endpoints, const Options& options);
  ~Fleet();

  void Start();
  FleetCounts counts() const;
  // Sets counts and latencies back, but for `attached`, and forgets nothing of
  // what was run.
  void ResetCounts();
  // Looks every few milliseconds; whether `ready` was true before timeout.
  bool Await(absl::Duration timeout,
             const std::function<bool(const FleetCounts&)>& ready) const;

  // From now on the worker hears and says nothing; its connection stands.
  void Freeze(int worker);
  // As on SIGTERM with a notice that is short: gives its task back and leaves.
  void Leave(int worker);

 private:
  friend class FleetWorker;

  void Post(std::function<void()> run) { mailbox_.Put(std::move(run)); }
  // The pump thread's.
  void Pump();
  void At(SteadyTime time, std::function<void()> run) {
    timers_.emplace(time, std::move(run));
  }
  void RunTimers();

  const Options options_;
  Mailbox<std::function<void()>> mailbox_;
  std::unique_ptr<RunningSessions> sessions_;
  std::vector<std::unique_ptr<FleetWorker>> workers_;

  // The pump thread's.
  std::multimap<SteadyTime, std::function<void()>> timers_;
  std::set<TaskId> finished_;

  mutable Mutex mutex_;
  FleetCounts counts_ ABSL_GUARDED_BY(mutex_);

  std::thread pump_;
};

}  // namespace qsweep::bench

#endif  // QSWEEP_TESTS_BENCH_FLEET_H_
