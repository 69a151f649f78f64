#ifndef QSWEEP_TESTS_SIM_SMALL_WORLD_H_
#define QSWEEP_TESTS_SIM_SMALL_WORLD_H_

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "coordinator/core/decision.h"
#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"
#include "worker/agent/agent_core.h"

namespace qsweep::sim {

// Two workers, a coordinator without a disk, and what is on its way between
// them. A value: copies share what neither changes, so a search can go back.
// The core's decisions and AgentCore are the real ones; a step of the
// coordinator and its commit are one. Single-thread.
class SmallWorld {
 public:
  static constexpr int kWorkers = 2;
  static constexpr int kTasks = 3;

  // The workers are attached, the leases on their way.
  SmallWorld();

  // A state is told from another by what each process has met, in order, and
  // what is on its way.
  uint64_t Key() const;

  size_t num_messages() const { return wires_.size(); }
  std::string MessageText(size_t index) const;
  // keep: it comes once more.
  void Deliver(size_t index, bool keep);
  void Lose(size_t index);
  bool Running(int worker) const {
    return workers_[worker]->running != nullptr;
  }
  void FinishRun(int worker);
  // To when the next process has something to do.
  void PassTime();
  // Beyond all leases; nobody hears anybody.
  void PassSilence();
  void RestartWorker(int worker);
  void RestartCoordinator();

  // All tasks are done and every result was answered.
  bool settled() const;
  const std::vector<std::string>& problems() const { return problems_; }

 private:
  struct Report {
    uint64_t stream;
    v1::WorkerState state;
  };
  struct Hangup {
    uint64_t stream;
  };
  struct Closed {
    uint64_t stream;
    absl::Status why;
  };
  struct Desired {
    uint64_t stream;
    v1::DesiredState state;
  };
  struct CommitAnswer {
    LeaseKey lease;
    v1::CommitResultResponse::One one;
  };
  struct ReleaseAnswer {
    LeaseKey lease;
  };
  using Body =
      std::variant<Report, Hangup, v1::ResultEnvelope, v1::ReleaseTaskRequest,
                   Closed, Desired, CommitAnswer, ReleaseAnswer>;
  struct Message {
    uint64_t id;
    int worker;  // from or to
    Body body;
  };
  using MessagePtr = std::shared_ptr<const Message>;

  struct WorkerProcess {
    std::unique_ptr<AgentCore> core;
    uint64_t history = 0;
    uint64_t boot_seq = 0;
    std::string uuid;
    uint64_t stream = 0;  // open one; 0: none
    std::map<LeaseKey, v1::ResultEnvelope> spool;
    std::map<LeaseKey, v1::ReleaseTaskRequest> releases;
    std::shared_ptr<const v1::EngineRun> running;
  };
  using Leases = std::vector<std::pair<TaskId, Epoch>>;
  struct Link {
    int worker;
    uint64_t stream;
    SessionId session;
    bool dirty;
    Leases sent;
  };
  struct Coordinator {
    State state;
    uint64_t history = 0;
    std::map<WorkerUuid, Link> links;
    std::map<std::pair<Digest, Digest>, v1::Measurement> measured;
  };

  // Copies of what is about to change.
  WorkerProcess& Change(int worker);
  Coordinator& Change();

  void Feed(int worker, AgentEvent event, uint64_t id);
  void Boot(int worker);
  void Do(int worker, const AgentAction& action, std::deque<AgentEvent>& next);
  void Send(int worker, uint64_t history, Body body);
  void SendAgain();
  bool OnItsWay(const LeaseKey& lease) const;

  void Meet(const Message& message);
  void MeetReport(Coordinator& c, int worker, const Report& report);
  void MeetResult(Coordinator& c, int worker, const v1::ResultEnvelope& result);
  void MeetRelease(Coordinator& c, int worker,
                   const v1::ReleaseTaskRequest& request);
  void Apply(Coordinator& c, const std::vector<Mutation>& mutations);
  void TickCoordinator(Coordinator& c);
  void GrantAndPush(Coordinator& c);
  void TakeAnswer(int worker, const CommitAnswer& answer, uint64_t id);
  void Check(const State& before, const State& after);
  Now now() const;

  Settings settings_;
  SteadyTime now_;
  std::shared_ptr<const Coordinator> coordinator_;
  std::array<std::shared_ptr<WorkerProcess>, kWorkers> workers_;  // see Change
  std::vector<MessagePtr> wires_;  // in the order they were sent
  uint64_t sent_ = 0;              // messages of the step that runs
  std::vector<std::string> problems_;
};

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_SMALL_WORLD_H_
