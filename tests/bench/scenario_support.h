#ifndef QSWEEP_TESTS_BENCH_SCENARIO_SUPPORT_H_
#define QSWEEP_TESTS_BENCH_SCENARIO_SUPPORT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

#include "tests/bench/coordinator_process.h"
#include "tests/bench/fleet.h"
#include "tests/bench/latencies.h"
#include "tests/bench/scenarios.h"
#include "tests/bench/workload.h"

namespace qsweep::bench {

// Runs `tasks` no-op tasks (0.1 s each at the longest) may take.
inline constexpr absl::Duration kLongest = absl::Minutes(30);
// Until all workers are attached and those that can have leases.
inline constexpr absl::Duration kAttachTimeout = absl::Minutes(3);

CoordinatorProcess::Options CoordinatorOptions(const ScenarioFlags& flags,
                                               Sweep sweep);

nlohmann::json ToJson(const Latencies& latencies);
nlohmann::json ToJson(const CoordinatorProcess::Use& use);

// That the database holds exactly what was done. INTERNAL: the numbers, when
// they do not agree. `json` gets them.
absl::Status CheckRows(const CoordinatorProcess& coordinator, int64_t tasks,
                       int64_t rows, nlohmann::json& json);

// A line for the person who waits.
void Say(const std::string& line);

}  // namespace qsweep::bench

#endif  // QSWEEP_TESTS_BENCH_SCENARIO_SUPPORT_H_
