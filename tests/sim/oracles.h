#ifndef QSWEEP_TESTS_SIM_ORACLES_H_
#define QSWEEP_TESTS_SIM_ORACLES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"

#include "common/base/digest.h"
#include "coordinator/core/commit.h"
#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"
#include "coordinator/core/token.h"
#include "tests/sim/counts.h"
#include "tests/sim/fairness.h"
#include "tests/sim/schedule.h"

namespace qsweep::sim {

// What must hold whatever breaks; docs/simulation.md has the list. It sees what
// was delivered to the coordinator, what it wrote and what it answered, keeps
// the history and compares. Numbers in problems are those of the list.
// Single-thread.
class Oracles {
 public:
  Oracles(const Schedule& schedule, const Settings& settings, Counts& counts);

  const std::vector<std::string>& problems() const { return problems_; }
  bool failed() const { return !problems_.empty(); }
  void Fail(int invariant, const std::string& what);

  // Coordinator: delivered to the loop, and sent by it. `link`: a number of the
  // stream, never used again.
  void OnReport(uint64_t link, const WorkerUuid& worker,
                const v1::WorkerState& report);
  void OnDesired(uint64_t link, const v1::DesiredState& desired);
  void OnRelease(const v1::ReleaseTaskRequest& request);

  // Store. Unknown: the commit failed or the process died in it.
  void OnCommitted(std::span<const Mutation> batch);
  void OnUnknownCommit(std::span<const Mutation> batch);
  void OnLoaded(const StateSnapshot& snapshot);
  // The same without a restart: what the store says now.
  void CheckReload(const StateSnapshot& snapshot);

  // After each step of the loop. disk_full: time stands for leases.
  void AfterStep(const State& state, bool disk_full);
  void CheckAll(const State& state);

  // Workers: made this result; had this answer.
  void OnProduced(const v1::ResultEnvelope& envelope);
  // Some attempt has a result of the task, stored or on its way.
  bool WasProduced(TaskId task) const;
  void OnResultAnswered(const v1::ResultEnvelope& envelope,
                        v1::CommitOutcome outcome);
  // Clients: had this answer.
  void OnSubmitAnswered(const std::string& uuid,
                        const v1::SubmitJobResponse& response);
  void OnCancelAnswered(JobNumber job);
  void OnRevokeAnswered(TokenId token) {
    revoked_.insert(IdentityOfToken(token));
  }
  // A client has a job of it.
  void OnModel(const v1::ModelDescription& model);
  void OnRetry(JobNumber job);  // asked for: it may go on after a cancel
  // Somebody had it deleted.
  bool IsDeleted(JobNumber job) const { return deleted_.contains(job); }

  // What the lease of an attempt was charged; nothing: it has not ended.
  std::optional<absl::Duration> ChargeOf(TaskId task, Epoch epoch) const;

  // All that is durable, as the batches that were written say.
  const State& durable() const { return durable_; }
  // Of each measurement that was written, the attempt it is of.
  struct Origin {
    TaskId task;
    Epoch epoch;
  };
  const std::map<std::string, Origin>& measured() const { return measured_; }
  // Of tasks that brought a result, deleted ones too.
  const std::map<TaskId, TaskKeys>& keys() const { return keys_; }
  bool WasRetried(JobNumber job) const { return retried_.contains(job); }
  // The results of the attempt; empty: none.
  std::vector<const v1::TaskResult*> ProducedBy(TaskId task, Epoch epoch) const;

 private:
  using Key = std::pair<TaskId, Epoch>;
  // A lease as its worker and the coordinator have talked about it.
  struct Talk {
    WorkerUuid worker;
    int64_t loads = 0;  // of State, at the grant
    SteadyTime granted_at;
    SteadyTime listed_at;    // last accepted report that listed it
    SteadyTime progress_at;  // it grew
    v1::TaskProgress progress;
    std::map<uint64_t, uint64_t> sent;  // link -> first state_seq
    bool given_up = false;              // a report showed that
    bool goodbye = false;
    std::optional<v1::ReleaseTaskRequest> release;
  };
  // A lease in this life of the coordinator, for the ledger.
  struct Span {
    Key lease;
    SteadyTime begin;
    SteadyTime end = SteadyTime::InfiniteFuture();  // not yet
  };
  struct Report {
    WorkerUuid worker;
    v1::WorkerState report;
  };
  struct Produced {
    Digest payload_digest;
    v1::TaskResult result;
  };

  void Write(const Mutation& mutation);
  void Check(const LeaseGranted& m);
  void Check(const LeaseEnded& m);
  void Check(const TaskStateChanged& m);
  void Check(const ResultCommitted& m);
  void Check(const DuplicateRecorded& m);
  void Check(const EventAppended& m);
  void Check(const JobAdded& m);
  void Check(const JobActivated& m);
  void Check(const JobReopened& m);
  void Check(const JobPurged& m);
  void Check(const TaskForgotten& m) { ForgetResults(m.task); }
  template <typename Other>
  void Check(const Other&) {}
  void Check(const JobStateChanged& m);
  void Check(const JobPriorityChanged& m);
  void CheckMove(const Task& task, v1::TaskState to);
  // The time that the lease was its worker's oldest is what it is charged.
  void CheckCharge(const Key& lease, const WorkerUuid& worker,
                   absl::Duration charged);
  void WriteBatch(std::span<const Mutation> batch, SteadyTime at);
  void RestartLedger();
  void CheckRows(const ResultCommitted& m, const Task& task);
  void CheckEndReason(const LeaseEnded& m, const Talk& talk);
  void CheckFit(const std::string& name, const Task& task,
                const Worker& worker);
  double ExpectedLoad(const std::string& model, const Worker& worker) const;
  void CheckSpeed(const ResultCommitted& m, const Task& task);
  void CheckBudgets(const LeaseEnded& m, const Task& task, const Talk& talk);
  void CheckAcknowledged(const State& state);
  // One alarm in each job of the task, however much of the result differs.
  void ExpectAlarm(const Key& key, const Digest& payload_digest);
  void CheckAlarms();
  const TaskKeys& KeysOf(TaskId task);
  // Whether the result has codes that no row has which was written before,
  // though some row of the configuration has codes.
  bool HasOtherCodes(const Key& key, const Digest& payload_digest);
  void ForgetResults(TaskId task);
  void Accept(const State& state, const Report& report);
  void CheckOverdue(const State& state);
  bool SameState(const State& loaded, const State& expected) const;
  SteadyTime ExpiryOf(const Talk& talk) const;

  const Schedule& schedule_;
  const Settings settings_;
  Counts& counts_;
  std::vector<std::string> problems_;

  State durable_;
  std::vector<Mutation> unknown_;  // last batch, should it not be known
  SteadyTime unknown_at_;
  SteadyTime written_at_;  // of the batch that is being written
  std::map<std::string, Origin> measured_;
  std::map<Key, Talk> talks_;  // of leases that are held
  // The newest, which decisions go by and no store has.
  std::map<WorkerUuid, std::shared_ptr<const v1::WorkerState>> reported_;
  std::map<std::string, uint64_t> memory_of_;  // that a model takes, by digest
  // Seconds of the loads that were learned from, by model and type of device.
  std::map<std::pair<Digest, std::string>, std::vector<double>> loads_of_;
  // Session and number of each worker's last report that counted.
  std::map<WorkerUuid, std::pair<std::string, uint64_t>> heard_;
  std::vector<Report> reports_;  // delivered since the last step
  SteadyTime loaded_at_;
  int64_t loads_ = 0;
  std::map<TaskId, std::pair<int, int>> charged_;  // failed, lost
  std::map<Key, std::vector<Produced>> produced_;
  // Events that are missing in the batch that is being written; below 0: too
  // many. And the results that they are of.
  std::map<Key, int64_t> alarms_due_;
  std::set<std::pair<Key, Digest>> alarming_;
  std::map<TaskId, TaskKeys> keys_;
  std::map<Digest, std::set<std::string>> codes_;  // by configuration
  std::map<WorkerUuid, std::vector<Span>> spans_;  // by begin
  std::map<Key, absl::Duration> charges_;
  GrantFairness fairness_;
  std::set<std::pair<Key, Digest>> duplicates_;

  // Acknowledged.
  std::map<std::string, JobNumber> jobs_;  // by UUID
  std::set<JobNumber> cancelled_;
  std::set<std::string> revoked_;  // identities, since the answer
  std::set<JobNumber> retried_;
  std::set<JobNumber> deleted_;
  std::vector<JobNumber> reopened_;  // in the batch that is being written
  struct Answered {
    v1::CommitOutcome outcome;
    Digest payload_digest;
  };
  std::map<Key, Answered> results_;
};

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_ORACLES_H_
