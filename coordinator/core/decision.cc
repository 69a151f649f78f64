#include "coordinator/core/decision.h"

#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace qsweep {
namespace {

std::string JobEndReason(int64_t quarantined, int64_t total, int64_t skipped,
                         absl::string_view first_reason) {
  if (quarantined > 0) {
    return absl::StrCat(quarantined, " of ", total, " tasks failed",
                        first_reason.empty() ? "" : ": ", first_reason);
  }
  return skipped == 0 ? "" : absl::StrCat(skipped, " documents skipped");
}

// The reason of one quarantined task of the job, for people.
std::string QuarantineReason(const State& state, const Job& job) {
  for (const auto& [id, measurements] : job.tasks) {
    const Task& task = state.task(id);
    if (task.state == v1::TASK_STATE_QUARANTINED) {
      return task.reason;
    }
  }
  return "";
}

}  // namespace

void Draft::AddJobEvent(JobNumber job, EventText text) {
  AddEvent(job, TaskId(), text);
}

void Draft::AddTaskEvent(const Task& task, const EventText& text) {
  for (const JobNumber job : task.jobs) {
    AddEvent(job, task.id, text);
  }
}

void Draft::AddEvent(JobNumber job, TaskId task, const EventText& text) {
  const Job* known = state_.FindJob(job);  // null: added by this decision
  const int64_t job_seq =
      (known == nullptr ? 0 : known->last_job_seq) + ++job_events_[job];
  auto event = std::make_shared<v1::DurableEvent>();
  event->set_seq(
      static_cast<uint64_t>(state_.last_event().value() + ++events_));
  event->set_time_us(absl::ToUnixMicros(now_.wall));
  event->set_job_seq(static_cast<uint64_t>(job_seq));
  event->set_task_id(static_cast<uint64_t>(task.value()));
  event->set_worker(text.worker);
  event->set_kind(std::string(text.kind));
  event->set_from(text.from);
  event->set_to(text.to);
  event->set_epoch(static_cast<uint64_t>(text.epoch.value()));
  event->set_reason(text.reason);
  Add(EventAppended{.job = job, .event = std::move(event)});
}

std::string ShortName(v1::TaskState state) {
  return std::string(
      absl::StripPrefix(v1::TaskState_Name(state), "TASK_STATE_"));
}

std::string ShortName(v1::JobState state) {
  return std::string(absl::StripPrefix(v1::JobState_Name(state), "JOB_STATE_"));
}

void EndJobsOf(Draft& draft, const Task& task, v1::TaskState becomes,
               int64_t skipped) {
  for (const JobNumber number : task.jobs) {
    const Job& job = draft.state().job(number);
    if (job.terminal() || !task.live() || job.tasks_live() > 1) {
      continue;
    }
    const bool failed_now = becomes == v1::TASK_STATE_QUARANTINED;
    const int64_t quarantined =
        job.tasks_by_state[static_cast<size_t>(v1::TASK_STATE_QUARANTINED)] +
        (failed_now ? 1 : 0);
    const v1::JobState to =
        quarantined > 0 ? v1::JOB_STATE_FAILED : v1::JOB_STATE_SUCCEEDED;
    const std::string reason = JobEndReason(
        quarantined, static_cast<int64_t>(job.tasks.size()),
        job.documents_skipped + skipped, QuarantineReason(draft.state(), job));
    draft.Add(JobStateChanged{.job = number,
                              .state = to,
                              .reason = reason,
                              .time = draft.now().wall});
    draft.AddJobEvent(
        number,
        {.kind = to == v1::JOB_STATE_FAILED ? "job_failed" : "job_succeeded",
         .from = ShortName(job.state),
         .to = ShortName(to),
         .reason = reason});
  }
}

}  // namespace qsweep
