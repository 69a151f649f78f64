// What State makes of mutations about jobs and what they want.
#include <cstdint>
#include <utility>

#include "common/base/check.h"
#include "coordinator/core/state.h"

namespace qsweep {

bool Job::terminal() const { return IsTerminal(state); }

bool IsTerminal(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED ||
         state == v1::JOB_STATE_CANCELLED;
}

void TakeSpec(const v1::JobSpec& spec, Job& job) {
  const v1::JobPolicy& policy = spec.policy();
  job.name = spec.name();
  job.kind = spec.kind();
  job.labels = {spec.labels().begin(), spec.labels().end()};
  job.max_retries = static_cast<int>(policy.max_retries());
  job.max_fails = static_cast<int>(policy.max_fails());
  job.fresh = policy.reuse() == v1::REUSE_NEVER;
  job.require = policy.require();
  job.compute = spec.compute();
  job.queue_timeout =
      absl::Milliseconds(static_cast<int64_t>(policy.queue_timeout_ms()));
}

int64_t Job::tasks_live() const {
  return num_tasks(v1::TASK_STATE_BLOCKED) + num_tasks(v1::TASK_STATE_READY) +
         num_tasks(v1::TASK_STATE_LEASED) + num_tasks(v1::TASK_STATE_BACKOFF);
}

void State::On(const JobAdded& m) {
  QSWEEP_CHECK(m.number == next_job() && !job_of_uuid_.contains(m.uuid));
  last_job_ = m.number;
  Job job;
  job.number = m.number;
  job.uuid = m.uuid;
  job.spec_digest = m.spec_digest;
  job.owner = m.owner;
  TakeSpec(*m.spec, job);
  job.priority = m.spec->policy().priority();
  job.created_at = m.created_at;
  job.measurements_total = static_cast<int64_t>(m.plan->measurements());
  job.measurements_reused = static_cast<int64_t>(m.plan->measurements_reused());
  job.measurements_done = job.measurements_reused;
  job.documents_skipped = m.documents_skipped;
  job_of_uuid_.emplace(m.uuid, m.number);
  active_jobs_.insert(m.number);
  jobs_.emplace(m.number, std::move(job));
}

// Kept by the store alone: tasks name their documents themselves.
void State::On(const JobDocumentsAdded&) {}

void State::On(const JobPlanningResumed& m) {
  Job& job = jobs_.at(m.job);
  QSWEEP_CHECK(job.state == v1::JOB_STATE_PLANNING);
  job.measurements_total = static_cast<int64_t>(m.plan->measurements());
  job.measurements_reused = static_cast<int64_t>(m.plan->measurements_reused());
  job.measurements_done = job.measurements_reused;
}

void State::On(const JobActivated& m) {
  Job& job = jobs_.at(m.job);
  QSWEEP_CHECK(job.state == v1::JOB_STATE_PLANNING);
  const int64_t by_tasks = job.measurements_done - job.measurements_reused;
  job.measurements_total = static_cast<int64_t>(m.plan->measurements());
  job.measurements_reused = static_cast<int64_t>(m.plan->measurements_reused());
  job.measurements_done = job.measurements_reused + by_tasks;
  job.documents_skipped = m.documents_skipped;
}

void State::On(const JobReopened& m) {
  Job& job = jobs_.at(m.job);
  QSWEEP_CHECK(job.terminal());
  if (m.plan != nullptr) {
    const int64_t by_tasks = job.measurements_done - job.measurements_reused;
    job.measurements_reused =
        static_cast<int64_t>(m.plan->measurements_reused());
    job.measurements_done = job.measurements_reused + by_tasks;
  }
  job.state = v1::JOB_STATE_PLANNING;
  job.reason.clear();
  job.finished_at = absl::InfinitePast();
  active_jobs_.insert(m.job);
}

void State::On(const JobPurged& m) {
  const auto job = jobs_.find(m.job);
  QSWEEP_CHECK(job->second.terminal() && m.job != last_job_);
  for (const auto& [id, measurements] : job->second.tasks) {
    Task& task = tasks_.at(id);
    Leave(task);
    QSWEEP_CHECK(task.jobs.EraseSorted(m.job));
    Enter(task);
    if (task.jobs.empty()) {
      Forget(id);
    }
  }
  job_of_uuid_.erase(job->second.uuid);
  jobs_.erase(job);
}

void State::On(const JobPriorityChanged& m) {
  jobs_.at(m.job).priority = m.priority;
}

void State::On(const JobStateChanged& m) {
  Job& job = jobs_.at(m.job);
  QSWEEP_CHECK(!job.terminal());
  job.state = m.state;
  job.reason = m.reason;
  if (job.terminal()) {
    job.finished_at = m.time;
    active_jobs_.erase(m.job);
  }
}

void State::On(const JobTaskAdded& m) {
  Task& task = tasks_.at(m.task);
  Job& job = jobs_.at(m.job);
  QSWEEP_CHECK(!job.terminal());
  const auto [entry, added] = job.tasks.try_emplace(m.task, 0);
  const int64_t brings = entry->second + m.num_measurements;
  QSWEEP_CHECK(brings >= 0 && brings <= kMostMeasurementsPerTask);
  entry->second = static_cast<uint32_t>(brings);
  if (!added) {  // the plan found more that it brings
    job.measurements_done +=
        task.state == v1::TASK_STATE_DONE ? m.num_measurements : 0;
    return;
  }
  QSWEEP_CHECK(task.live());
  Leave(task);
  task.jobs.InsertSorted(m.job);
  Enter(task);
}

void State::On(const JobTaskRemoved& m) {
  Task& task = tasks_.at(m.task);
  Leave(task);
  QSWEEP_CHECK(jobs_.at(m.job).tasks.erase(m.task) == 1);
  QSWEEP_CHECK(task.jobs.EraseSorted(m.job));
  Enter(task);
}

void State::On(const JobWaits& m) {
  Job& job = jobs_.at(m.job);
  job.waiting_since = m.since;
  job.waiting_told = m.told;
}

}  // namespace qsweep
