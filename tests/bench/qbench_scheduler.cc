// Measures a coordinator with simulated workers; one scenario a run, its
// figures as JSON on stdout. deploy/bench.sh scheduler runs them all.
//   qbench_scheduler throughput --dir build/bench/run --workers 16
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <string>

#include "nlohmann/json.hpp"
#include <CLI/CLI.hpp>

#include "common/base/error.h"
#include "common/base/log.h"
#include "tests/bench/scenarios.h"
#include "tests/bench/unsynced_coordinator.h"

namespace qsweep::bench {
namespace {

using Scenario = absl::StatusOr<nlohmann::json> (*)(const ScenarioFlags&);

const std::map<std::string, Scenario> kScenarios = {
    {"throughput", RunThroughput}, {"submit", RunSubmit},
    {"control", RunControl},       {"idle", RunIdle},
    {"restart", RunRestart},       {"loss", RunLoss}};

void AddOptions(CLI::App& app, ScenarioFlags& flags) {
  app.add_option("--coordinator", flags.coordinator,
                 "The qcoordinator to measure");
  app.add_option("--dir", flags.directory,
                 "Folder of the coordinator, on the disk to measure; emptied")
      ->required();
  app.add_option("--workers", flags.workers, "Simulated workers")
      ->check(CLI::PositiveNumber);
  app.add_option("--tasks", flags.tasks, "Tasks")->check(CLI::PositiveNumber);
  app.add_option("--task-ms", flags.task_ms, "How long the engine sleeps");
  app.add_option("--state-interval-ms", flags.state_interval_ms,
                 "Least time between two states a worker sends");
  app.add_flag("--tls,!--plaintext", flags.tls, "How workers connect");
  app.add_flag("--unsynced", flags.unsynced,
               "Let commits not wait for the disk, to compare");
  app.add_option("--seconds", flags.seconds, "How long to watch idle workers");
}

int Main(int argc, char** argv) {
  SetLogName("qbench_scheduler");
  if (argc > 1 && std::strcmp(argv[1], "serve-unsynced") == 0) {
    return ServeUnsynced(argc - 1, argv + 1);
  }
  CLI::App app("Measures a coordinator with simulated workers",
               "qbench_scheduler");
  ScenarioFlags flags;
  flags.coordinator = QSWEEP_BINARY_DIR "/bin/qcoordinator";
  std::string name;
  app.add_option("scenario", name,
                 "throughput, submit, control, idle, restart or loss")
      ->required()
      ->check(CLI::IsMember(kScenarios));
  AddOptions(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
  }
  const absl::StatusOr<nlohmann::json> json = kScenarios.at(name)(flags);
  if (!json.ok()) {
    std::fputs((FormatErrorForPeople(json.status()) + "\n").c_str(), stderr);
    return 1;
  }
  std::puts(json->dump().c_str());
  return 0;
}

}  // namespace
}  // namespace qsweep::bench

int main(int argc, char** argv) { return qsweep::bench::Main(argc, argv); }
