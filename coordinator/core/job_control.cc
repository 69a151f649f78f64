#include "coordinator/core/job_control.h"

#include <algorithm>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"
#include "coordinator/core/cancel.h"

namespace qsweep {
namespace {

absl::StatusOr<const Job*> FindOpen(const State& state, JobNumber number) {
  const Job* job = state.FindJob(number);
  if (job == nullptr) {
    return MakeError(kJobNotFound, absl::StrCat("no job ", number.value()));
  }
  if (job->terminal() || job->state == v1::JOB_STATE_STOPPING ||
      job->state == v1::JOB_STATE_PLANNING) {
    return MakeError(
        kWrongState,
        absl::StrCat("job ", number.value(), " is ", ShortName(job->state)), "",
        job->state == v1::JOB_STATE_PLANNING ? "Try again once it is queued."
                                             : "");
  }
  return job;
}

// A job that was granted a lease before has left the queue.
bool HasBegun(const Job& job) {
  for (const v1::TaskState state :
       {v1::TASK_STATE_LEASED, v1::TASK_STATE_DONE, v1::TASK_STATE_BACKOFF,
        v1::TASK_STATE_QUARANTINED}) {
    if (job.num_tasks(state) > 0) {
      return true;
    }
  }
  return false;
}

bool Waits(const Job& job) {
  return (job.state == v1::JOB_STATE_QUEUED ||
          job.state == v1::JOB_STATE_RUNNING) &&
         !job.ready.empty() && job.num_tasks(v1::TASK_STATE_LEASED) == 0;
}

// Of whom only audits are left: all that was to be measured is stored.
bool OnlyAudits(const State& state, const Job& job) {
  return std::ranges::all_of(job.tasks, [&state](const auto& entry) {
    const Task& task = state.task(entry.first);
    return !task.live() || task.history->audit_of.valid();
  });
}

// One of those that are ready; with the last of them the job has ended.
std::vector<Mutation> GiveUpAudit(const State& state, const Job& job,
                                  const std::string& reason, const Now& now) {
  const Task& audit = state.task(*job.ready.begin()->second.begin());
  Draft draft(state, now);
  draft.Add(TaskStateChanged{
      .task = audit.id, .to = v1::TASK_STATE_CANCELLED, .reason = reason});
  draft.AddTaskEvent(audit, {.kind = "task_cancelled",
                             .from = ShortName(audit.state),
                             .to = "CANCELLED",
                             .reason = reason});
  EndJobsOf(draft, audit, v1::TASK_STATE_CANCELLED);
  return draft.Take();
}

SteadyTime After(SteadyTime since, absl::Duration timeout) {
  return timeout > absl::ZeroDuration() ? since + timeout
                                        : SteadyTime::InfiniteFuture();
}

}  // namespace

SteadyTime WaitDeadlineOf(const Job& job, const Settings& settings) {
  if (job.waiting_since == SteadyTime::InfiniteFuture()) {
    return job.waiting_since;
  }
  return std::min(After(job.waiting_since, job.queue_timeout),
                  job.waiting_told
                      ? SteadyTime::InfiniteFuture()
                      : After(job.waiting_since, settings.queue_warning));
}

std::vector<Mutation> DecideJobWait(const State& state, JobNumber number,
                                    const Settings& settings, const Now& now) {
  const Job& job = state.job(number);
  const bool waited = job.waiting_since != SteadyTime::InfiniteFuture();
  if (Waits(job) != waited) {
    return {
        JobWaits{.job = number,
                 .since = waited ? SteadyTime::InfiniteFuture() : now.steady}};
  }
  if (WaitDeadlineOf(job, settings) > now.steady) {
    return {};
  }
  const std::string for_so_long = absl::FormatDuration(
      absl::Trunc(now.steady - job.waiting_since, absl::Seconds(1)));
  if (After(job.waiting_since, job.queue_timeout) <= now.steady) {
    const std::string reason = absl::StrCat("no worker took a task for ",
                                            for_so_long, ", its queue timeout");
    return OnlyAudits(state, job)
               ? GiveUpAudit(state, job, reason, now)
               : DecideCancel(state, number, reason, settings, now).mutations;
  }
  Draft draft(state, now);
  draft.Add(JobWaits{.job = number, .since = job.waiting_since, .told = true});
  const std::string current = ShortName(job.state);
  draft.AddJobEvent(
      number,
      {.kind = "job_waiting",
       .from = current,
       .to = current,
       .reason = absl::StrCat(
           "no worker took a task for ", for_so_long, ": qctl tasks explain ",
           job.ready.begin()->second.begin()->value(), " says why")});
  return draft.Take();
}

Decision<JobNumber> DecidePause(const State& state, JobNumber number,
                                const std::string& reason, const Now& now) {
  const absl::StatusOr<const Job*> job = FindOpen(state, number);
  if (!job.ok()) {
    return {.reply = job.status()};
  }
  if ((*job)->state == v1::JOB_STATE_PAUSED) {
    return {.reply = number};
  }
  Draft draft(state, now);
  MoveJob(draft, **job, v1::JOB_STATE_PAUSED, "job_paused", reason);
  return {.mutations = draft.Take(), .reply = number};
}

Decision<JobNumber> DecideResume(const State& state, JobNumber number,
                                 const Now& now) {
  const absl::StatusOr<const Job*> job = FindOpen(state, number);
  if (!job.ok()) {
    return {.reply = job.status()};
  }
  if ((*job)->state != v1::JOB_STATE_PAUSED) {
    return {.reply = number};
  }
  Draft draft(state, now);
  MoveJob(draft, **job,
          HasBegun(**job) ? v1::JOB_STATE_RUNNING : v1::JOB_STATE_QUEUED,
          "job_resumed", "");
  return {.mutations = draft.Take(), .reply = number};
}

Decision<JobNumber> DecidePriority(const State& state, JobNumber number,
                                   int priority, const Now& now) {
  const absl::StatusOr<const Job*> job = FindOpen(state, number);
  if (!job.ok()) {
    return {.reply = job.status()};
  }
  if ((*job)->priority == priority) {
    return {.reply = number};
  }
  Draft draft(state, now);
  draft.Add(JobPriorityChanged{.job = number, .priority = priority});
  const std::string current = ShortName((*job)->state);
  draft.AddJobEvent(number, {.kind = "job_priority",
                             .from = current,
                             .to = current,
                             .reason = absl::StrCat("priority ", priority)});
  return {.mutations = draft.Take(), .reply = number};
}

}  // namespace qsweep
