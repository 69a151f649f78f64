#ifndef QSWEEP_TESTS_SIM_SIMULATED_CLIENT_H_
#define QSWEEP_TESTS_SIM_SIMULATED_CLIENT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "tests/sim/coordinator_process.h"

namespace qsweep::sim {

// A user with qctl: submits jobs one after the other, again and again with the
// same UUID until there is an answer; cancels some; watches all of them and
// folds their events. Single-thread.
class SimulatedClient {
 public:
  SimulatedClient(Node node, std::string owner, Schedule& schedule,
                  Network& network, Random& random, Counts& counts,
                  Trace& trace, Oracles& oracles,
                  CoordinatorProcess& coordinator);

  // Queues a submit. `uuid`: 16 bytes.
  void Submit(v1::SubmitJobRequest request);
  // Cancels one of its jobs that has not ended, until that is acknowledged.
  void CancelSome();
  // If it watches the job and has not; false: it does not.
  bool Cancel(JobNumber job);
  // Pauses, stops, retries, ... without waiting for an answer.
  void ControlJob(JobNumber job, v1::JobAction action, int priority = 0);
  void ControlWorker(const WorkerUuid& worker, v1::WorkerAction action);
  // Has jobs deleted that ended longer ago.
  // Until it was answered.
  void RevokeToken(TokenId token);
  void CollectGarbage(absl::Duration older_than);
  // Does not read for so long: its watches are cut.
  void Stall(absl::Duration duration);
  // Every watch loses its connection.
  void BreakWatches();

  // Nothing is asked that was not answered, and each watch saw its job end.
  bool settled() const;
  const std::string& owner() const { return owner_; }
  int64_t tasks_planned() const { return tasks_planned_; }
  // What each watch saw in the end against what the store has. Fails oracles.
  void CheckWatches(Store& store);

 private:
  class Sink;
  struct Watch {
    JobNumber job;
    uint64_t connection = 0;
    bool connected = false;
    SteadyTime last_delivery;
    bool ended = false;
    bool deleted = false;  // its job, before the watch was over
    bool greeted = false;  // since the connection began
    std::vector<v1::DurableEvent> events;
    std::map<uint64_t, uint64_t> epochs;  // of tasks as events say; 0: done
  };

  void SendSubmit(const std::string& uuid);
  void TakeSubmit(const std::string& uuid,
                  const absl::StatusOr<v1::SubmitJobResponse>& response);
  void SendCancel(JobNumber job);
  void SendRevoke(TokenId token);
  void CheckAnswer(const absl::Status& status);
  void StartWatch(JobNumber job);
  void KeepAlive(JobNumber job, uint64_t connection, uint64_t life);
  void TakeEvent(Watch& watch, const v1::WatchEvent& event);
  void TakeProgress(const Watch& watch, const v1::TaskProgressFrame& frame);
  void TakeDurable(Watch& watch, const v1::DurableEvent& event);
  void EndWatch(Watch& watch, const absl::Status& status);

  const Node node_;
  const std::string owner_;
  Schedule& schedule_;
  Network& network_;
  Random& random_;
  Counts& counts_;
  Trace& trace_;
  Oracles& oracles_;
  CoordinatorProcess& coordinator_;

  std::map<std::string, v1::SubmitJobRequest> unanswered_;
  std::set<JobNumber> uncancelled_;  // asked for, not answered
  std::set<TokenId> unrevoked_;
  std::map<JobNumber, Watch> watches_;
  uint64_t connections_ = 0;
  SteadyTime stalled_until_;
  int64_t tasks_planned_ = 0;
};

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_SIMULATED_CLIENT_H_
