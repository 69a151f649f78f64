#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/base/status_macros.h"
#include "tests/bench/scenario_support.h"

namespace qsweep::bench {
namespace {

// Each worker has the model: the first tasks of a new one go to one worker.
absl::Status WarmUp(CoordinatorProcess& coordinator, Fleet& fleet,
                    int64_t tasks) {
  QSWEEP_RETURN_IF_ERROR(AddCorpus(coordinator.client(), "warm", tasks));
  QSWEEP_RETURN_IF_ERROR(
      SubmitTasks(coordinator.client(), Sweep::kLayers, "warm", tasks)
          .status());
  if (!fleet.Await(kLongest, [tasks](const FleetCounts& counts) {
        return counts.results == tasks;
      })) {
    return absl::DeadlineExceededError("the first job does not end");
  }
  fleet.ResetCounts();
  return absl::OkStatus();
}

absl::Status CheckAnswers(const FleetCounts& counts) {
  return counts.results_other == 0
             ? absl::OkStatus()
             : absl::InternalError(absl::StrCat(
                   counts.results_other,
                   " results were not stored: ", counts.first_other));
}

}  // namespace

absl::StatusOr<nlohmann::json> RunThroughput(const ScenarioFlags& flags) {
  CoordinatorProcess coordinator(CoordinatorOptions(flags, Sweep::kLayers));
  QSWEEP_RETURN_IF_ERROR(coordinator.Start());
  QSWEEP_RETURN_IF_ERROR(AddCorpus(coordinator.client(), "texts", flags.tasks));
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<Endpoint> endpoints,
                          coordinator.JoinWorkers(flags.workers));
  Fleet fleet(endpoints,
              {.task_time = absl::Milliseconds(flags.task_ms),
               .state_interval = absl::Milliseconds(flags.state_interval_ms)});
  fleet.Start();
  if (!fleet.Await(kAttachTimeout, [&](const FleetCounts& counts) {
        return counts.attached == flags.workers;
      })) {
    return absl::DeadlineExceededError("the workers do not attach");
  }
  const int64_t warm = int64_t{4} * flags.workers;
  QSWEEP_RETURN_IF_ERROR(WarmUp(coordinator, fleet, warm));
  const CoordinatorProcess::Use before = coordinator.use();
  QSWEEP_RETURN_IF_ERROR(
      SubmitTasks(coordinator.client(), Sweep::kLayers, "texts", flags.tasks)
          .status());
  if (!fleet.Await(kLongest, [&](const FleetCounts& counts) {
        return counts.results + counts.results_other == flags.tasks;
      })) {
    return absl::DeadlineExceededError("the job does not end");
  }
  const CoordinatorProcess::Use after = coordinator.use();
  const FleetCounts counts = fleet.counts();
  QSWEEP_RETURN_IF_ERROR(CheckAnswers(counts));
  const double seconds =
      absl::ToDoubleSeconds(counts.last_result - counts.first_lease);
  nlohmann::json json = {
      {"tasks", flags.tasks},
      {"workers", flags.workers},
      {"seconds", seconds},
      {"tasks_per_second", static_cast<double>(flags.tasks) / seconds},
      {"result_to_lease", ToJson(counts.result_to_lease)},
      {"coordinator", ToJson(after)},
      {"coordinator_cpu_us_per_task",
       1e6 * (after.cpu_seconds - before.cpu_seconds) /
           static_cast<double>(flags.tasks)}};
  if (flags.task_ms > 0) {
    const double ideal =
        std::ceil(static_cast<double>(flags.tasks) / flags.workers) *
        flags.task_ms / 1e3;
    json["ideal_seconds"] = ideal;
    json["overhead"] = seconds / ideal - 1;
  }
  Say(absl::StrFormat(
      "%d tasks in %.2f s: %.0f/s, result to lease p50 %.2f "
      "p99 %.2f ms",
      flags.tasks, seconds, static_cast<double>(flags.tasks) / seconds,
      counts.result_to_lease.PercentileMs(0.5),
      counts.result_to_lease.PercentileMs(0.99)));
  QSWEEP_RETURN_IF_ERROR(coordinator.Stop());
  QSWEEP_RETURN_IF_ERROR(
      CheckRows(coordinator, flags.tasks + warm,
                (flags.tasks + warm) * RowsPerTask(Sweep::kLayers), json));
  return json;
}

}  // namespace qsweep::bench
