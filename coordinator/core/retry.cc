#include "coordinator/core/retry.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error_codes.h"
#include "coordinator/core/submit_planner.h"

namespace qsweep {
void ReviveTask(Draft& draft, const Task& task, JobNumber wanting) {
  // Live ones are shared; a DONE one leaves nothing to try.
  QSWEEP_CHECK(task.given_up());
  for (const JobNumber number : task.jobs) {
    const Job& job = draft.state().job(number);
    if (number != wanting &&
        (job.terminal() || job.state == v1::JOB_STATE_STOPPING)) {
      draft.Add(JobTaskRemoved{.job = number, .task = task.id});
      continue;
    }
    draft.AddEvent(
        number, task.id,
        {.kind = "task_ready",
         .from = ShortName(task.state),
         .to = "READY",
         .reason = number == wanting ? "tried again" : "another job needs it"});
  }
  draft.Add(TaskStateChanged{
      .task = task.id, .to = v1::TASK_STATE_READY, .new_budgets = true});
}

bool NeedsNewPlan(const Job& job) { return job.terminal() && !job.fresh; }

Decision<JobNumber> DecideRetryTasks(const State& state, JobNumber number,
                                     const Now& now) {
  const Job& job = state.job(number);
  if (job.state == v1::JOB_STATE_STOPPING) {  // it takes no new lease
    return {.reply = MakeError(kWrongState,
                               absl::StrCat("job ", number.value(), " is ",
                                            ShortName(job.state)),
                               "", "Try again once it has ended.")};
  }
  // Its plan looks at what others bring by now before it takes anything up.
  if (job.state == v1::JOB_STATE_PLANNING) {
    return {.reply = number};
  }
  // Not its audits: what they check is stored.
  const auto given_up = [&state](const auto& entry) {
    const Task& task = state.task(entry.first);
    return task.given_up() && !task.history->audit_of.valid();
  };
  if (std::ranges::none_of(job.tasks, given_up)) {
    return {.reply = number};
  }
  Draft draft(state, now);
  if (job.terminal()) {
    ReopenJob(draft, job, nullptr);
  }
  for (const auto& entry : job.tasks) {
    if (given_up(entry)) {
      ReviveTask(draft, state.task(entry.first), number);
    }
  }
  if (job.terminal()) {
    draft.Add(JobStateChanged{
        .job = number, .state = v1::JOB_STATE_QUEUED, .time = now.wall});
    draft.AddJobEvent(
        number, {.kind = "job_queued", .from = "PLANNING", .to = "QUEUED"});
  }
  return {.mutations = draft.Take(), .reply = number};
}

Decision<JobNumber> DecideReplan(const State& state, JobNumber number,
                                 const PreparedSubmit& prepared,
                                 const std::vector<PanelStatuses>& measured,
                                 const Settings& settings, const Now& now) {
  const Job& job = state.job(number);
  if (job.state == v1::JOB_STATE_SUCCEEDED) {
    return {.reply = number};
  }
  SubmitPlanner planner(state, prepared, settings, job);
  QSWEEP_CHECK(planner.at_once());
  for (size_t i = 0; i < planner.slices().size(); ++i) {
    planner.Plan(state, planner.slices()[i], measured[i]);
  }
  if (const absl::Status status = planner.Check(); !status.ok()) {
    return {.reply = status};
  }
  Draft draft(state, now);
  planner.Begin(draft);
  planner.AddTasks(draft);
  planner.Start(draft);
  return {.mutations = draft.Take(), .reply = number};
}

}  // namespace qsweep
