#include "coordinator/core/garbage.h"

#include <algorithm>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"

namespace qsweep {
namespace {

constexpr uint64_t kMostMs = uint64_t{100} * 365 * 24 * 3600 * 1000;

// Of these, in their order.
std::vector<const Worker*> LongLost(const State& state,
                                    const std::vector<WorkerUuid>& unused,
                                    absl::Time before) {
  std::vector<const Worker*> lost;
  for (const WorkerUuid& uuid : unused) {
    const Worker* worker = state.FindWorker(uuid);
    if (worker != nullptr && worker->liveness == WorkerLiveness::kLost &&
        worker->mode == WorkerMode::kOpen && worker->leases.empty() &&
        worker->last_seen <= before) {
      lost.push_back(worker);
    }
  }
  return lost;
}

}  // namespace

Decision<v1::CollectGarbageResponse> DecideCollectGarbage(
    const State& state, const v1::CollectGarbageRequest& request,
    const std::vector<WorkerUuid>& unused_workers, const Settings& settings,
    const Now& now) {
  if (request.older_than_ms() > kMostMs) {
    return {.reply =
                MakeError(kBadValue, "older than 100 years", "older_than_ms")};
  }
  const absl::Time before =
      now.wall -
      absl::Milliseconds(static_cast<int64_t>(request.older_than_ms()));
  v1::CollectGarbageResponse response;
  const auto limit = static_cast<size_t>(settings.plan_at_once_tasks);
  std::set<JobNumber> purged;
  uint64_t tasks = 0;
  size_t work = 0;  // tasks looked after in this step
  Draft draft(state, now);
  for (const auto& [number, job] : state.jobs()) {
    const bool newest = number.Next() == state.next_job();
    if (newest || !job.terminal() || job.finished_at > before) {
      continue;
    }
    if (!request.dry_run() && !purged.empty() &&
        work + job.tasks.size() > limit) {
      response.set_more(true);
      break;
    }
    purged.insert(number);
    work += job.tasks.size();
    tasks += static_cast<uint64_t>(
        std::ranges::count_if(job.tasks, [&](const auto& entry) {
          return std::ranges::all_of(
              state.task(entry.first).jobs,
              [&](JobNumber other) { return purged.contains(other); });
        }));
    if (!request.dry_run()) {
      draft.Add(JobPurged{.job = number});
      // Of no job: it must stay, so that its number is not used again.
      draft.AddWorkerEvent(
          {.kind = "job_deleted",
           .from = ShortName(job.state),
           .reason = absl::StrCat("job ", number.value(), " ", job.name)});
    }
  }
  // A job that was planned again left them behind, cut otherwise.
  for (const auto& [id, task] : state.tasks()) {
    if (!task.given_up() || !task.jobs.empty()) {
      continue;
    }
    if (!request.dry_run() && work >= limit) {
      response.set_more(true);
      break;
    }
    ++work;
    ++tasks;
    if (!request.dry_run()) {
      draft.Add(TaskForgotten{.task = id});
    }
  }
  std::vector<const Worker*> lost = LongLost(state, unused_workers, before);
  if (!request.dry_run()) {
    if (lost.size() > limit) {
      lost.resize(limit);
      response.set_more(true);
    }
    for (const Worker* worker : lost) {
      draft.Add(WorkerForgotten{.worker = worker->uuid});
      draft.AddWorkerEvent(
          {.kind = "worker_forgotten", .worker = worker->name});
    }
  }
  response.set_workers(lost.size());
  response.set_jobs(purged.size());
  response.set_tasks(tasks);
  return {.mutations = draft.Take(), .reply = response};
}

}  // namespace qsweep
