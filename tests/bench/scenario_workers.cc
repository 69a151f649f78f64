#include <poll.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/base/status_macros.h"
#include "tests/bench/scenario_support.h"

namespace qsweep::bench {
namespace {

constexpr absl::Duration kSettle = absl::Seconds(12);  // over a heartbeat
constexpr absl::Duration kTtl = absl::Seconds(3);
constexpr double kLongTaskMs = 600'000;
constexpr int kLosses = 3;  // of each kind

void Pause(absl::Duration duration) {
  poll(nullptr, 0, static_cast<int>(absl::ToInt64Milliseconds(duration)));
}

// Seconds from `since` to the requeue of a task of the worker.
absl::StatusOr<double> AwaitRequeue(const CoordinatorProcess& coordinator,
                                    int worker, absl::Time since) {
  const std::string sql = absl::StrCat(
      "SELECT ifnull(max(time_us), 0) FROM event WHERE kind = 'task_requeued' ",
      "AND worker = 'bench-", worker, "'");
  absl::StatusOr<int64_t> at = 0;
  testing::AwaitTrue(4 * kTtl, [&] {
    at = coordinator.Count(sql);
    return !at.ok() || *at > 0;
  });
  QSWEEP_RETURN_IF_ERROR(at.status());
  if (*at == 0) {
    return absl::DeadlineExceededError("the task is not queued again");
  }
  return absl::ToDoubleSeconds(absl::FromUnixMicros(*at) - since);
}

}  // namespace

absl::StatusOr<nlohmann::json> RunIdle(const ScenarioFlags& flags) {
  CoordinatorProcess coordinator(CoordinatorOptions(flags, Sweep::kLayers));
  QSWEEP_RETURN_IF_ERROR(coordinator.Start());
  const CoordinatorProcess::Use alone = coordinator.use();
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<Endpoint> endpoints,
                          coordinator.JoinWorkers(flags.workers));
  Fleet fleet(endpoints, {});
  fleet.Start();
  if (!fleet.Await(kAttachTimeout, [&](const FleetCounts& counts) {
        return counts.attached == flags.workers;
      })) {
    return absl::DeadlineExceededError("the workers do not attach");
  }
  Pause(kSettle);
  const CoordinatorProcess::Use before = coordinator.use();
  Pause(absl::Seconds(flags.seconds));
  const CoordinatorProcess::Use after = coordinator.use();
  const double cpu = (after.cpu_seconds - before.cpu_seconds) / flags.seconds;
  Say(
      absl::StrFormat("%d idle workers%s: %d threads, %.0f MiB (%.0f alone), "
                      "%.1f%% of a processor",
                      flags.workers, flags.tls ? " over TLS" : "",
                      after.threads, after.rss_mib, alone.rss_mib, 100 * cpu));
  const int attached = fleet.counts().attached;
  if (attached != flags.workers) {
    return absl::InternalError(
        absl::StrCat("only ", attached, " workers are attached at the end"));
  }
  return nlohmann::json{{"workers", flags.workers},
                        {"tls", flags.tls},
                        {"rss_alone_mib", alone.rss_mib},
                        {"coordinator", ToJson(after)},
                        {"cpu", cpu}};
}

absl::StatusOr<nlohmann::json> RunLoss(const ScenarioFlags& flags) {
  CoordinatorProcess::Options options =
      CoordinatorOptions(flags, Sweep::kLayers);
  options.flags = {"--heartbeat", "1s", "--lease-ttl",
                   absl::FormatDuration(kTtl)};
  CoordinatorProcess coordinator(std::move(options));
  QSWEEP_RETURN_IF_ERROR(coordinator.Start());
  const int workers = 2 * kLosses;
  const int64_t tasks = int64_t{4} * workers;
  QSWEEP_RETURN_IF_ERROR(AddCorpus(coordinator.client(), "texts", tasks));
  QSWEEP_RETURN_IF_ERROR(
      SubmitTasks(coordinator.client(), Sweep::kLayers, "texts", tasks)
          .status());
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<Endpoint> endpoints,
                          coordinator.JoinWorkers(workers));
  Fleet fleet(endpoints, {.task_time = absl::Milliseconds(kLongTaskMs)});
  fleet.Start();
  // One task runs, one is fetched ahead.
  if (!fleet.Await(kAttachTimeout, [&](const FleetCounts& counts) {
        return counts.leases >= int64_t{2} * workers;
      })) {
    return absl::DeadlineExceededError("the workers have no leases");
  }
  nlohmann::json silent;
  nlohmann::json announced;
  for (int i = 0; i < kLosses; ++i) {
    absl::Time since = Clock::Real().Now();
    fleet.Freeze(i);
    QSWEEP_ASSIGN_OR_RETURN(const double lost,
                            AwaitRequeue(coordinator, i, since));
    silent.push_back(lost);
    since = Clock::Real().Now();
    fleet.Leave(kLosses + i);
    QSWEEP_ASSIGN_OR_RETURN(const double left,
                            AwaitRequeue(coordinator, kLosses + i, since));
    announced.push_back(left);
    Say(absl::StrFormat("silent: queued again after %.2f s; announced: %.3f s",
                        lost, left));
  }
  return nlohmann::json{{"ttl_seconds", absl::ToDoubleSeconds(kTtl)},
                        {"silent_seconds", silent},
                        {"announced_seconds", announced}};
}

}  // namespace qsweep::bench
