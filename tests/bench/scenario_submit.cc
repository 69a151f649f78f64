#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/base/status_macros.h"
#include "tests/bench/scenario_support.h"

namespace qsweep::bench {
namespace {

constexpr double kServedTaskMs = 20;
constexpr double kRestartTaskMs = 1000;
constexpr absl::Duration kReattachTimeout = absl::Minutes(2);

absl::Status AwaitAttached(const Fleet& fleet, int workers) {
  return fleet.Await(kAttachTimeout,
                     [workers](const FleetCounts& counts) {
                       return counts.attached == workers;
                     })
             ? absl::OkStatus()
             : absl::DeadlineExceededError("the workers do not attach");
}

absl::Status AwaitResults(const Fleet& fleet, int64_t results) {
  return fleet.Await(kLongest,
                     [results](const FleetCounts& counts) {
                       return counts.results >= results;
                     })
             ? absl::OkStatus()
             : absl::DeadlineExceededError("no results come");
}

}  // namespace

absl::StatusOr<nlohmann::json> RunSubmit(const ScenarioFlags& flags) {
  CoordinatorProcess coordinator(CoordinatorOptions(flags, Sweep::kPair));
  QSWEEP_RETURN_IF_ERROR(coordinator.Start());
  CoordinatorClient& client = coordinator.client();
  // More than can be done meanwhile.
  const int64_t served = std::min<int64_t>(20'000, 4 * flags.tasks);
  QSWEEP_RETURN_IF_ERROR(AddCorpus(client, "served", served));
  QSWEEP_RETURN_IF_ERROR(AddCorpus(client, "texts", flags.tasks));
  QSWEEP_RETURN_IF_ERROR(
      SubmitTasks(client, Sweep::kPair, "served", served).status());
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<Endpoint> endpoints,
                          coordinator.JoinWorkers(flags.workers));
  Fleet fleet(endpoints, {.task_time = absl::Milliseconds(kServedTaskMs)});
  fleet.Start();
  QSWEEP_RETURN_IF_ERROR(AwaitAttached(fleet, flags.workers));
  QSWEEP_RETURN_IF_ERROR(AwaitResults(fleet, int64_t{10} * flags.workers));
  const CoordinatorProcess::Use before = coordinator.use();
  fleet.ResetCounts();
  QSWEEP_ASSIGN_OR_RETURN(
      const Submitted submitted,
      SubmitTasks(client, Sweep::kPair, "texts", flags.tasks));
  // What was asked for during the submit is answered at last.
  const int64_t during = fleet.counts().leases;
  if (!fleet.Await(kAttachTimeout, [&](const FleetCounts& counts) {
        return counts.leases >= during + int64_t{2} * flags.workers;
      })) {
    return absl::DeadlineExceededError("nobody is served after the submit");
  }
  const FleetCounts counts = fleet.counts();
  const CoordinatorProcess::Use after = coordinator.use();
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t queued,
      coordinator.Count(absl::StrCat("SELECT count(*) FROM job_task WHERE job ",
                                     "= (SELECT max(number) FROM job)")));
  if (queued != flags.tasks) {
    return absl::InternalError(absl::StrCat(
        "the database has ", queued, " tasks of the job, not ", flags.tasks));
  }
  Say(absl::StrFormat(
      "%d tasks submitted in %.2f s, %.0f MiB after it (%.0f before), others' "
      "leases p99 %.1f ms",
      flags.tasks, submitted.seconds, after.rss_mib, before.rss_mib,
      counts.result_to_lease.PercentileMs(0.99)));
  return nlohmann::json{{"tasks", flags.tasks},
                        {"seconds", submitted.seconds},
                        {"coordinator", ToJson(after)},
                        {"rss_before_mib", before.rss_mib},
                        {"served_workers", flags.workers},
                        {"leases_during_submit", during},
                        {"result_to_lease", ToJson(counts.result_to_lease)},
                        {"counted", {{"tasks_queued", queued}}}};
}

absl::StatusOr<nlohmann::json> RunRestart(const ScenarioFlags& flags) {
  CoordinatorProcess coordinator(CoordinatorOptions(flags, Sweep::kPair));
  QSWEEP_RETURN_IF_ERROR(coordinator.Start());
  QSWEEP_RETURN_IF_ERROR(AddCorpus(coordinator.client(), "texts", flags.tasks));
  QSWEEP_RETURN_IF_ERROR(
      SubmitTasks(coordinator.client(), Sweep::kPair, "texts", flags.tasks)
          .status());
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<Endpoint> endpoints,
                          coordinator.JoinWorkers(flags.workers));
  Fleet fleet(endpoints, {.task_time = absl::Milliseconds(kRestartTaskMs)});
  fleet.Start();
  QSWEEP_RETURN_IF_ERROR(AwaitAttached(fleet, flags.workers));
  QSWEEP_RETURN_IF_ERROR(AwaitResults(fleet, int64_t{2} * flags.workers));
  Say("killing the coordinator");
  coordinator.Kill();
  fleet.ResetCounts();
  const SteadyTime killed = Clock::Real().SteadyNow();
  QSWEEP_RETURN_IF_ERROR(coordinator.Start());
  const double answers =
      absl::ToDoubleSeconds(Clock::Real().SteadyNow() - killed);
  if (!fleet.Await(kReattachTimeout, [](const FleetCounts& counts) {
        return counts.leases > 0;
      })) {
    return absl::DeadlineExceededError("no new lease comes");
  }
  const double first_lease =
      absl::ToDoubleSeconds(fleet.counts().first_lease - killed);
  if (!fleet.Await(kReattachTimeout, [&](const FleetCounts& counts) {
        return counts.attaches >= flags.workers;
      })) {
    return absl::DeadlineExceededError("the workers do not attach again");
  }
  const double all_attached =
      absl::ToDoubleSeconds(Clock::Real().SteadyNow() - killed);
  QSWEEP_RETURN_IF_ERROR(AwaitResults(fleet, int64_t{2} * flags.workers));
  const FleetCounts counts = fleet.counts();
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t twice,
      coordinator.Count("SELECT count(*) FROM (SELECT task FROM lease GROUP BY "
                        "task HAVING count(*) > 1)"));
  Say(absl::StrFormat(
      "answers after %.2f s, first lease after %.2f s, %d workers attached "
      "after %.1f s, %d finished tasks run again",
      answers, first_lease, flags.workers, all_attached, counts.reruns));
  return nlohmann::json{{"tasks", flags.tasks},
                        {"workers", flags.workers},
                        {"answers_seconds", answers},
                        {"first_lease_seconds", first_lease},
                        {"all_attached_seconds", all_attached},
                        {"recomputed", counts.reruns},
                        {"results_refused", counts.results_other},
                        {"coordinator", ToJson(coordinator.use())},
                        {"counted", {{"tasks_leased_twice", twice}}}};
}

}  // namespace qsweep::bench
