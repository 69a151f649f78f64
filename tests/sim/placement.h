#ifndef QSWEEP_TESTS_SIM_PLACEMENT_H_
#define QSWEEP_TESTS_SIM_PLACEMENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace qsweep::sim {

// What placement costs, in virtual time: 8 workers of one resident model each,
// 6 sweeps of 160 tasks of about 45 s, each of a user and a model of its own,
// one arriving every 5 minutes. The decisions are the real policy's over a real
// State; leases, loads and runs are played.
struct PlacementOptions {
  uint64_t seed = 1;
  absl::Duration load = absl::Seconds(180);  // of a model that is not resident
  // Of each worker, on average; it is back 2 minutes later, cold.
  absl::Duration preempted_every = absl::InfiniteDuration();
  // Instead of the policy: a worker stays with its sweep until that has nothing
  // left to start. The least loading there can be.
  bool strict = false;
};

struct PlacementResult {
  double makespan_minutes = 0;
  double load_minutes = 0;         // of all workers
  double latency_minutes = 0;      // of a sweep, mean
  absl::Duration below_floor;      // longest, of a user with work to start
  absl::Duration below_floor_max;  // two loads and the tasks in flight
};

PlacementResult PlaySweeps(const PlacementOptions& options);

// The policy beside strict affinity, means of 10 seeds.
struct PlacementRow {
  absl::Duration load;
  bool preempted = false;
  PlacementResult policy;
  PlacementResult strict;
  double load_ratio() const {
    return policy.load_minutes / strict.load_minutes;
  }
};
std::vector<PlacementRow> ComparePlacement();
std::string FormatPlacement(const std::vector<PlacementRow>& rows);

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_PLACEMENT_H_
