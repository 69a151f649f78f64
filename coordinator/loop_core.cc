#include "coordinator/loop_core.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error_codes.h"
#include "common/base/log.h"
#include "common/base/planted.h"
#include "common/base/status_macros.h"
#include "coordinator/core/attach.h"
#include "coordinator/core/job_control.h"
#include "coordinator/core/lease.h"
#include "coordinator/core/lists.h"

namespace qsweep {
namespace {

// A batch that fails again and again without any call in it is a defect that
// no caller can mend.
constexpr int kFailuresMax = 10;
// After the last write: a checkpoint in between would only slow the next.
constexpr absl::Duration kIdleAfter = absl::Seconds(1);

bool ChangesTokens(const Mutation& mutation) {
  return std::holds_alternative<TokenAdded>(mutation) ||
         std::holds_alternative<TokenRotated>(mutation) ||
         std::holds_alternative<TokenRevoked>(mutation);
}

absl::Status Retry(const absl::Status& why) {
  absl::Status status =
      absl::UnavailableError(absl::StrCat("not stored: ", why.message()));
  if (const auto info = GetErrorInfo(why)) {
    SetErrorInfo(status, *info);
  }
  return status;
}

}  // namespace

LoopCore::LoopCore(std::unique_ptr<Store> store, const Settings& settings,
                   const Clock& clock, uint64_t seed)
    : store_(std::move(store)),
      settings_(settings),
      clock_(clock),
      random_(seed) {}

SessionId LoopCore::NewSession() {
  std::string bytes;
  for (int i = 0; i < 2; ++i) {
    const uint64_t word = random_.Next();
    for (int shift = 0; shift < 64; shift += 8) {
      bytes.push_back(static_cast<char>(word >> shift & 0xff));
    }
  }
  return *SessionId::FromBytes(bytes);
}

absl::Status LoopCore::Start() {
  QSWEEP_RETURN_IF_ERROR(settings_.Validate());
  now_ = {.steady = clock_.SteadyNow(), .wall = clock_.Now()};
  last_step_at_ = now_.steady;
  QSWEEP_RETURN_IF_ERROR(Reload());
  const absl::Status committed = store_->Commit(batch_);
  if (absl::IsResourceExhausted(committed)) {
    LogError(absl::StrCat("starting on a full disk: ", committed.message()));
    EnterDiskFull();  // the batch stays: it goes with the next
    return store_->ReleaseReserve();
  }
  QSWEEP_RETURN_IF_ERROR(committed);
  batch_.clear();
  return absl::OkStatus();
}

void LoopCore::EnterDiskFull() {
  disk_full_ = true;
  disk_retry_at_ = now_.steady + settings_.heartbeat;
}

absl::Status LoopCore::Reload() {
  QSWEEP_ASSIGN_OR_RETURN(StateSnapshot snapshot, store_->Load());
  state_ = State(std::move(snapshot));
  tokens_.Publish(state_.tokens());
  batch_.clear();
  batch_tasks_.clear();
  batch_rows_.clear();
  plans_.Resume(state_);
  // Written with the next batch: a full disk must not keep us from serving.
  Apply({CoordinatorStarted{
      .epoch = state_.coordinator_epoch() + 1,
      .now = now_.steady,
      .failover_deadline = now_.steady + settings_.failover_ttl}});
  return absl::OkStatus();
}

absl::Status LoopCore::Step(SteadyTime now, std::vector<Call> calls) {
  size_t num_run = 0;
  const absl::Status status = RunStep(now, calls, num_run);
  if (!status.ok()) {
    // The process ends, and a call without an answer would keep the server
    // from closing.
    Forget(Retry(status));
    for (size_t i = num_run; i < calls.size(); ++i) {
      calls[i].refuse(absl::UnavailableError("the coordinator stops"));
    }
  }
  return status;
}

absl::Status LoopCore::RunStep(SteadyTime now, std::vector<Call>& calls,
                               size_t& num_run) {
  NoticeAbsence(now);
  // Microseconds are what the store keeps.
  now_ = {.steady = now,
          .wall = absl::FromUnixMicros(absl::ToUnixMicros(clock_.Now()))};
  if (Planted(Bug::kDeadlinesOnWallClock)) {
    now_.steady =
        SteadyTime::FromSinceBoot(now_.wall - absl::FromUnixSeconds(0));
  }
  const SteadyTime began = clock_.SteadyNow();
  for (Call& call : calls) {
    entries_.push_back({.call = std::move(call)});
    ++num_run;
    entries_.back().call.run(*this);
    QSWEEP_RETURN_IF_ERROR(fatal_);
    if (clock_.SteadyNow() - began > settings_.batch_time_max) {
      QSWEEP_RETURN_IF_ERROR(CommitBatch());
    }
  }
  if (disk_full_) {
    TryToLeaveDiskFull();
  }
  if (!disk_full_) {
    QSWEEP_RETURN_IF_ERROR(ContinuePlans());
    QSWEEP_RETURN_IF_ERROR(ContinuePurge());
    Tick();
    GrantLeases();
  }
  // While the disk is full nothing but results is worth the reserve.
  if (!disk_full_ || !entries_.empty()) {
    QSWEEP_RETURN_IF_ERROR(CommitBatch());
  }
  for (const Mutation& mutation : links_.Push(state_, settings_, now_.steady)) {
    state_.Apply(mutation);
  }
  QSWEEP_RETURN_IF_ERROR(watchers_.Advance(state_, *store_));
  if (calls.empty() && now_.steady >= idle_at_) {
    idle_at_ = SteadyTime::InfiniteFuture();
    // A checkpoint takes room: not before there is some. What it moves is safe
    // in the WAL.
    const absl::Status idle = disk_full_ ? absl::OkStatus() : store_->Idle();
    return absl::IsResourceExhausted(idle) ? absl::OkStatus() : idle;
  }
  return absl::OkStatus();
}

void LoopCore::Apply(std::vector<Mutation> mutations) {
  for (Mutation& mutation : mutations) {
    state_.Apply(mutation);
    if (const auto* committed = std::get_if<ResultCommitted>(&mutation)) {
      batch_tasks_.insert(committed->task);
      for (const MeasuredRow& row : committed->rows) {
        batch_rows_.emplace(row.configuration, row.document);
      }
    }
    batch_.push_back(std::move(mutation));
  }
}

void LoopCore::Answer(std::function<void(const absl::Status&)> answer) {
  QSWEEP_CHECK(!entries_.empty());
  entries_.back().answers.push_back(std::move(answer));
}

bool LoopCore::Touches(TaskId task, const std::vector<Digest>& configurations,
                       const std::vector<Digest>& documents) const {
  if (batch_tasks_.contains(task)) {
    return true;
  }
  if (batch_rows_.empty()) {
    return false;
  }
  return std::ranges::any_of(configurations, [&](const Digest& configuration) {
    return std::ranges::any_of(documents, [&](const Digest& document) {
      return batch_rows_.contains(std::pair(configuration, document));
    });
  });
}

absl::Status LoopCore::Flush() {
  Entry current = std::move(entries_.back());
  entries_.pop_back();
  const int64_t failures_before = failures_;
  absl::Status status = CommitBatch();
  if (!status.ok()) {
    fatal_ = status;
  } else if (failures_ > failures_before) {
    status = absl::UnavailableError("a commit before this call failed");
  }
  entries_.push_back(std::move(current));
  return status;
}

// While there are leases a step is due with each heartbeat. When none was made
// for much longer, this process was stopped or its machine slept: whoever is
// silent may have spoken meanwhile, and has a lease's time to be heard.
void LoopCore::NoticeAbsence(SteadyTime now) {
  const absl::Duration away = now - last_step_at_;
  last_step_at_ = now;
  if (!state_.leased_tasks().empty() &&
      away > settings_.heartbeat + settings_.lease_ttl / 4) {
    LogWarning(absl::StrCat("did not run for ", absl::FormatDuration(away),
                            ": no lease expires for ",
                            absl::FormatDuration(settings_.lease_ttl)));
    expire_not_before_ = now + settings_.lease_ttl;
  }
}

void LoopCore::Tick() {
  // Copies: each decision changes the sets.
  std::vector<TaskId> tasks(state_.backoff_tasks().begin(),
                            state_.backoff_tasks().end());
  if (now_.steady >= expire_not_before_) {
    tasks.insert(tasks.end(), state_.leased_tasks().begin(),
                 state_.leased_tasks().end());
  }
  for (const TaskId task : tasks) {
    Apply(DecideTimeout(state_, task, settings_, now_));
  }
  watchers_.CloseExpired(state_, now_);
  const std::vector<JobNumber> jobs(state_.active_jobs().begin(),
                                    state_.active_jobs().end());
  for (const JobNumber job : jobs) {
    Apply(DecideJobWait(state_, job, settings_, now_));
  }
  std::vector<WorkerUuid> workers;
  for (const auto& [uuid, worker] : state_.workers()) {
    workers.push_back(uuid);
  }
  for (const WorkerUuid& worker : workers) {
    Apply(DecideWorkerTimeout(state_, worker, now_));
  }
}

// Round after round, one lease for each worker that still has credit, so that
// the first worker does not take all.
void LoopCore::GrantLeases() {
  // A thousand workers report a hundred times a second.
  if (std::ranges::none_of(state_.active_jobs(), [this](JobNumber job) {
        return !state_.job(job).ready.empty();
      })) {
    return;
  }
  std::vector<WorkerUuid> workers = links_.Reachable();
  while (!workers.empty()) {
    std::erase_if(workers, [this](const WorkerUuid& worker) {
      auto decision = DecideLease(state_, worker, settings_, now_);
      const bool granted = decision.reply.ok() && decision.reply->has_value();
      Apply(std::move(decision.mutations));
      return !granted;
    });
  }
}

bool LoopCore::HasDurable() const {
  return std::ranges::any_of(batch_, IsDurable);
}

void LoopCore::ReportEndedJobs() const {
  for (const Mutation& mutation : batch_) {
    const auto* changed = std::get_if<JobStateChanged>(&mutation);
    if (on_job_end_ && changed != nullptr && IsTerminal(changed->state)) {
      on_job_end_(MakeJobSummary(state_.job(changed->job)));
    }
  }
}

absl::Status LoopCore::CommitBatch() {
  if (Planted(Bug::kAcknowledgeBeforeCommit)) {
    AnswerAll();
  }
  if (HasDurable()) {
    if (absl::Status status = store_->Commit(batch_); !status.ok()) {
      return HandleFailedCommit(status);
    }
    idle_at_ = now_.steady + kIdleAfter;
  }
  failures_in_row_ = 0;
  if (std::ranges::any_of(batch_, ChangesTokens)) {
    tokens_.Publish(state_.tokens());
  }
  purging_ |= std::ranges::any_of(batch_, [](const Mutation& mutation) {
    return std::holds_alternative<JobPurged>(mutation);
  });
  ReportEndedJobs();
  watchers_.OnCommitted(batch_);
  batch_.clear();
  batch_tasks_.clear();
  batch_rows_.clear();
  AnswerAll();
  plans_.AfterCommit(*this);
  return absl::OkStatus();
}

void LoopCore::AnswerAll() {
  for (Entry& entry : std::exchange(entries_, {})) {
    for (auto& answer : entry.answers) {
      answer(absl::OkStatus());
    }
  }
}

absl::Status LoopCore::HandleFailedCommit(const absl::Status& why) {
  LogError(absl::StrCat("commit failed: ", why.ToString()));
  ++failures_;
  failures_in_row_ += absl::IsResourceExhausted(why) ? 0 : 1;
  std::vector<Entry> entries = std::exchange(entries_, {});
  if (absl::IsDataLoss(why) || failures_in_row_ > kFailuresMax) {
    // Never tried again: after a failed fsync the kernel has marked the pages
    // clean, and a second one would lie.
    Forget(std::move(entries), Retry(why));
    return why;
  }
  if (absl::IsResourceExhausted(why)) {
    EnterDiskFull();
  }
  // Workers say hello again, which restores what only memory knew of them.
  // Watchers resume: should the batch be on disk, they missed its events.
  const absl::Status loads =
      absl::UnavailableError("the coordinator loads its state");
  links_.CloseAll(state_, settings_, false, loads);
  watchers_.CloseAll(loads);
  // A piece that cannot be stored never can: its client must not try for ever.
  plans_.Forget(absl::IsInternal(why) ? why : loads, loads);
  absl::Status status = Reload();
  if (status.ok() && disk_full_) {
    status = store_->ReleaseReserve();
  }
  if (status.ok() && absl::IsInternal(why) && entries.size() > 1 &&
      !Planted(Bug::kBadRequestPoisonsBatch)) {
    return RunOneByOne(std::move(entries));
  }
  Forget(std::move(entries),
         status.ok() && absl::IsInternal(why) ? why : Retry(why));
  return status;
}

// One request that the store cannot take must not take its batch along.
absl::Status LoopCore::RunOneByOne(std::vector<Entry> entries) {
  size_t num_again = 0;
  absl::Status status;
  while (status.ok() && num_again < entries.size()) {
    entries_.push_back({.call = std::move(entries[num_again].call)});
    ++num_again;
    entries_.back().call.run(*this);
    status = fatal_.ok() ? CommitBatch() : fatal_;
  }
  if (!status.ok()) {
    entries.erase(entries.begin(),
                  entries.begin() + static_cast<ptrdiff_t>(num_again));
    Forget(std::move(entries), Retry(status));
  }
  return status;
}

void LoopCore::Forget(const absl::Status& why) {
  Forget(std::exchange(entries_, {}), why);
}

void LoopCore::Forget(std::vector<Entry> entries, const absl::Status& why) {
  for (Entry& entry : entries) {
    for (auto& answer : entry.answers) {
      answer(why);
    }
  }
}

absl::Status LoopCore::ContinuePlans() {
  if (plans_.empty()) {
    return absl::OkStatus();
  }
  QSWEEP_RETURN_IF_ERROR(CommitBatch());  // so that the store answers as State
  return plans_.empty() || disk_full_ ? absl::OkStatus() : plans_.Step(*this);
}

absl::Status LoopCore::ContinuePurge() {
  constexpr int kRows = 1000;  // some milliseconds
  if (!purging_ || !plans_.empty()) {
    return absl::OkStatus();
  }
  QSWEEP_RETURN_IF_ERROR(CommitBatch());
  const absl::StatusOr<bool> more = store_->Purge(kRows);
  if (absl::IsDataLoss(more.status())) {
    return more.status();
  }
  if (!more.ok()) {
    LogWarning(absl::StrCat("deleting purged jobs: ", more.status().message()));
  }
  // After a failure the next purge or restart goes on.
  purging_ = more.ok() && *more;
  return absl::OkStatus();
}

void LoopCore::TryToLeaveDiskFull() {
  if (now_.steady < disk_retry_at_) {
    return;
  }
  if (store_->RestoreReserve().ok()) {
    LogInfo("the disk has room again");
    disk_full_ = false;
  } else {
    disk_retry_at_ = now_.steady + settings_.heartbeat;
  }
}

SteadyTime LoopCore::NextDeadline() const {
  if (watchers_.Behind() ||
      ((HasDurable() || !plans_.empty() || purging_) && !disk_full_)) {
    return now_.steady;
  }
  SteadyTime next = std::min(
      {links_.NextDeadline(), idle_at_, watchers_.NextExpiry(state_, now_)});
  if (disk_full_) {
    return std::min(next, disk_retry_at_);
  }
  if (!state_.leased_tasks().empty()) {
    next = std::min(next, last_step_at_ + settings_.heartbeat);
  }
  for (const TaskId task : state_.leased_tasks()) {
    next = std::min(next, std::max(TimeoutOf(state_.task(task), settings_),
                                   expire_not_before_));
  }
  for (const TaskId task : state_.backoff_tasks()) {
    next = std::min(next, TimeoutOf(state_.task(task), settings_));
  }
  for (const JobNumber job : state_.active_jobs()) {
    next = std::min(next, WaitDeadlineOf(state_.job(job), settings_));
  }
  for (const auto& [uuid, worker] : state_.workers()) {
    if (worker.liveness != WorkerLiveness::kLost) {
      next = std::min(next, worker.deadline);
    }
  }
  return next;
}

void LoopCore::Close(const absl::Status& status) {
  const absl::Status why = absl::UnavailableError("the coordinator stops");
  Forget(why);
  plans_.Forget(why, why);
  links_.CloseAll(state_, settings_, status.ok(), why);
  watchers_.CloseAll(why);
}

}  // namespace qsweep
