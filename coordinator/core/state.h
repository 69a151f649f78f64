#ifndef QSWEEP_COORDINATOR_CORE_STATE_H_
#define QSWEEP_COORDINATOR_CORE_STATE_H_

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/strings/string_view.h"

#include "coordinator/core/digest_index.h"
#include "coordinator/core/live_tasks.h"
#include "coordinator/core/mutation.h"
#include "coordinator/core/speeds.h"
#include "coordinator/core/task.h"

namespace qsweep {

// Ids and counters of jobs, tasks and workers: no texts, no measurement
// values. Value types; members are durable unless they stand under `Memory`.

// So far above what a task has that nothing comes near, and a job's sum cannot
// overflow.
inline constexpr int64_t kMostMeasurementsPerTask = (int64_t{1} << 32) - 1;

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
  bool fresh = false;   // its tasks measure what is measured already, too
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
  int64_t last_job_seq = 0;  // of its events, without gaps
  // -> its measurements they bring, at most kMostMeasurementsPerTask.
  absl::btree_map<Compact<TaskId>, uint32_t> tasks;

  v1::Requirements require;  // of a worker that runs tasks on its behalf
  v1::Compute compute = v1::COMPUTE_FP32;  // that its device must have
  absl::Duration queue_timeout;            // zero: it waits on

  // Memory
  // Since when it has tasks to run and nobody on them; InfiniteFuture: it has
  // none, or somebody is.
  SteadyTime waiting_since = SteadyTime::InfiniteFuture();
  bool waiting_told = false;

  // Derived from the tasks on Apply.
  std::array<int64_t, v1::TaskState_ARRAYSIZE> tasks_by_state = {};
  // Tasks in state READY; groups without one are left out. Of a group all fit
  // the same workers, so placement looks at groups.
  std::map<TaskGroupId, absl::btree_set<Compact<TaskId>>> ready;

  bool terminal() const;
  int64_t num_tasks(v1::TaskState in) const {
    return tasks_by_state[static_cast<size_t>(in)];
  }
  int64_t tasks_live() const;  // not DONE, QUARANTINED or CANCELLED
};

// Fills the members that a spec decides for good; the priority is not one.
void TakeSpec(const v1::JobSpec& spec, Job& job);

struct TaskGroup {
  TaskGroupId id;
  std::shared_ptr<const v1::TaskSpec> prototype;
  Digest model_digest;
  std::vector<Digest> configurations;  // parallel to the prototype's
  std::string evaluation_name;         // "aligned@1": what a worker must list
  std::set<std::string> methods;  // of its quantizers: "rtn"; kKeepsLargest

  // Memory
  size_t panel = 0;  // State's number of its model and evaluation
  int64_t num_tasks = 0;
};
// Derives the rest from a prototype whose digests are 32 bytes each.
TaskGroup MakeTaskGroup(TaskGroupId id,
                        std::shared_ptr<const v1::TaskSpec> prototype);

// Name of a worker's first device, as "Tesla T4"; its kind when it has none.
std::string DeviceType(const std::vector<v1::Device>& devices);
// What an attempt of the group's task teaches. held: for how long it has had
// the lease; nothing: it has lost it. Times that are longer, which the worker
// made up or a restart of the coordinator has shortened, teach nothing.
SpeedSample MakeSpeedSample(const TaskGroup& group, double estimated_seconds,
                            const std::vector<v1::Device>& devices,
                            const v1::TaskReport& report,
                            std::optional<absl::Duration> held);

// Of estimated_seconds, for one reading of the weights.
double ReadingSeconds(const v1::TaskSpec& prototype);

bool IsTerminal(v1::JobState state);  // SUCCEEDED, FAILED, CANCELLED

// So many tasks done take one from Worker::blamed: over a long sweep a sound
// machine fails now and then, a broken one more often than that.
inline constexpr int64_t kTasksPerPardon = 10;

struct Worker {
  WorkerUuid uuid;
  std::string name;
  std::string build_id;
  std::vector<v1::Device> devices;
  uint64_t boot_seq = 0;
  std::string credential;
  WorkerMode mode = WorkerMode::kOpen;
  std::string mode_reason;
  // Tasks that failed here and were done elsewhere, less those forgiven.
  int64_t blamed = 0;
  int64_t tasks_done = 0;
  absl::Duration attached;  // in all, up to counted_until
  absl::Time last_seen;     // at the last durable change; for people

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
  absl::Duration drain_deadline;  // kDraining: zero when there is no hurry
  JobNumber holder;          // the job of its last lease: it holds the worker
  Digest loaded;             // model of the last task it was seen to run
  SteadyTime charged_until;  // its leases that ended paid for its time so far
  SteadyTime counted_until;  // `attached` has its time so far
};

// What Store::Load returns, and all a State is made from: the durable members
// of the structs above (the others keep their defaults).
struct StateSnapshot {
  int64_t coordinator_epoch = 0;
  TaskId last_task;
  TaskGroupId last_group;
  EventSeq last_event;
  std::vector<Job> jobs;  // `tasks` filled; derived members empty
  std::vector<TaskGroup> groups;
  TaskTable tasks;        // `jobs` filled
  DigestTable documents;  // that the tasks' documents are numbers of
  std::vector<Worker> workers;
  std::map<std::string, Digest> corpora;  // name -> newest digest
  std::set<Digest> models;
  std::vector<Token> tokens;        // `uses` empty
  std::vector<SpeedSample> speeds;  // those that Speeds keeps, oldest first
};

// Everything decisions are made from. Single-thread: the loop's. Copyable.
//   State state(snapshot);
//   for (const Mutation& m : decision.mutations) state.Apply(m);
class State {
 public:
  State();
  explicit State(StateSnapshot snapshot);
  State(const State& other);
  State(State&& other) noexcept;
  State& operator=(const State& other);
  State& operator=(State&& other) noexcept;
  ~State();

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
  // Of the tasks that were given up (QUARANTINED or CANCELLED): a live one is
  // found by what it brings, a DONE one by its measurements.
  const Task* FindGivenUp(const Digest& content_key) const;
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
  const TaskTable& tasks() const { return tasks_; }
  // Of the documents of tasks, by DocumentRef::document.
  const DigestTable& documents() const { return documents_; }
  const std::map<WorkerUuid, Worker>& workers() const { return workers_; }
  // Learned of the attempts that were done.
  const Speeds& speeds() const { return speeds_; }
  const std::map<std::string, Digest>& corpora() const { return corpora_; }
  const std::set<Digest>& models() const { return models_; }
  const std::map<TokenId, Token>& tokens() const { return tokens_; }
  const std::set<JobNumber>& active_jobs() const { return active_jobs_; }
  // Tasks in BACKOFF and LEASED: what a tick has to look at.
  const std::set<TaskId>& backoff_tasks() const { return backoff_tasks_; }
  const std::set<TaskId>& leased_tasks() const { return leased_tasks_; }
  // Live tasks that bring measurements of the document, ascending: for sharing
  // between jobs. The list lives until the next Apply.
  std::span<const Compact<TaskId>> LiveTasksOn(const Digest& model,
                                               const std::string& evaluation,
                                               const Digest& document) const;
  // Of all tasks.
  int64_t num_tasks(v1::TaskState state) const {
    return tasks_by_state_[static_cast<size_t>(state)];
  }

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
  void On(const JobDocumentsAdded& m);
  void On(const JobPlanningResumed& m);
  void On(const JobActivated& m);
  void On(const JobReopened& m);
  void On(const JobPurged& m);
  void On(const JobPriorityChanged& m);
  void On(const JobStateChanged& m);
  void On(const TaskGroupAdded& m);
  void On(const TaskAdded& m);
  void On(const JobTaskAdded& m);
  void On(const JobTaskRemoved& m);
  void On(const LeaseGranted& m);
  void On(const LeaseEnded& m);
  void On(const TaskStateChanged& m);
  void On(const TaskForgotten& m);
  void On(const ResultCommitted& m);
  void On(const DuplicateRecorded& m);
  void On(const EventAppended& m);
  void On(const WorkerTimeAdded& m);
  void On(const WorkerAttached& m);
  void On(const WorkerModeChanged& m);
  void On(const WorkerForgotten& m);
  void On(const WorkerBlamed& m);
  void On(const WorkerReported& m);
  void On(const WorkerLivenessChanged& m);
  void On(const LeaseRenewed& m);
  void On(const JobWaits& m);
  void On(const WorkerInformed& m);
  void On(const TokenAdded& m);
  void On(const TokenRotated& m);
  void On(const TokenRevoked& m);
  void On(const AuditRecorded& m);

  void AddGroup(TaskGroup group);
  // Of a task that was given up: it is found by its content.
  void IndexKey(const Task& task);
  void UnindexKey(const Task& task);
  auto KeyOfTask() const {
    return [this](uint32_t number) -> const Digest& {
      return tasks_.at(TaskId(int64_t{number})).content_key;
    };
  }
  void Forget(TaskId id);
  // Indexes and counters that follow from the task's state and subscribers:
  // Leave before a change of either, Enter after it.
  void Enter(const Task& task);
  void Leave(const Task& task);
  void Move(Task& task, v1::TaskState to);
  // The index of live tasks by document: after a task became live, and before
  // it is live no more.
  void Cover(const Task& task);
  void Uncover(const Task& task);
  void EndLease(Task& task, LeaseEnd end, absl::Duration held);

  int64_t coordinator_epoch_ = 0;
  JobNumber last_job_;
  TaskId last_task_;
  TaskGroupId last_group_;
  EventSeq last_event_;
  std::map<JobNumber, Job> jobs_;
  TaskTable tasks_;
  DigestTable documents_;
  std::map<TaskGroupId, TaskGroup> groups_;
  std::map<WorkerUuid, Worker> workers_;
  std::map<std::string, Digest> corpora_;
  std::set<Digest> models_;
  std::map<TokenId, Token> tokens_;
  Speeds speeds_;

  // Derived.
  std::map<JobUuid, JobNumber> job_of_uuid_;
  DigestIndex given_up_;  // by content key
  // Of each model and evaluation that has tasks: its live tasks by document.
  std::map<std::pair<Digest, std::string>, size_t> panels_;
  std::vector<LiveTasks> live_on_;  // by panel
  std::array<int64_t, v1::TaskState_ARRAYSIZE> tasks_by_state_ = {};
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
