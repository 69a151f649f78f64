#include "coordinator/core/cancel.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <set>
#include <string>
#include <utility>
#include <vector>

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

int64_t NumWaiting(const Job& job) {
  return job.tasks_live() - job.num_tasks(v1::TASK_STATE_LEASED);
}

std::vector<TaskId> LeasedTasks(const State& state, const Job& job) {
  std::vector<TaskId> tasks;
  for (const TaskId id : state.leased_tasks()) {
    if (state.task(id).IsOf(job.number)) {
      tasks.push_back(id);
    }
  }
  return tasks;
}

// Live and not leased, `most` of them. From the indexes of tasks that wait:
// what is done of a large job takes no time.
std::vector<TaskId> WaitingTasks(const State& state, const Job& job,
                                 int64_t most) {
  std::vector<TaskId> tasks;
  const auto full = [&] { return std::ssize(tasks) == most; };
  for (const auto& [group, ready] : job.ready) {
    for (const TaskId id : ready) {
      if (full()) {
        return tasks;
      }
      tasks.push_back(id);
    }
  }
  for (const TaskId id : state.backoff_tasks()) {
    if (full()) {
      return tasks;
    }
    if (state.task(id).IsOf(job.number)) {
      tasks.push_back(id);
    }
  }
  return tasks;
}

// The job, one of those that are `leaving` in this decision, stops waiting for
// these live tasks. A task that nobody else wants is cancelled and stays
// listed; of a shared one only the subscription goes.
void DropTasks(Draft& draft, const Job& job, const std::set<JobNumber>& leaving,
               std::vector<TaskId> tasks, absl::string_view reason) {
  std::ranges::sort(tasks);
  for (const TaskId id : tasks) {
    const Task& task = draft.state().task(id);
    const bool wanted = std::ranges::any_of(
        task.jobs, [&](JobNumber other) { return !leaving.contains(other); });
    if (wanted) {
      draft.Add(JobTaskRemoved{.job = job.number, .task = id});
    } else if (job.number == task.jobs.front()) {  // once, for all that leave
      CancelTask(draft, task, reason);
    }
  }
}

// Whether a job with so many failed tasks has more than it allows.
bool IsOverLimit(const Job& job, int64_t quarantined) {
  return job.max_fails > 0 && quarantined >= job.max_fails;
}

std::string LimitReason(const Job& job, int64_t quarantined) {
  return absl::StrCat(quarantined, " tasks failed, which is the limit of job ",
                      job.number.value());
}

// What runs for these jobs is dropped, but for `kept`. So is what waits, and
// they end as `to`, unless it is so much that it goes in slices
// (DecideDropWaiting).
void LeaveJobs(Draft& draft, const std::set<JobNumber>& leaving, TaskId kept,
               v1::JobState to, const Settings& settings,
               const std::function<std::string(const Job&)>& reason_of) {
  const State& state = draft.state();
  int64_t waiting = 0;
  for (const JobNumber number : leaving) {
    waiting += NumWaiting(state.job(number));
  }
  const bool at_once = waiting <= settings.drop_slice_tasks;
  for (const JobNumber number : leaving) {
    const Job& job = state.job(number);
    const std::string reason = reason_of(job);
    std::vector<TaskId> tasks = LeasedTasks(state, job);
    std::erase(tasks, kept);
    if (at_once) {
      const std::vector<TaskId> more =
          WaitingTasks(state, job, settings.drop_slice_tasks);
      tasks.insert(tasks.end(), more.begin(), more.end());
    }
    DropTasks(draft, job, leaving, std::move(tasks), reason);
    if (at_once || NumWaiting(job) == 0) {
      EndJob(draft, job, to, reason);
    } else if (job.state != v1::JOB_STATE_STOPPING) {
      MoveJob(draft, job, v1::JOB_STATE_STOPPING, "job_stopping", reason);
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
                                 absl::string_view reason,
                                 const Settings& settings, const Now& now) {
  const Job* known = state.FindJob(number);
  if (known != nullptr && known->state == v1::JOB_STATE_CANCELLED) {
    return {.reply = number};
  }
  const absl::StatusOr<const Job*> job = FindActive(state, number);
  if (!job.ok()) {
    return {.reply = job.status()};
  }
  Draft draft(state, now);
  LeaveJobs(draft, {number}, TaskId(), v1::JOB_STATE_CANCELLED, settings,
            [reason](const Job&) { return std::string(reason); });
  return {.mutations = draft.Take(), .reply = number};
}

Decision<JobNumber> DecideStop(const State& state, JobNumber number,
                               absl::string_view reason,
                               const Settings& settings, const Now& now) {
  const absl::StatusOr<const Job*> found = FindActive(state, number);
  if (!found.ok()) {
    return {.reply = found.status()};
  }
  const Job& job = **found;
  if (job.state == v1::JOB_STATE_STOPPING) {
    return {.reply = number};
  }
  Draft draft(state, now);
  const bool at_once = NumWaiting(job) <= settings.drop_slice_tasks;
  if (at_once) {
    DropTasks(draft, job, {number},
              WaitingTasks(state, job, settings.drop_slice_tasks), reason);
  }
  if (at_once && job.num_tasks(v1::TASK_STATE_LEASED) == 0) {
    EndJob(draft, job, v1::JOB_STATE_CANCELLED, reason);
  } else {
    MoveJob(draft, job, v1::JOB_STATE_STOPPING, "job_stopping", reason);
  }
  return {.mutations = draft.Take(), .reply = number};
}

bool HasTasksToDrop(const Job& job) {
  return job.state == v1::JOB_STATE_STOPPING && NumWaiting(job) > 0;
}

std::vector<Mutation> DecideDropWaiting(const State& state, JobNumber number,
                                        const Settings& settings,
                                        const Now& now) {
  const Job& job = state.job(number);
  const std::vector<TaskId> tasks =
      WaitingTasks(state, job, settings.drop_slice_tasks);
  Draft draft(state, now);
  DropTasks(draft, job, {number}, tasks, job.reason);
  if (std::ssize(tasks) == job.tasks_live()) {
    EndStoppingJob(draft, job, job.num_tasks(v1::TASK_STATE_QUARANTINED));
  }
  return draft.Take();
}

void EndStoppingJob(Draft& draft, const Job& job, int64_t quarantined) {
  if (IsOverLimit(job, quarantined)) {
    EndJob(draft, job, v1::JOB_STATE_FAILED, LimitReason(job, quarantined));
  } else {
    EndJob(draft, job, v1::JOB_STATE_CANCELLED, job.reason);
  }
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
      EndStoppingJob(draft, job, job.num_tasks(v1::TASK_STATE_QUARANTINED));
    }
  }
  return true;
}

void FailJobsOverLimit(Draft& draft, const Task& task,
                       const Settings& settings) {
  std::set<JobNumber> leaving;
  for (const JobNumber number : task.jobs) {
    const Job& job = draft.state().job(number);
    // With no other live task EndJobsOf has ended the job.
    if (!job.terminal() && job.state != v1::JOB_STATE_PLANNING &&
        job.tasks_live() > 1 &&
        IsOverLimit(job, job.num_tasks(v1::TASK_STATE_QUARANTINED) + 1)) {
      leaving.insert(number);
    }
  }
  LeaveJobs(draft, leaving, task.id, v1::JOB_STATE_FAILED, settings,
            [](const Job& job) {
              return LimitReason(job,
                                 job.num_tasks(v1::TASK_STATE_QUARANTINED) + 1);
            });
}

}  // namespace qsweep
