#ifndef QSWEEP_TESTS_SIM_WORLD_H_
#define QSWEEP_TESTS_SIM_WORLD_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "coordinator/store/sqlite.h"
#include "tests/sim/chaos.h"
#include "tests/sim/coordinator_process.h"
#include "tests/sim/counts.h"
#include "tests/sim/network.h"
#include "tests/sim/oracles.h"
#include "tests/sim/schedule.h"
#include "tests/sim/simulated_client.h"
#include "tests/sim/simulated_worker.h"

namespace qsweep::sim {

struct SeedOptions {
  uint64_t seed = 1;
  int tasks = 200;               // that its jobs make, at least
  std::string* trace = nullptr;  // gets a line for each thing that happens
  bool faults = true;            // false: nothing breaks but `preempted`
  int workers = 5;
  int preempted = 0;  // of the workers: vanish and do not come back
};

struct SeedResult {
  std::vector<std::string> problems;  // empty: everything held
  Counts counts;
  int64_t events = 0;
  absl::Duration virtual_time;
  // Without faults: the longest that an owner with work held less than his
  // share, and whose turn it was.
  absl::Duration below_floor;
};

// One coordinator, its workers and clients under a virtual clock, on one
// thread: everything follows from the seed. Two phases. Safety: faults of every
// kind while jobs come and run. Liveness: no faults any more, and every job has
// to end within a bound. The oracles look on in both.
class World {
 public:
  explicit World(const SeedOptions& options);
  ~World() { coordinator_.Destroy(); }
  SeedResult Run();

 private:
  void AddCorpus();
  // Every second worker is a caller with a token, and has some to spare.
  void AddTokens();
  void SubmitJobs();
  v1::SubmitJobRequest NextJob();
  bool AllSubmitted() const;
  // What has not ended; "" when everything has.
  std::string Unsettled() const;
  absl::Duration LivenessBound() const;
  void PreemptSome();
  void RunUntil(SteadyTime limit, bool stop_when_settled);
  void CalmDown();
  void Operate();
  void SubmitAgain();
  void CheckEnd();
  void CheckRows(Database& database);
  void CheckJobs(Database& database);
  void CheckSkipped(Database& database, const Job& job);
  void CheckLedger(Database& database);

  const SeedOptions options_;
  Random random_;
  Counts counts_;
  Schedule schedule_;
  Trace trace_;
  Network network_;
  const Settings settings_;
  Oracles oracles_;
  CoordinatorProcess coordinator_;
  std::vector<std::unique_ptr<SimulatedWorker>> workers_;
  std::unique_ptr<SimulatedWorker> clone_;
  std::vector<std::unique_ptr<SimulatedClient>> clients_;
  Chaos chaos_;
  std::map<std::string, v1::SubmitJobRequest> submitted_;  // by UUID
  FloorClock floor_clock_;
  int units_ = 0;  // of the corpus
  int jobs_ = 0;
  int64_t events_ = 0;
};

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_WORLD_H_
