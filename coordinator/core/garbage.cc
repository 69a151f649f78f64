#include "coordinator/core/garbage.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"

namespace qsweep {
namespace {

constexpr uint64_t kMostMs = uint64_t{100} * 365 * 24 * 3600 * 1000;

}  // namespace

Decision<v1::CollectGarbageResponse> DecideCollectGarbage(
    const State& state, const v1::CollectGarbageRequest& request,
    const Settings& settings, const Now& now) {
  if (request.older_than_ms() > kMostMs) {
    return {.reply =
                MakeError(kBadValue, "older than 100 years", "older_than_ms")};
  }
  const absl::Time before =
      now.wall -
      absl::Milliseconds(static_cast<int64_t>(request.older_than_ms()));
  v1::CollectGarbageResponse response;
  uint64_t jobs = 0;
  uint64_t tasks = 0;
  Draft draft(state, now);
  for (const auto& [number, job] : state.jobs()) {
    const bool newest = number.Next() == state.next_job();
    if (newest || !job.terminal() || job.finished_at > before) {
      continue;
    }
    const auto limit = static_cast<uint64_t>(settings.plan_at_once_tasks);
    if (!request.dry_run() && jobs > 0 && tasks + job.tasks.size() > limit) {
      response.set_more(true);
      break;
    }
    ++jobs;
    tasks += job.tasks.size();
    if (!request.dry_run()) {
      draft.Add(JobPurged{.job = number});
      // Of no job: it must stay, so that its number is not used again.
      draft.AddWorkerEvent(
          {.kind = "job_deleted",
           .from = ShortName(job.state),
           .reason = absl::StrCat("job ", number.value(), " ", job.name)});
    }
  }
  response.set_jobs(jobs);
  response.set_tasks(tasks);
  return {.mutations = draft.Take(), .reply = response};
}

}  // namespace qsweep
