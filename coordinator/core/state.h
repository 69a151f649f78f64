#ifndef QSWEEP_COORDINATOR_CORE_STATE_H_
#define QSWEEP_COORDINATOR_CORE_STATE_H_

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

#include "coordinator/core/mutation.h"

namespace qsweep {

// Ids and counters of jobs, tasks and workers: no texts, no measurement
// values. Value types; members are durable unless they stand under `Memory`.

struct Job {
  JobNumber number;
  JobUuid uuid;
  Digest spec_digest;
  std::string name;
  std::string owner;
  v1::JobKind kind = v1::JOB_KIND_UNSPECIFIED;
  int priority = 0;
  int max_retries = 0;  // 0: Settings::failed_budget
  int max_fails = 0;    // 0: no limit
  std::map<std::string, std::string> labels;
  absl::Time created_at;
  absl::Time finished_at = absl::InfinitePast();  // InfinitePast: not yet
  v1::JobState state = v1::JOB_STATE_PLANNING;
  std::string reason;
  int64_t measurements_total = 0;
  int64_t measurements_reused = 0;
  // Reused ones, and of each subscribed task that is DONE what it brings.
  int64_t measurements_done = 0;
  // Different (evaluation, document) of the job that have a stored row of its
  // configurations that is not OK: a text counts once, however many
  // configurations, tasks or languages have it. Written by JobAdded and
  // ResultCommitted.
  int64_t documents_skipped = 0;
  int64_t last_job_seq = 0;         // of its events, without gaps
  std::map<TaskId, int64_t> tasks;  // -> the job's measurements it brings

  // Derived from the tasks on Apply.
  std::array<int64_t, v1::TaskState_ARRAYSIZE> tasks_by_state = {};
  // Tasks in state READY; groups without one are left out. Of a group all fit
  // the same workers, so placement looks at groups.
  std::map<TaskGroupId, std::set<TaskId>> ready;

  bool terminal() const;
  int64_t tasks_live() const;  // not DONE, QUARANTINED or CANCELLED
};

// A task's grants are numbered by epoch from 1: grants[epoch - 1].
struct Grant {
  WorkerUuid worker;
  std::string credential;
  std::optional<LeaseEnd> end;  // nothing: still held
};

struct Lease {
  WorkerUuid worker;
  SessionId session;

  // Memory
  SteadyTime granted_at;
  SteadyTime deadline;
  bool listed = false;     // by the worker, in this life of the coordinator
  uint64_t sent_seq = 0;   // first DesiredState that carried it; 0: none yet
  SteadyTime progress_at;  // last growth of progress.progress_seq
  v1::TaskProgress progress;
};

struct Task {
  TaskId id;
  TaskGroupId group;
  Digest content_key;
  int64_t num_documents = 0;
  double estimated_seconds = 0;
  v1::TaskState state = v1::TASK_STATE_READY;
  std::string reason;
  int failed = 0;  // charged attempts
  int lost = 0;
  int preempted = 0;
  absl::Duration backoff;                  // of the last move to BACKOFF
  Digest result_digest;                    // DONE: payload that was stored
  Epoch result_epoch;                      // DONE
  std::vector<Grant> grants;               // size = epoch
  std::optional<Lease> lease;              // LEASED
  std::vector<TaskDocumentKey> documents;  // empty once DONE
  std::vector<JobNumber> jobs;             // subscribers, ascending

  // Memory
  SteadyTime ready_at;  // BACKOFF: end of the delay

  Epoch epoch() const { return Epoch(static_cast<int64_t>(grants.size())); }
  bool live() const;  // BLOCKED, READY, LEASED or BACKOFF
};

struct TaskGroup {
  TaskGroupId id;
  std::shared_ptr<const v1::TaskSpec> prototype;
  Digest model_digest;
  std::vector<Digest> configurations;  // parallel to the prototype's
  std::string evaluation_name;         // "aligned@1": what a worker must list
  std::set<std::string> methods;       // of its quantizers: "rtn"
};
// Derives the rest from a prototype whose digests are 32 bytes each.
TaskGroup MakeTaskGroup(TaskGroupId id,
                        std::shared_ptr<const v1::TaskSpec> prototype);

bool IsTerminal(v1::JobState state);  // SUCCEEDED, FAILED, CANCELLED

struct Worker {
  WorkerUuid uuid;
  std::string name;
  std::string build_id;
  std::vector<v1::Device> devices;
  uint64_t boot_seq = 0;
  std::string credential;
  WorkerMode mode = WorkerMode::kOpen;
  std::string mode_reason;
  int64_t blamed = 0;  // tasks that failed here and were done elsewhere
  int64_t tasks_done = 0;
  absl::Time last_seen;  // at the last durable change; for people

  // Memory
  WorkerLiveness liveness = WorkerLiveness::kLost;
  SessionId session;
  BootId boot;
  std::shared_ptr<const v1::Hello> hello;        // null: not since the start
  std::shared_ptr<const v1::WorkerState> state;  // last report; may be null
  SteadyTime attached_at;
  SteadyTime seen_at;
  SteadyTime deadline;  // LOST after it
  uint64_t beat_seq = 0;
  uint64_t state_seq = 0;  // of the last DesiredState
  std::set<TaskId> leases;
  JobNumber holder;          // the job of its last lease: it holds the worker
  Digest loaded;             // model of the last task it was seen to run
  SteadyTime charged_until;  // its leases that ended paid for its time so far
};

// What Store::Load returns, and all a State is made from: the durable members
// of the structs above (the others keep their defaults).
struct StateSnapshot {
  int64_t coordinator_epoch = 0;
  TaskGroupId last_group;
  EventSeq last_event;
  std::vector<Job> jobs;  // `tasks` filled; derived members empty
  std::vector<TaskGroup> groups;
  std::vector<Task> tasks;  // `jobs` filled
  std::vector<Worker> workers;
  std::map<std::string, Digest> corpora;  // name -> newest digest
  std::set<Digest> models;
  std::vector<Token> tokens;  // `uses` empty
};

// Everything decisions are made from. Single-thread: the loop's. Copyable.
//   State state(snapshot);
//   for (const Mutation& m : decision.mutations) state.Apply(m);
class State {
 public:
  State() = default;
  explicit State(StateSnapshot snapshot);

  // Carries one mutation out. A mutation that does not fit is a defect of the
  // Decide function that made it, and ends the process.
  void Apply(const Mutation& mutation);

  int64_t coordinator_epoch() const { return coordinator_epoch_; }
  JobNumber next_job() const { return last_job_.Next(); }
  TaskId next_task() const { return last_task_.Next(); }
  TaskGroupId next_group() const { return last_group_.Next(); }
  EventSeq last_event() const { return last_event_; }
  TokenId next_token() const;

  // Null: unknown. Pointers live until the next Apply.
  const Job* FindJob(JobNumber number) const;
  const Job* FindJob(const JobUuid& uuid) const;
  const Task* FindTask(TaskId id) const;
  const Task* FindTaskByKey(const Digest& content_key) const;
  const TaskGroup* FindGroup(TaskGroupId id) const;
  const Worker* FindWorker(const WorkerUuid& uuid) const;
  const Worker* FindWorkerBySession(const SessionId& session) const;
  const Token* FindToken(TokenId id) const;
  const Token* FindTokenBySecret(const Digest& secret) const;
  // For ids that are known to exist.
  const Job& job(JobNumber number) const { return jobs_.at(number); }
  const Task& task(TaskId id) const { return tasks_.at(id); }
  const TaskGroup& group(TaskGroupId id) const { return groups_.at(id); }

  const std::map<JobNumber, Job>& jobs() const { return jobs_; }
  const std::map<TaskId, Task>& tasks() const { return tasks_; }
  const std::map<WorkerUuid, Worker>& workers() const { return workers_; }
  const std::map<std::string, Digest>& corpora() const { return corpora_; }
  const std::set<Digest>& models() const { return models_; }
  const std::map<TokenId, Token>& tokens() const { return tokens_; }
  const std::set<JobNumber>& active_jobs() const { return active_jobs_; }
  // Tasks in BACKOFF and LEASED: what a tick has to look at.
  const std::set<TaskId>& backoff_tasks() const { return backoff_tasks_; }
  const std::set<TaskId>& leased_tasks() const { return leased_tasks_; }
  // Live tasks of a model, for sharing between jobs.
  const std::set<TaskId>& LiveTasksOfModel(const Digest& model) const;

  // Task spec as it is sent to a worker. The task must not be DONE.
  v1::TaskSpec MakeTaskSpec(const Task& task) const;

  // The durable part as text, one fact a line, sorted: two states are equal
  // after a reload exactly when these are.
  std::string DumpDurable() const;
  // Equal when the dumps are; differs between runs of a program.
  uint64_t HashDurable() const;

 private:
  template <typename Out>
  void DescribeDurable(Out& out) const;
  void On(const CoordinatorStarted& m);
  void On(const ArtifactAdded& m);
  void On(const CorpusAdded& m);
  void On(const ModelAdded& m);
  void On(const JobAdded& m);
  void On(const JobReopened& m);
  void On(const JobPriorityChanged& m);
  void On(const JobStateChanged& m);
  void On(const TaskGroupAdded& m);
  void On(const TaskAdded& m);
  void On(const JobTaskAdded& m);
  void On(const JobTaskRemoved& m);
  void On(const LeaseGranted& m);
  void On(const LeaseEnded& m);
  void On(const TaskStateChanged& m);
  void On(const ResultCommitted& m);
  void On(const DuplicateRecorded& m);
  void On(const EventAppended& m);
  void On(const WorkerAttached& m);
  void On(const WorkerModeChanged& m);
  void On(const WorkerBlamed& m);
  void On(const WorkerReported& m);
  void On(const WorkerLivenessChanged& m);
  void On(const LeaseRenewed& m);
  void On(const WorkerInformed& m);
  void On(const TokenAdded& m);
  void On(const TokenRevoked& m);
  void On(const AuditRecorded& m);

  // Indexes and counters that follow from the task's state and subscribers:
  // Leave before a change of either, Enter after it.
  void Enter(const Task& task);
  void Leave(const Task& task);
  void Move(Task& task, v1::TaskState to);
  void EndLease(Task& task, LeaseEnd end, absl::Duration held);

  int64_t coordinator_epoch_ = 0;
  JobNumber last_job_;
  TaskId last_task_;
  TaskGroupId last_group_;
  EventSeq last_event_;
  std::map<JobNumber, Job> jobs_;
  std::map<TaskId, Task> tasks_;
  std::map<TaskGroupId, TaskGroup> groups_;
  std::map<WorkerUuid, Worker> workers_;
  std::map<std::string, Digest> corpora_;
  std::set<Digest> models_;
  std::map<TokenId, Token> tokens_;

  // Derived.
  std::map<JobUuid, JobNumber> job_of_uuid_;
  absl::flat_hash_map<Digest, TaskId> task_of_key_;
  std::map<Digest, std::set<TaskId>> live_tasks_of_model_;
  std::set<JobNumber> active_jobs_;  // not terminal
  std::set<TaskId> backoff_tasks_;
  std::set<TaskId> leased_tasks_;
  std::map<Digest, TokenId> token_of_secret_;
};

// What is wrong with the state, a sentence each; empty: nothing. Holds after
// every decision.
std::vector<std::string> CheckInvariants(const State& state);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_STATE_H_
