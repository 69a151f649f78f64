#ifndef QSWEEP_TESTS_PROPERTIES_LEASE_MODEL_H_
#define QSWEEP_TESTS_PROPERTIES_LEASE_MODEL_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "coordinator/core/decision.h"
#include "coordinator/core/settings.h"

namespace qsweep::testing {

// What docs/reference/state-machine.md says of leases, once more and with
// nothing of the product: the reference that random commands are compared with.
// Tasks, jobs and workers are numbers from 1; any worker fits any task. A
// value.
struct LeaseModel {
  struct Attempt {
    int worker = 0;
    std::optional<LeaseEnd> end;
  };
  struct Task {
    v1::TaskState state = v1::TASK_STATE_READY;
    std::set<int> jobs;
    std::vector<Attempt> grants;  // by epoch
    int failed = 0;
    int lost = 0;
    int preempted = 0;
    absl::Duration until;  // LEASED: the deadline; BACKOFF: its end
    absl::Duration granted_at;
    bool sent = false;  // a DesiredState had the lease, in this session

    bool live() const;
    bool given_up() const;
  };
  struct Worker {
    enum class Session { kNone, kOpen };
    Session session = Session::kNone;
    WorkerLiveness liveness = WorkerLiveness::kLost;
    bool ready = false;  // attached, and not leaving
    absl::Duration deadline;
    absl::Duration charged_until = -absl::InfiniteDuration();
  };

  Settings settings;
  absl::Duration now;
  std::map<int, Task> tasks;
  std::map<int, v1::JobState> jobs;
  std::map<int, Worker> workers;
  // What the last command charged to leases that ended: task -> time.
  std::map<int, absl::Duration> charged;

  // A message of the worker, in its session or with a hello. listed: of the
  // tasks it holds. seen: it saw the last DesiredState.
  void Report(int worker, bool hello, bool new_process, bool goodbye,
              const std::set<int>& listed, bool seen);
  void Detach(int worker);
  void Send(int worker);
  // Tasks that the worker may be given now.
  std::set<int> Grantable(int worker) const;
  void Grant(int task, int worker);
  void Release(int task, size_t epoch, LeaseEnd end, bool retryable);
  // What the worker hears.
  v1::CommitOutcome Commit(int task, size_t epoch);
  void PassTime(absl::Duration duration);
  void Cancel(int job);
  void Stop(int job);
  void Pause(int job);
  void Resume(int job);
  void Retry(int job);
  void Restart();

  std::set<int> HeldBy(int worker) const;
  bool ended(int job) const;

 private:
  // The lease ends without a result and the task would be run again.
  void EndLease(int task, LeaseEnd end, bool retryable = true);
  // The lease is over: who held it has paid.
  void Close(int task, LeaseEnd end);
  bool Lost(const Task& task) const;
  // The task is not live any more.
  void Settle(int task, v1::TaskState to);
  void Unsubscribe(int job, int task);
  // The job ends when it waits for nothing.
  void EndJob(int job);
  int NumIn(int job, v1::TaskState state) const;
  int NumLive(int job) const;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_PROPERTIES_LEASE_MODEL_H_
