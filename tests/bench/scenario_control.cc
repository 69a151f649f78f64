#include <algorithm>
#include <functional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/base/status_macros.h"
#include "tests/bench/scenario_support.h"
#include "tests/support/child_process.h"

namespace qsweep::bench {
namespace {

constexpr double kOthersTaskMs = 20;
constexpr int64_t kOthersTasks = 60'000;

struct Action {
  const char* name;
  std::function<absl::Status(CoordinatorClient&, const std::string& job)> call;
  std::vector<v1::JobState> settled;
};

Action Control(const char* name, v1::JobAction action,
               std::vector<v1::JobState> settled) {
  return {name,
          [action](CoordinatorClient& client, const std::string& job) {
            v1::ControlJobRequest request;
            request.mutable_job()->set_text(job);
            request.set_action(action);
            return client.ControlJob(request).status();
          },
          std::move(settled)};
}

absl::Status Cancel(CoordinatorClient& client, const std::string& job) {
  v1::CancelJobRequest request;
  request.mutable_job()->set_text(job);
  return client.CancelJob(request).status();
}

// Until nothing that ended is left but the newest job.
absl::Status CollectGarbage(CoordinatorClient& client,
                            const std::string& /*job*/) {
  v1::CollectGarbageResponse response;
  do {
    QSWEEP_ASSIGN_OR_RETURN(response,
                            client.CollectGarbage(v1::CollectGarbageRequest()));
  } while (response.more());
  return absl::OkStatus();
}

std::vector<Action> Actions() {
  const std::vector<v1::JobState> open = {v1::JOB_STATE_QUEUED,
                                          v1::JOB_STATE_RUNNING};
  return {Control("pause", v1::JOB_ACTION_PAUSE, {v1::JOB_STATE_PAUSED}),
          Control("resume", v1::JOB_ACTION_RESUME, open),
          {"cancel", Cancel, {v1::JOB_STATE_CANCELLED}},
          Control("retry", v1::JOB_ACTION_RETRY, open),
          Control("stop", v1::JOB_ACTION_STOP, {v1::JOB_STATE_CANCELLED})};
}

// Of a job that shares no measurement with the one before, which is deleted.
std::vector<Action> ActionsOfForced() {
  const std::vector<v1::JobState> cancelled = {v1::JOB_STATE_CANCELLED};
  return {{"cancel_forced", Cancel, cancelled},
          Control("retry_forced", v1::JOB_ACTION_RETRY,
                  {v1::JOB_STATE_QUEUED, v1::JOB_STATE_RUNNING}),
          {"cancel_again", Cancel, cancelled},
          {"collect_garbage", CollectGarbage, cancelled}};
}

// State of the newest job.
v1::JobState NewestState(CoordinatorClient& client) {
  v1::ListJobsRequest request;
  request.set_limit(1);
  const auto response = client.ListJobs(request);
  return response.ok() && response->jobs_size() == 1
             ? response->jobs(0).state()
             : v1::JOB_STATE_UNSPECIFIED;
}

// What others wait for leases while `action` is done to the newest job.
absl::StatusOr<nlohmann::json> Measure(const Action& action,
                                       CoordinatorClient& client,
                                       const std::string& job, Fleet& fleet,
                                       int workers) {
  const int64_t before = fleet.counts().leases;
  if (!fleet.Await(kAttachTimeout, [&](const FleetCounts& counts) {
        return counts.leases >= before + int64_t{20} * workers;
      })) {
    return absl::DeadlineExceededError("the workers are not served");
  }
  fleet.ResetCounts();
  const SteadyTime began = Clock::Real().SteadyNow();
  const auto seconds = [began] {
    return absl::ToDoubleSeconds(Clock::Real().SteadyNow() - began);
  };
  QSWEEP_RETURN_IF_ERROR(action.call(client, job));
  const double answered = seconds();
  if (!testing::AwaitTrue(kLongest, [&] {
        return std::ranges::find(action.settled, NewestState(client)) !=
               action.settled.end();
      })) {
    return absl::DeadlineExceededError(
        absl::StrCat(action.name, " does not come to its end"));
  }
  const double settled = seconds();
  // Who waited through it is answered at last.
  const int64_t during = fleet.counts().leases;
  if (!fleet.Await(kAttachTimeout, [&](const FleetCounts& counts) {
        return counts.leases >= during + int64_t{4} * workers;
      })) {
    return absl::DeadlineExceededError("the workers are not served after it");
  }
  const Latencies waits = fleet.counts().result_to_lease;
  Say(absl::StrFormat(
      "%s: answered after %.3f s, done after %.2f s, others' leases p99 "
      "%.1f ms, longest %.1f ms",
      action.name, answered, settled, waits.PercentileMs(0.99),
      waits.PercentileMs(1)));
  return nlohmann::json{{"answered_seconds", answered},
                        {"settled_seconds", settled},
                        {"result_to_lease_max_ms", waits.PercentileMs(1)},
                        {"result_to_lease", ToJson(waits)}};
}

}  // namespace

absl::StatusOr<nlohmann::json> RunControl(const ScenarioFlags& flags) {
  CoordinatorProcess coordinator(CoordinatorOptions(flags, Sweep::kPair));
  QSWEEP_RETURN_IF_ERROR(coordinator.Start());
  CoordinatorClient& client = coordinator.client();
  QSWEEP_RETURN_IF_ERROR(AddCorpus(client, "served", kOthersTasks));
  QSWEEP_RETURN_IF_ERROR(AddCorpus(client, "texts", flags.tasks));
  QSWEEP_RETURN_IF_ERROR(
      SubmitTasks(client, Sweep::kPair, "served", kOthersTasks).status());
  QSWEEP_ASSIGN_OR_RETURN(
      const Submitted submitted,
      SubmitTasks(client, Sweep::kPair, "texts", flags.tasks));
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<Endpoint> endpoints,
                          coordinator.JoinWorkers(flags.workers));
  Fleet fleet(endpoints, {.task_time = absl::Milliseconds(kOthersTaskMs)});
  fleet.Start();
  nlohmann::json json = {{"tasks", flags.tasks}, {"workers", flags.workers}};
  const auto measure = [&](const std::vector<Action>& actions,
                           const std::string& job) -> absl::Status {
    for (const Action& action : actions) {
      QSWEEP_ASSIGN_OR_RETURN(json[action.name], Measure(action, client, job,
                                                         fleet, flags.workers));
    }
    return absl::OkStatus();
  };
  QSWEEP_RETURN_IF_ERROR(measure(Actions(), submitted.job));
  QSWEEP_ASSIGN_OR_RETURN(
      const Submitted forced,
      SubmitTasks(client, Sweep::kPair, "texts", flags.tasks, v1::REUSE_NEVER));
  QSWEEP_RETURN_IF_ERROR(measure(ActionsOfForced(), forced.job));
  return json;
}

}  // namespace qsweep::bench
