#include "coordinator/core/lease.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error_codes.h"
#include "common/base/planted.h"
#include "common/base/random.h"
#include "coordinator/core/cancel.h"
#include "coordinator/core/policy.h"

namespace qsweep {
namespace {

// Full jitter: uniform below a bound that doubles with each charged attempt.
// The same task and epoch always get the same delay, so a replay agrees.
absl::Duration BackoffOf(const Task& task, int charged,
                         const Settings& settings) {
  constexpr int kDoublingsMax = 60;  // of a microsecond: beyond every bound
  const double doublings = std::min(charged - 1, kDoublingsMax);
  const absl::Duration bound = std::min(
      settings.backoff_min * std::exp2(doublings), settings.backoff_max);
  Random random(settings.jitter_seed +
                static_cast<uint64_t>(task.id.value()) * 1'000'003 +
                static_cast<uint64_t>(task.epoch().value()));
  return absl::Trunc(bound * random.Uniform(), absl::Microseconds(1));
}

// A task that only ever ran on one broken machine is not to blame: it must
// have taken down three different workers, or as many as may run it.
bool LostBudgetSpent(const State& state, const Task& task,
                     const Settings& settings) {
  if (task.history->lost + 1 < settings.lost_budget) {
    return false;
  }
  std::set<WorkerUuid> workers = {task.lease->worker};
  for (const Grant& grant : task.history->grants) {
    if (grant.end == LeaseEnd::kLost) {
      workers.insert(grant.worker);
    }
  }
  size_t fitting = 0;
  for (const auto& [uuid, worker] : state.workers()) {
    fitting += MayRun(state, task, worker, settings) ? 1 : 0;
  }
  return workers.size() >= std::min<size_t>(3, std::max<size_t>(fitting, 1));
}

v1::TaskState StateAfter(const State& state, const Task& task, LeaseEnd end,
                         bool retryable, const Settings& settings) {
  switch (end) {
    case LeaseEnd::kPreempted:
      return v1::TASK_STATE_READY;
    case LeaseEnd::kLost:
      return LostBudgetSpent(state, task, settings) ? v1::TASK_STATE_QUARANTINED
                                                    : v1::TASK_STATE_BACKOFF;
    case LeaseEnd::kFailed:
    case LeaseEnd::kStalled:
      return !retryable || task.history->failed + 1 >=
                               FailedBudget(state, task, settings)
                 ? v1::TASK_STATE_QUARANTINED
                 : v1::TASK_STATE_BACKOFF;
    default:
      QSWEEP_CHECK(false);  // results and cancels end leases elsewhere
  }
  return v1::TASK_STATE_UNSPECIFIED;
}

// Since when the worker has had nothing older to do; InfiniteFuture: it has. A
// task that was fetched ahead waits for its turn as long as that takes.
SteadyTime TurnOf(const State& state, const Task& task) {
  const Lease& lease = *task.lease;
  const Worker& worker = *state.FindWorker(lease.worker);
  const bool first = std::ranges::all_of(worker.leases, [&](TaskId id) {
    return std::pair(lease.granted_at, TaskId(task.id)) <=
           std::pair(state.task(id).lease->granted_at, id);
  });
  return first ? std::max(lease.granted_at, worker.charged_until)
               : SteadyTime::InfiniteFuture();
}

std::string FailureText(const v1::Failure& failure) {
  return failure.detail().code().empty()
             ? failure.message()
             : absl::StrCat(failure.detail().code(), ": ", failure.message());
}

// What a worker says is stored with the task and in events: not at any length,
// and not cut within a character.
std::string Shortened(absl::string_view text) {
  constexpr size_t kBytesMax = 4096;
  if (text.size() <= kBytesMax) {
    return std::string(text);
  }
  size_t end = kBytesMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) {
    --end;
  }
  return absl::StrCat(text.substr(0, end), " ...");
}

}  // namespace

int FailedBudget(const State& state, const Task& task,
                 const Settings& settings) {
  int budget = 0;
  for (const JobNumber number : task.jobs) {
    const int retries = state.job(number).max_retries;
    budget = std::max(budget, retries > 0 ? retries : settings.failed_budget);
  }
  return budget;
}

Decision<std::optional<LeaseGrant>> DecideLease(const State& state,
                                                const WorkerUuid& uuid,
                                                const Settings& settings,
                                                const Now& now) {
  const Worker* worker = state.FindWorker(uuid);
  if (worker == nullptr) {
    return {.reply = absl::NotFoundError(
                absl::StrCat("no such worker: ", uuid.text()))};
  }
  const std::optional<Pick> pick = PickTask(state, *worker, settings, now);
  if (!pick) {
    return {.reply = std::nullopt};
  }
  const Task& task = state.task(pick->task);
  const Epoch epoch = task.epoch().Next();
  Draft draft(state, now);
  for (const JobNumber number : task.jobs) {
    if (state.job(number).state == v1::JOB_STATE_QUEUED) {
      MoveJob(draft, state.job(number), v1::JOB_STATE_RUNNING, "job_running",
              "");
    }
  }
  draft.Add(LeaseGranted{
      .task = task.id,
      .epoch = epoch,
      .job = pick->job,
      .worker = uuid,
      .session = worker->session,
      .credential = worker->credential,
      .granted_at = now.wall,
      .now = now.steady,
      .deadline =
          now.steady + std::min(settings.start_deadline, settings.lease_ttl)});
  draft.AddTaskEvent(task, {.kind = "task_leased",
                            .from = ShortName(task.state),
                            .to = "LEASED",
                            .worker = worker->name,
                            .epoch = epoch});
  return {.mutations = draft.Take(),
          .reply = LeaseGrant{.task = task.id, .epoch = epoch}};
}

std::vector<Mutation> DecideLeaseEnd(const State& state, TaskId id,
                                     LeaseEnd end, absl::string_view reason,
                                     bool retryable, const Settings& settings,
                                     const Now& now) {
  const std::string shortened = Shortened(reason);
  const Task& task = state.task(id);
  QSWEEP_CHECK(task.lease);
  v1::TaskState to = StateAfter(state, task, end, retryable, settings);
  Draft draft(state, now);
  const bool given_up = to == v1::TASK_STATE_QUARANTINED;
  // What an audit checks is stored: that nobody can repeat it fails no job.
  if (given_up ? task.history->audit_of.valid()
               : !DropStoppingJobs(draft, task)) {
    to = v1::TASK_STATE_CANCELLED;
  }
  LeaseEnded ended{.task = id,
                   .epoch = task.epoch(),
                   .end = end,
                   .to = to,
                   .reason = shortened,
                   .held = draft.HeldTime(task),
                   .ended_at = now.wall,
                   .now = now.steady};
  if (to == v1::TASK_STATE_BACKOFF) {
    ended.backoff = BackoffOf(
        task, task.history->failed + task.history->lost + 1, settings);
  }
  draft.Add(std::move(ended));
  draft.AddTaskEvent(
      task, {.kind = to == v1::TASK_STATE_QUARANTINED ? "task_quarantined"
                     : to == v1::TASK_STATE_CANCELLED ? "task_cancelled"
                                                      : "task_requeued",
             .from = ShortName(task.state),
             .to = ShortName(to),
             .reason = absl::StrCat(LeaseEndName(end),
                                    shortened.empty() ? "" : ": ", shortened),
             .worker = WorkerName(state, task.lease->worker),
             .epoch = task.epoch()});
  if (to == v1::TASK_STATE_QUARANTINED || to == v1::TASK_STATE_CANCELLED) {
    EndJobsOf(draft, task, to);
  }
  if (to == v1::TASK_STATE_QUARANTINED) {
    FailJobsOverLimit(draft, task, settings);
  }
  return draft.Take();
}

Decision<v1::ReleaseTaskResponse> DecideRelease(
    const State& state, absl::string_view credential,
    const v1::ReleaseTaskRequest& request, const Settings& settings,
    const Now& now) {
  const Task* task =
      state.FindTask(TaskId(static_cast<int64_t>(request.task_id())));
  const Epoch epoch(static_cast<int64_t>(request.epoch()));
  if (task == nullptr || !epoch.valid() || epoch > task->epoch()) {
    return {.reply = MakeError(kTaskNotFound,
                               absl::StrCat("no lease ", request.task_id(),
                                            " of epoch ", request.epoch()))};
  }
  if (task->history->grants[static_cast<size_t>(epoch.value() - 1)]
          .credential != credential) {
    return {.reply =
                MakeError(kNotAllowed, "the lease was granted to another")};
  }
  if (!task->lease || epoch != task->epoch()) {
    return {.reply = v1::ReleaseTaskResponse()};
  }
  LeaseEnd end = LeaseEnd::kFailed;
  switch (request.reason()) {
    case v1::RELEASE_REASON_FAILED:
      break;
    case v1::RELEASE_REASON_STALLED:
      end = LeaseEnd::kStalled;
      break;
    case v1::RELEASE_REASON_PREEMPTED:
    case v1::RELEASE_REASON_DRAINED:
      end = Planted(Bug::kPreemptionCharged) ? LeaseEnd::kFailed
                                             : LeaseEnd::kPreempted;
      break;
    default:
      return {.reply =
                  MakeError(kBadValue,
                            absl::StrCat("unknown release reason ",
                                         static_cast<int>(request.reason())),
                            "reason")};
  }
  // A stall says nothing about the task: it is always worth another attempt.
  const bool retryable =
      end == LeaseEnd::kStalled || request.failure().retryable();
  return {.mutations = DecideLeaseEnd(state, task->id, end,
                                      FailureText(request.failure()), retryable,
                                      settings, now),
          .reply = v1::ReleaseTaskResponse()};
}

SteadyTime TimeoutOf(const State& state, const Task& task,
                     const Settings& settings) {
  if (task.state == v1::TASK_STATE_BACKOFF) {
    return task.history->ready_at;
  }
  if (!task.lease) {
    return SteadyTime::InfiniteFuture();
  }
  const Lease& lease = *task.lease;
  switch (lease.progress.phase()) {
    case v1::TASK_PHASE_RUN:
      return std::min(
          {lease.deadline, lease.run_deadline,
           lease.progress_at + (lease.progress_limit > absl::ZeroDuration()
                                    ? lease.progress_limit
                                    : settings.progress_deadline)});
    case v1::TASK_PHASE_FETCH:
      // Who has run it does not get the time of a load once more.
      return std::min({lease.deadline, lease.run_deadline,
                       std::max(TurnOf(state, task), lease.progress_at) +
                           settings.fetch_deadline});
    case v1::TASK_PHASE_COMMIT:
      return std::min(lease.deadline, lease.commit_deadline);
    default:
      return lease.deadline;  // not listed yet
  }
}

std::vector<Mutation> DecideTimeout(const State& state, TaskId id,
                                    const Settings& settings, const Now& now) {
  const Task& task = state.task(id);
  if (TimeoutOf(state, task, settings) > now.steady) {
    return {};
  }
  if (task.state == v1::TASK_STATE_BACKOFF) {
    Draft draft(state, now);
    draft.Add(TaskStateChanged{.task = id,
                               .to = v1::TASK_STATE_READY,
                               .reason = task.history->reason});
    draft.AddTaskEvent(
        task, {.kind = "task_ready", .from = "BACKOFF", .to = "READY"});
    return draft.Take();
  }
  const Lease& lease = *task.lease;
  const std::string worker =
      absl::StrCat("worker ", WorkerName(state, lease.worker));
  if (lease.deadline <= now.steady) {
    const Worker* known = state.FindWorker(lease.worker);
    const bool heard = known != nullptr && known->hello != nullptr &&
                       known->liveness == WorkerLiveness::kLive;
    return DecideLeaseEnd(
        state, id, LeaseEnd::kLost,
        absl::StrCat(worker, lease.listed || !heard
                                 ? " was not heard of in time"
                                 : " did not begin with it in time"),
        true, settings, now);
  }
  return DecideLeaseEnd(
      state, id, LeaseEnd::kStalled,
      lease.progress.phase() == v1::TASK_PHASE_COMMIT
          ? absl::StrCat(worker, " has its result and does not bring it")
      : lease.run_deadline <= now.steady
          ? absl::StrCat("it ran far longer than such tasks do on ", worker)
          : absl::StrCat("no progress on ", worker),
      true, settings, now);
}

}  // namespace qsweep
