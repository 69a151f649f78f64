#include "coordinator/core/audit.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/digest.h"
#include "common/base/random.h"
#include "coordinator/core/policy.h"

namespace qsweep {
namespace {

// The same for a task however often it is asked.
bool IsDrawn(const Task& task, const Settings& settings) {
  Random random(settings.audit_seed +
                static_cast<uint64_t>(task.id.value()) * 1'000'003);
  return random.Uniform() < settings.audit_rate;
}

// Whether somebody else could run it, for one of the jobs.
bool HasAnotherWorker(const State& state, const Task& task,
                      const std::vector<JobNumber>& jobs,
                      const WorkerUuid& worker, const Settings& settings) {
  return std::ranges::any_of(state.workers(), [&](const auto& entry) {
    return entry.first != worker &&
           WhyNotFit(state, task, entry.second, settings).empty() &&
           std::ranges::any_of(jobs, [&](JobNumber job) {
             return WhyNotRequired(state.job(job), entry.second).empty();
           });
  });
}

}  // namespace

bool AddAudit(Draft& draft, const Task& task, const WorkerUuid& worker,
              const Settings& settings) {
  if (task.history->audit_of.valid() || !IsDrawn(task, settings)) {
    return false;
  }
  const State& state = draft.state();
  std::vector<JobNumber> jobs;
  for (const JobNumber number : task.jobs) {
    const Job& job = state.job(number);
    if (job.state == v1::JOB_STATE_STOPPING ||
        job.state == v1::JOB_STATE_PLANNING) {
      return false;
    }
    if (!job.terminal()) {
      jobs.push_back(number);
    }
  }
  if (!HasAnotherWorker(state, task, jobs, worker, settings)) {
    return false;
  }
  TaskAdded audit{
      .id = state.next_task(),
      .group = task.group,
      .content_key = Digest::Of(absl::StrCat("audit@1\n", task.id.value(), "\n",
                                             task.content_key.bytes())),
      .estimated_seconds = task.estimated_seconds,
      .audit_of = task.id};
  for (const DocumentRef& ref : task.documents) {
    audit.documents.push_back({.digest = state.documents()[ref.document],
                               .language_index = ref.language_index});
  }
  const TaskId id = audit.id;
  draft.Add(std::move(audit));
  for (const JobNumber job : jobs) {
    draft.Add(JobTaskAdded{.job = job, .task = id});
    draft.AddEvent(job, id,
                   {.kind = "task_audit",
                    .to = "READY",
                    .reason = absl::StrCat("measures again what task ",
                                           task.id.value(), " brought")});
  }
  return true;
}

}  // namespace qsweep
