#ifndef QSWEEP_TESTS_BENCH_SCENARIOS_H_
#define QSWEEP_TESTS_BENCH_SCENARIOS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace qsweep::bench {

// What the scenarios have in common. Each starts a coordinator on an empty
// folder, counts tasks and rows in its database at the end, and fails when they
// are not what was submitted.
struct ScenarioFlags {
  std::string coordinator;  // program
  std::string directory;    // the coordinator's; emptied
  int workers = 16;
  int64_t tasks = 20'000;
  double task_ms = 0;            // how long the engine sleeps
  double state_interval_ms = 0;  // Fleet::Options::state_interval
  bool tls = true;
  // The write-ahead log is not synced, which is synchronous=NORMAL.
  bool unsynced = false;
  double seconds = 20;  // how long an idle fleet is watched
};

// Tasks a second of workers whose engines take `task_ms`, and how long a worker
// waits from a result to its next lease. With task_ms: the makespan against
// that of workers that never wait.
absl::StatusOr<nlohmann::json> RunThroughput(const ScenarioFlags& flags);

// One submit of `tasks` tasks while `workers` others are served, and the memory
// the coordinator has then.
absl::StatusOr<nlohmann::json> RunSubmit(const ScenarioFlags& flags);

// What the actions on a job of `tasks` tasks cost others, whose tasks of 20 ms
// `workers` run meanwhile: pause, resume, cancel, retry, stop.
absl::StatusOr<nlohmann::json> RunControl(const ScenarioFlags& flags);

// Threads, memory and processor time of a coordinator whose workers have
// nothing to do.
absl::StatusOr<nlohmann::json> RunIdle(const ScenarioFlags& flags);

// kill -9 of a coordinator with `tasks` tasks queued, and its start: when the
// first worker has a new lease, when all are attached, what ran twice.
absl::StatusOr<nlohmann::json> RunRestart(const ScenarioFlags& flags);

// How soon the task of a worker that vanished, and of one that said so, is
// queued again. Heartbeat 1 s, TTL 3 s.
absl::StatusOr<nlohmann::json> RunLoss(const ScenarioFlags& flags);

}  // namespace qsweep::bench

#endif  // QSWEEP_TESTS_BENCH_SCENARIOS_H_
