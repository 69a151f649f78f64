#include "coordinator/core/decision.h"

#include <algorithm>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "coordinator/core/cancel.h"

namespace qsweep {
namespace {

std::string JobEndReason(int64_t quarantined, int64_t total, int64_t skipped,
                         absl::string_view first_reason) {
  if (quarantined > 0) {
    return absl::StrCat(quarantined, " of ", total, " tasks failed",
                        first_reason.empty() ? "" : ": ", first_reason);
  }
  return skipped == 0 ? "" : SkippedText(skipped);
}

// The reason of one quarantined task of the job, for people.
std::string QuarantineReason(const State& state, const Job& job) {
  for (const auto& [id, measurements] : job.tasks) {
    const Task& task = state.task(id);
    if (task.state == v1::TASK_STATE_QUARANTINED) {
      return task.history->reason;
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
  int64_t job_seq = 0;
  if (job.valid()) {
    const Job* known = state_.FindJob(job);  // null: added by this decision
    job_seq = (known == nullptr ? 0 : known->last_job_seq) + ++job_events_[job];
  }
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

absl::Duration Draft::HeldTime(const Task& task) {
  const Lease& lease = *task.lease;
  const Worker& worker = *state_.FindWorker(lease.worker);
  ended_.insert(task.id);
  for (const TaskId id : worker.leases) {
    const SteadyTime granted_at = state_.task(id).lease->granted_at;
    const bool older = granted_at < lease.granted_at ||
                       (granted_at == lease.granted_at && id < task.id);
    if (older && !ended_.contains(id)) {
      return absl::ZeroDuration();
    }
  }
  SteadyTime& until =
      charged_until_.try_emplace(lease.worker, worker.charged_until)
          .first->second;
  const SteadyTime from = std::max(lease.granted_at, until);
  until = std::max(from, now_.steady);
  return until - from;
}

void Draft::AddWorkerEvent(const EventText& text) {
  AddEvent(JobNumber(), TaskId(), text);
}

std::string WorkerName(const State& state, const WorkerUuid& uuid) {
  const Worker* worker = state.FindWorker(uuid);
  return worker == nullptr ? "" : worker->name;
}

std::string ShortName(v1::TaskState state) {
  return std::string(
      absl::StripPrefix(v1::TaskState_Name(state), "TASK_STATE_"));
}

std::string ShortName(v1::JobState state) {
  return std::string(absl::StripPrefix(v1::JobState_Name(state), "JOB_STATE_"));
}

std::string SkippedText(int64_t documents) {
  return absl::StrCat(documents, documents == 1 ? " document" : " documents",
                      " skipped");
}

void EndJobsOf(Draft& draft, const Task& task, v1::TaskState becomes,
               const std::map<JobNumber, int64_t>& skipped) {
  for (const JobNumber number : task.jobs) {
    const Job& job = draft.state().job(number);
    // A plan that is being made ends the job itself, should nothing be left.
    if (job.terminal() || job.state == v1::JOB_STATE_PLANNING || !task.live() ||
        job.tasks_live() > 1) {
      continue;
    }
    const bool failed_now = becomes == v1::TASK_STATE_QUARANTINED;
    const int64_t quarantined =
        job.num_tasks(v1::TASK_STATE_QUARANTINED) + (failed_now ? 1 : 0);
    const auto changed = skipped.find(number);
    const int64_t documents_skipped =
        changed == skipped.end() ? job.documents_skipped : changed->second;
    if (job.state == v1::JOB_STATE_STOPPING) {
      EndStoppingJob(draft, job, quarantined);
    } else if (quarantined > 0) {
      EndJob(draft, job, v1::JOB_STATE_FAILED,
             JobEndReason(quarantined, static_cast<int64_t>(job.tasks.size()),
                          documents_skipped,
                          QuarantineReason(draft.state(), job)));
    } else {
      EndJob(draft, job, v1::JOB_STATE_SUCCEEDED,
             JobEndReason(0, static_cast<int64_t>(job.tasks.size()),
                          documents_skipped, ""));
    }
  }
}

void MoveJob(Draft& draft, const Job& job, v1::JobState to,
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

void ReopenJob(Draft& draft, const Job& job,
               std::shared_ptr<const v1::JobPlan> plan) {
  draft.Add(JobReopened{.job = job.number, .plan = std::move(plan)});
  draft.AddJobEvent(
      job.number,
      {.kind = "job_reopened", .from = ShortName(job.state), .to = "PLANNING"});
}

void EndJob(Draft& draft, const Job& job, v1::JobState to,
            absl::string_view reason) {
  MoveJob(draft, job, to,
          absl::StrCat("job_", absl::AsciiStrToLower(ShortName(to))), reason);
}

}  // namespace qsweep
