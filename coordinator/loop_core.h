#ifndef QSWEEP_COORDINATOR_LOOP_CORE_H_
#define QSWEEP_COORDINATOR_LOOP_CORE_H_

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"

#include "common/base/clock.h"
#include "common/base/random.h"
#include "coordinator/core/decision.h"
#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"
#include "coordinator/loop_links.h"
#include "coordinator/loop_plans.h"
#include "coordinator/loop_watchers.h"
#include "coordinator/store/store.h"
#include "coordinator/token_table.h"

namespace qsweep {

class LoopCore;

// A queued request. run decides, applies and leaves its answer with
// LoopCore::Answer; it may be run again after a reload. refuse answers a call
// that was never run.
struct Call {
  std::function<void(LoopCore&)> run;
  std::function<void(const absl::Status&)> refuse;
  size_t bytes = 0;  // of the message it holds, where that may be large
};

// The loop without its thread and queue: State, the store, and the batch that
// is on its way from one to the other. Single-thread.
class LoopCore {
 public:
  LoopCore(std::unique_ptr<Store> store, const Settings& settings,
           const Clock& clock, uint64_t seed);

  // As Loop's.
  void OnJobEnd(std::function<void(v1::JobSummary)> hook) {
    on_job_end_ = std::move(hook);
  }

  // Loads State and commits the new coordinator epoch. Errors: the store's.
  absl::Status Start();
  // One step over these calls, time and leases. crowded: more calls wait than
  // are taken in time, so no lease is granted. An error is fatal; every call
  // has had its answer then, too.
  absl::Status Step(SteadyTime now, std::vector<Call> calls, bool crowded);
  // When time alone gives Step something to do.
  SteadyTime NextDeadline() const;
  // Tells workers that the coordinator goes away, and closes all. After an
  // error State holds what was never stored: nothing of it is told.
  void Close(const absl::Status& status);

  // For calls, while they run.
  const State& state() const { return state_; }
  Store& store() { return *store_; }
  const Settings& settings() const { return settings_; }
  const Clock& clock() const { return clock_; }
  const Now& now() const { return now_; }
  Links& links() { return links_; }
  Watchers& watchers() { return watchers_; }
  LongPlans& plans() { return plans_; }
  const TokenTable& tokens() const { return tokens_; }
  SessionId NewSession();
  bool disk_full() const { return disk_full_; }
  // What a call hears whose batch is not on disk: it may be repeated.
  static absl::Status NotStored(const absl::Status& why);

  // Applies to State now, writes with the batch.
  void Apply(std::vector<Mutation> mutations);
  // Called once: with OK when the batch is on disk, else with why it is not.
  void Answer(std::function<void(const absl::Status&)> answer);
  // Commits what calls before this one left, so that the store answers as State
  // does. Only before the call applied anything. An error is the call's answer.
  absl::Status Flush();
  // What was applied and is not on its way to the disk yet.
  std::span<const Mutation> batch() const { return batch_; }
  // Whether the batch holds a result of the task, or one of these measurements.
  bool Touches(TaskId task, const std::vector<Digest>& configurations,
               const std::vector<Digest>& documents) const;

 private:
  struct Entry {
    Call call;
    std::vector<std::function<void(const absl::Status&)>> answers;
  };

  // num_run: how many of the calls were started, errors included.
  absl::Status RunStep(SteadyTime now, std::vector<Call>& calls, bool crowded,
                       size_t& num_run);
  void NoticeAbsence(SteadyTime now);
  static bool Waits(const Job& job);
  bool IsDueEachHeartbeat() const;
  void Tick();
  void TickJobs();
  void GrantLeases();
  void EnterDiskFull();
  void TryToLeaveDiskFull();
  absl::Status ContinuePlans();
  // Of a job with tasks to drop; nothing: no job has.
  std::optional<JobNumber> JobToDropFrom() const;
  absl::Status ContinueDrops();
  absl::Status ContinuePurge();
  // Commits the batch and answers its calls; an error is fatal.
  absl::Status CommitBatch();
  void AnswerAll();
  absl::Status HandleFailedCommit(const absl::Status& why);
  // why: what their batch failed with.
  absl::Status RunOneByOne(std::vector<Entry> entries, const absl::Status& why);
  // Answers the batch's entries, or these.
  void Forget(const absl::Status& why);
  static void Forget(std::vector<Entry> entries, const absl::Status& why);
  absl::Status Reload();
  bool HasDurable() const;
  // What ends the process: of the store, or of a commit within a call.
  absl::Status Fatal() const { return fatal_.ok() ? store_->Health() : fatal_; }
  void ReportEndedJobs() const;

  // Constant.
  const std::unique_ptr<Store> store_;
  const Settings settings_;
  const Clock& clock_;

  std::function<void(v1::JobSummary)> on_job_end_;

  State state_;
  Random random_;
  Links links_;
  Watchers watchers_;
  LongPlans plans_;
  TokenTable tokens_;
  Now now_;
  absl::Status fatal_;

  // The batch.
  std::vector<Mutation> batch_;
  std::vector<Entry> entries_;
  absl::flat_hash_set<TaskId> batch_tasks_;
  absl::flat_hash_set<std::pair<Digest, Digest>> batch_rows_;

  // Of commits, a full disk and refused calls aside; those that stored nothing
  // new count for nothing.
  int failures_in_row_ = 0;
  bool one_by_one_ = false;  // the calls of a batch that failed
  int64_t failures_ = 0;     // in all
  SteadyTime last_step_at_;
  SteadyTime expire_not_before_;  // leases: see NoticeAbsence
  bool disk_full_ = false;        // no leases, no submits
  SteadyTime disk_retry_at_;
  bool more_leases_ = false;  // to grant in the next step,
  WorkerUuid next_worker_;    // from this worker on
  bool purging_ = true;       // perhaps rows of purged jobs are left
  SteadyTime idle_at_ = SteadyTime::InfiniteFuture();  // time for Store::Idle
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_LOOP_CORE_H_
