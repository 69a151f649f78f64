#include "coordinator/loop_core.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

#include "common/base/log.h"
#include "common/base/planted.h"
#include "common/base/status_macros.h"
#include "coordinator/core/attach.h"
#include "coordinator/core/cancel.h"
#include "coordinator/core/job_control.h"
#include "coordinator/core/lease.h"

namespace qsweep {

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

absl::Status LoopCore::Step(SteadyTime now, std::vector<Call> calls,
                            bool crowded) {
  size_t num_run = 0;
  const absl::Status status = RunStep(now, calls, crowded, num_run);
  if (!status.ok()) {
    // The process ends, and a call without an answer would keep the server
    // from closing.
    Forget(NotStored(status));
    for (size_t i = num_run; i < calls.size(); ++i) {
      calls[i].refuse(absl::UnavailableError("the coordinator stops"));
    }
  }
  return status;
}

absl::Status LoopCore::RunStep(SteadyTime now, std::vector<Call>& calls,
                               bool crowded, size_t& num_run) {
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
    QSWEEP_RETURN_IF_ERROR(Fatal());
    if (clock_.SteadyNow() - began > settings_.batch_time_max) {
      QSWEEP_RETURN_IF_ERROR(CommitBatch());
    }
  }
  if (disk_full_) {
    TryToLeaveDiskFull();
  }
  if (!disk_full_) {
    QSWEEP_RETURN_IF_ERROR(ContinuePlans());
    QSWEEP_RETURN_IF_ERROR(ContinueDrops());
    QSWEEP_RETURN_IF_ERROR(ContinuePurge());
    Tick();
    if (!crowded) {
      GrantLeases();
    }
    TickJobs();
  }
  watchers_.CloseExpired(state_, now_);
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

// While there are leases or jobs that wait a step is due with each heartbeat.
// When none was made for much longer, this process was stopped or its machine
// slept: whoever is silent may have spoken meanwhile, and has a lease's time to
// be heard; no job waited for a worker in that time.
void LoopCore::NoticeAbsence(SteadyTime now) {
  const absl::Duration away = now - last_step_at_;
  last_step_at_ = now;
  if (!IsDueEachHeartbeat() ||
      away <= settings_.heartbeat + settings_.lease_ttl / 4) {
    return;
  }
  LogWarning(absl::StrCat("did not run for ", absl::FormatDuration(away),
                          ": no lease expires for ",
                          absl::FormatDuration(settings_.lease_ttl)));
  expire_not_before_ = now + settings_.lease_ttl;
  for (const JobNumber number : state_.active_jobs()) {
    if (const Job& job = state_.job(number); Waits(job)) {
      state_.Apply(JobWaits{.job = number,
                            .since = job.waiting_since + away,
                            .told = job.waiting_told});
    }
  }
}

bool LoopCore::Waits(const Job& job) {
  return job.waiting_since != SteadyTime::InfiniteFuture();
}

bool LoopCore::IsDueEachHeartbeat() const {
  return !state_.leased_tasks().empty() ||
         std::ranges::any_of(state_.active_jobs(), [this](JobNumber number) {
           return Waits(state_.job(number));
         });
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
  std::vector<WorkerUuid> workers;
  for (const auto& [uuid, worker] : state_.workers()) {
    workers.push_back(uuid);
  }
  for (const WorkerUuid& worker : workers) {
    Apply(DecideWorkerTimeout(state_, worker, settings_, now_));
  }
}

// After the leases: a worker that has just come ends a job's wait.
void LoopCore::TickJobs() {
  const std::vector<JobNumber> jobs(state_.active_jobs().begin(),
                                    state_.active_jobs().end());
  for (const JobNumber job : jobs) {
    Apply(DecideJobWait(state_, job, settings_, now_));
  }
}

// Round after round, one lease for each worker that still has credit, so that
// the first worker does not take all. As many in a step as it takes calls; the
// next step goes on.
void LoopCore::GrantLeases() {
  // A thousand workers report a hundred times a second.
  if (std::ranges::none_of(state_.active_jobs(), [this](JobNumber job) {
        return !state_.job(job).ready.empty();
      })) {
    more_leases_ = false;
    return;
  }
  std::vector<WorkerUuid> workers = links_.Reachable();
  if (more_leases_) {  // on with the worker whose turn it was
    std::ranges::rotate(workers,
                        std::ranges::lower_bound(workers, next_worker_));
    more_leases_ = false;
  }
  int granted = 0;
  while (!workers.empty() && !more_leases_) {
    std::erase_if(workers, [&](const WorkerUuid& worker) {
      if (granted == settings_.batch_requests_max) {
        if (!more_leases_) {
          more_leases_ = true;
          next_worker_ = worker;
        }
        return false;
      }
      auto decision = DecideLease(state_, worker, settings_, now_);
      const bool grants = decision.reply.ok() && decision.reply->has_value();
      granted += grants ? 1 : 0;
      Apply(std::move(decision.mutations));
      return !grants;
    });
  }
}

absl::Status LoopCore::ContinuePlans() {
  if (plans_.empty()) {
    return absl::OkStatus();
  }
  QSWEEP_RETURN_IF_ERROR(CommitBatch());  // so that the store answers as State
  if (plans_.empty() || disk_full_) {
    return absl::OkStatus();
  }
  QSWEEP_RETURN_IF_ERROR(plans_.Step(*this));
  return CommitBatch();  // alone: when it fails nothing else is to blame
}

std::optional<JobNumber> LoopCore::JobToDropFrom() const {
  const auto& jobs = state_.active_jobs();
  const auto job = std::ranges::find_if(jobs, [this](JobNumber number) {
    return HasTasksToDrop(state_.job(number));
  });
  return job == jobs.end() ? std::nullopt : std::optional(*job);
}

absl::Status LoopCore::ContinueDrops() {
  if (!JobToDropFrom()) {
    return absl::OkStatus();
  }
  QSWEEP_RETURN_IF_ERROR(CommitBatch());  // no call waits for the slice
  const std::optional<JobNumber> job = JobToDropFrom();
  if (!job || disk_full_) {
    return absl::OkStatus();
  }
  Apply(DecideDropWaiting(state_, *job, settings_, now_));
  return CommitBatch();
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
  if ((HasDurable() || !plans_.empty() || purging_ || more_leases_ ||
       JobToDropFrom()) &&
      !disk_full_) {
    return now_.steady;
  }
  SteadyTime next = std::min({links_.NextDeadline(), idle_at_,
                              watchers_.NextExpiry(state_, now_),
                              watchers_.NextAdvance(now_.steady)});
  if (disk_full_) {
    return std::min(next, disk_retry_at_);
  }
  if (IsDueEachHeartbeat()) {
    next = std::min(next, last_step_at_ + settings_.heartbeat);
  }
  for (const TaskId task : state_.leased_tasks()) {
    next =
        std::min(next, std::max(TimeoutOf(state_, state_.task(task), settings_),
                                expire_not_before_));
  }
  for (const TaskId task : state_.backoff_tasks()) {
    next = std::min(next, TimeoutOf(state_, state_.task(task), settings_));
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
