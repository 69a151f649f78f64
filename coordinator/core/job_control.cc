#include "coordinator/core/job_control.h"

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"

namespace qsweep {
namespace {

absl::StatusOr<const Job*> FindOpen(const State& state, JobNumber number) {
  const Job* job = state.FindJob(number);
  if (job == nullptr) {
    return MakeError(kJobNotFound, absl::StrCat("no job ", number.value()));
  }
  if (job->terminal() || job->state == v1::JOB_STATE_STOPPING) {
    return MakeError(kWrongState, absl::StrCat("job ", number.value(), " is ",
                                               ShortName(job->state)));
  }
  return job;
}

// A job that was granted a lease before has left the queue.
bool HasBegun(const Job& job) {
  for (const v1::TaskState state :
       {v1::TASK_STATE_LEASED, v1::TASK_STATE_DONE, v1::TASK_STATE_BACKOFF,
        v1::TASK_STATE_QUARANTINED}) {
    if (job.tasks_by_state[static_cast<size_t>(state)] > 0) {
      return true;
    }
  }
  return false;
}

}  // namespace

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
