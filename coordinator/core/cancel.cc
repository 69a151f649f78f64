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
                         .held = draft.HeldTime(task),
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
// its live tasks for which `drop` holds. A task that nobody else wants is
// cancelled and stays listed; of a shared one only the subscription goes.
template <typename Predicate>
void DropTasks(Draft& draft, const Job& job, const std::set<JobNumber>& leaving,
               Predicate drop, absl::string_view reason) {
  for (const auto& [id, measurements] : job.tasks) {
    const Task& task = draft.state().task(id);
    if (!task.live() || !drop(task)) {
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

absl::StatusOr<const Job*> FindActive(const State& state, JobNumber number) {
  const Job* job = state.FindJob(number);
  if (job == nullptr) {
    return MakeError(kJobNotFound, absl::StrCat("no job ", number.value()));
  }
  if (job->terminal()) {
    return MakeError(kWrongState,
                     absl::StrCat("job ", number.value(), " is ",
                                  ShortName(job->state), " already"));
  }
  return job;
}

}  // namespace

Decision<JobNumber> DecideCancel(const State& state, JobNumber number,
                                 absl::string_view reason, const Now& now) {
  const Job* known = state.FindJob(number);
  if (known != nullptr && known->state == v1::JOB_STATE_CANCELLED) {
    return {.reply = number};
  }
  const absl::StatusOr<const Job*> job = FindActive(state, number);
  if (!job.ok()) {
    return {.reply = job.status()};
  }
  Draft draft(state, now);
  DropTasks(
      draft, **job, {number}, [](const Task&) { return true; }, reason);
  EndJob(draft, **job, v1::JOB_STATE_CANCELLED, reason);
  return {.mutations = draft.Take(), .reply = number};
}

Decision<JobNumber> DecideStop(const State& state, JobNumber number,
                               absl::string_view reason, const Now& now) {
  const absl::StatusOr<const Job*> found = FindActive(state, number);
  if (!found.ok()) {
    return {.reply = found.status()};
  }
  const Job& job = **found;
  if (job.state == v1::JOB_STATE_STOPPING) {
    return {.reply = number};
  }
  Draft draft(state, now);
  DropTasks(
      draft, job, {number}, [](const Task& task) { return !task.lease; },
      reason);
  if (job.num_tasks(v1::TASK_STATE_LEASED) == 0) {
    EndJob(draft, job, v1::JOB_STATE_CANCELLED, reason);
  } else {
    MoveJob(draft, job, v1::JOB_STATE_STOPPING, "job_stopping", reason);
  }
  return {.mutations = draft.Take(), .reply = number};
}

bool DropStoppingJobs(Draft& draft, const Task& task) {
  const auto stopping = [&draft](JobNumber number) {
    return draft.state().job(number).state == v1::JOB_STATE_STOPPING;
  };
  const auto active = [&draft](JobNumber number) {
    return !draft.state().job(number).terminal();
  };
  if (std::ranges::none_of(task.jobs, [&](JobNumber number) {
        return active(number) && !stopping(number);
      })) {
    return false;
  }
  for (const JobNumber number : task.jobs) {
    if (!stopping(number)) {
      continue;
    }
    const Job& job = draft.state().job(number);
    draft.Add(JobTaskRemoved{.job = number, .task = task.id});
    if (job.tasks_live() == 1) {
      EndJob(draft, job, v1::JOB_STATE_CANCELLED, job.reason);
    }
  }
  return true;
}

void FailJobsOverLimit(Draft& draft, const Task& task) {
  std::set<JobNumber> leaving;
  for (const JobNumber number : task.jobs) {
    const Job& job = draft.state().job(number);
    // With no other live task EndJobsOf has ended the job.
    if (!job.terminal() && job.state != v1::JOB_STATE_PLANNING &&
        job.max_fails > 0 && job.tasks_live() > 1 &&
        job.num_tasks(v1::TASK_STATE_QUARANTINED) + 1 >= job.max_fails) {
      leaving.insert(number);
    }
  }
  for (const JobNumber number : leaving) {
    const Job& job = draft.state().job(number);
    const std::string reason = absl::StrCat(
        job.num_tasks(v1::TASK_STATE_QUARANTINED) + 1,
        " tasks failed, which is the limit of job ", number.value());
    DropTasks(
        draft, job, leaving,
        [&task](const Task& other) { return other.id != task.id; }, reason);
    EndJob(draft, job, v1::JOB_STATE_FAILED, reason);
  }
}

}  // namespace qsweep
