#ifndef QSWEEP_COORDINATOR_LOOP_WATCHERS_H_
#define QSWEEP_COORDINATOR_LOOP_WATCHERS_H_

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "coordinator/core/decision.h"
#include "coordinator/core/mutation.h"
#include "coordinator/core/state.h"
#include "coordinator/loop.h"
#include "coordinator/store/store.h"

namespace qsweep {

// The WatchJob streams. Each sees the events of its job once and in order: old
// ones from the store, in slices and as fast as its client reads, then what
// each commit brings. Single-thread: the loop's.
class Watchers {
 public:
  void Add(JobNumber job, EventSeq after, std::shared_ptr<WatchSink> sink,
           Caller caller);
  bool empty() const { return watchers_.empty(); }
  bool Watches(const Task& task) const;

  // The events of a batch that is on disk.
  void OnCommitted(const std::vector<Mutation>& batch);
  // A running attempt of the task got on.
  void OnProgress(const State& state, const Task& task);
  // Sends each watcher its snapshot and a slice of old events, and closes those
  // of jobs that ended. Errors: the store's.
  absl::Status Advance(const State& state, Store& store);
  // When Advance has something to do again: at once while a watcher has not
  // been sent all old events, but not while its client must read first.
  SteadyTime NextAdvance(SteadyTime now) const;
  void CloseAll(const absl::Status& why);
  // Those whose caller's token is not valid any more.
  void CloseExpired(const State& state, const Now& now);
  // When the next of them expires.
  SteadyTime NextExpiry(const State& state, const Now& now) const;
  // Those of one caller.
  void CloseOf(const std::string& identity, const absl::Status& why);

 private:
  struct Watcher {
    JobNumber job;
    EventSeq after;  // last one sent
    std::shared_ptr<WatchSink> sink;
    Caller caller;
    bool greeted = false;    // the snapshot went out
    bool caught_up = false;  // with the store
    bool full = false;       // no room for the next old event
    bool gone = false;       // refused an event
  };

  void SendEvent(Watcher& watcher, const v1::DurableEvent& event);
  // A slice of old events, or what there is room for.
  absl::Status CatchUp(Watcher& watcher, Store& store);

  std::list<Watcher> watchers_;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_LOOP_WATCHERS_H_
