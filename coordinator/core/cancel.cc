#include "coordinator/core/cancel.h"

#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"

namespace qsweep {
namespace {

void CancelTask(Draft& draft, const Task& task, absl::string_view reason) {
  if (task.lease) {
    draft.Add(LeaseEnded{.task = task.id,
                         .epoch = task.epoch(),
                         .end = LeaseEnd::kCancelled,
                         .to = v1::TASK_STATE_CANCELLED,
                         .reason = std::string(reason),
                         .ended_at = draft.now().wall,
                         .now = draft.now().steady});
  } else {
    draft.Add(TaskStateChanged{.task = task.id,
                               .to = v1::TASK_STATE_CANCELLED,
                               .reason = std::string(reason)});
  }
  draft.AddTaskEvent(task, {.kind = "task_cancelled",
                            .from = ShortName(task.state),
                            .to = "CANCELLED",
                            .reason = std::string(reason),
                            .epoch = task.epoch()});
}

// The job, one of those that are `leaving` in this decision, stops waiting for
// its live tasks, `except` aside. A task that nobody else wants is cancelled
// and stays listed; of a shared one only the subscription goes.
void DropTasks(Draft& draft, const Job& job, const std::set<JobNumber>& leaving,
               TaskId except, absl::string_view reason) {
  for (const auto& [id, measurements] : job.tasks) {
    const Task& task = draft.state().task(id);
    if (id == except || !task.live()) {
      continue;
    }
    const bool wanted = std::ranges::any_of(
        task.jobs, [&](JobNumber other) { return !leaving.contains(other); });
    if (wanted) {
      draft.Add(JobTaskRemoved{.job = job.number, .task = id});
    } else if (job.number == task.jobs.front()) {  // once, for all that leave
      CancelTask(draft, task, reason);
    }
  }
}

int64_t Quarantined(const Job& job) {
  return job.tasks_by_state[static_cast<size_t>(v1::TASK_STATE_QUARANTINED)];
}

void EndJob(Draft& draft, const Job& job, v1::JobState to,
            absl::string_view kind, absl::string_view reason) {
  draft.Add(JobStateChanged{.job = job.number,
                            .state = to,
                            .reason = std::string(reason),
                            .time = draft.now().wall});
  draft.AddJobEvent(job.number, {.kind = kind,
                                 .from = ShortName(job.state),
                                 .to = ShortName(to),
                                 .reason = std::string(reason)});
}

}  // namespace

Decision<JobNumber> DecideCancel(const State& state, JobNumber number,
                                 absl::string_view reason, const Now& now) {
  const Job* job = state.FindJob(number);
  if (job == nullptr) {
    return {.reply = MakeError(kJobNotFound,
                               absl::StrCat("no job ", number.value()))};
  }
  if (job->state == v1::JOB_STATE_CANCELLED) {
    return {.reply = number};
  }
  if (job->terminal()) {
    return {.reply = MakeError(
                kWrongState, absl::StrCat("job ", number.value(), " is ",
                                          ShortName(job->state), " already"))};
  }
  Draft draft(state, now);
  DropTasks(draft, *job, {number}, TaskId(), reason);
  EndJob(draft, *job, v1::JOB_STATE_CANCELLED, "job_cancelled", reason);
  return {.mutations = draft.Take(), .reply = number};
}

void FailJobsOverLimit(Draft& draft, const Task& task) {
  std::set<JobNumber> leaving;
  for (const JobNumber number : task.jobs) {
    const Job& job = draft.state().job(number);
    // With no other live task EndJobsOf has ended the job.
    if (!job.terminal() && job.max_fails > 0 && job.tasks_live() > 1 &&
        Quarantined(job) + 1 >= job.max_fails) {
      leaving.insert(number);
    }
  }
  for (const JobNumber number : leaving) {
    const Job& job = draft.state().job(number);
    const std::string reason = absl::StrCat(
        Quarantined(job) + 1, " tasks failed, which is the limit of job ",
        number.value());
    DropTasks(draft, job, leaving, task.id, reason);
    EndJob(draft, job, v1::JOB_STATE_FAILED, "job_failed", reason);
  }
}

}  // namespace qsweep
