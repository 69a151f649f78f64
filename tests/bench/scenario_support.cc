#include "tests/bench/scenario_support.h"

#include <cstdio>

#include "absl/strings/str_cat.h"

#include "common/base/status_macros.h"

namespace qsweep::bench {

CoordinatorProcess::Options CoordinatorOptions(const ScenarioFlags& flags,
                                               Sweep sweep) {
  CoordinatorProcess::Options options = {.init_program = flags.coordinator,
                                         .program = flags.coordinator,
                                         .words = {"serve"},
                                         .directory = flags.directory,
                                         .tls = flags.tls,
                                         .task_seconds = TaskSecondsFor(sweep)};
  if (flags.unsynced) {
    options.program = "/proc/self/exe";
    options.words = {"serve-unsynced"};
  }
  return options;
}

nlohmann::json ToJson(const Latencies& latencies) {
  const std::vector<double> bounds_ms = {0.25, 0.5, 1,  2,  3,   5,   7.5,
                                         10,   15,  25, 50, 100, 250, 1000};
  return {{"count", latencies.count()},
          {"p50_ms", latencies.PercentileMs(0.5)},
          {"p90_ms", latencies.PercentileMs(0.9)},
          {"p99_ms", latencies.PercentileMs(0.99)},
          {"max_ms", latencies.PercentileMs(1)},
          {"bounds_ms", bounds_ms},
          {"histogram", latencies.Histogram(bounds_ms)}};
}

nlohmann::json ToJson(const CoordinatorProcess::Use& use) {
  return {{"threads", use.threads},
          {"rss_mib", use.rss_mib},
          {"rss_peak_mib", use.rss_peak_mib},
          {"cpu_seconds", use.cpu_seconds}};
}

absl::Status CheckRows(const CoordinatorProcess& coordinator, int64_t tasks,
                       int64_t rows, nlohmann::json& json) {
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t done,
      coordinator.Count("SELECT count(*) FROM task WHERE state = 'done'"));
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t stored,
      coordinator.Count("SELECT count(*) FROM measurement"));
  QSWEEP_ASSIGN_OR_RETURN(const int64_t leases,
                          coordinator.Count("SELECT count(*) FROM lease"));
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t duplicates,
      coordinator.Count("SELECT count(*) FROM duplicate_result"));
  json["counted"] = {{"tasks_done", done},
                     {"measurements", stored},
                     {"leases", leases},
                     {"duplicates", duplicates}};
  if (done != tasks || stored != rows || duplicates != 0) {
    return absl::InternalError(
        absl::StrCat("the database has ", done, " tasks done, ", stored,
                     " measurements and ", duplicates, " duplicates, not ",
                     tasks, ", ", rows, " and 0"));
  }
  return absl::OkStatus();
}

void Say(const std::string& line) {
  std::fprintf(stderr, "  %s\n", line.c_str());
}

}  // namespace qsweep::bench
