#ifndef QSWEEP_TESTS_SIM_CHAOS_H_
#define QSWEEP_TESTS_SIM_CHAOS_H_

#include <memory>
#include <vector>

#include "common/base/random.h"
#include "tests/sim/coordinator_process.h"
#include "tests/sim/network.h"
#include "tests/sim/simulated_client.h"
#include "tests/sim/simulated_worker.h"

namespace qsweep::sim {

// Breaks something now and then, until it is told to stop. To add a fault:
// a function here, its weight in chaos.cc, its least count in sim_report.cc.
class Chaos {
 public:
  using Workers = std::vector<std::unique_ptr<SimulatedWorker>>;
  using Clients = std::vector<std::unique_ptr<SimulatedClient>>;

  // `clone` runs with another worker's worker_uuid when told to.
  Chaos(Schedule& schedule, Network& network, Random& random, Counts& counts,
        Trace& trace, CoordinatorProcess& coordinator, Workers& workers,
        std::unique_ptr<SimulatedWorker>& clone, Clients& clients);

  void Start();
  void Stop() { stopped_ = true; }

 private:
  struct Fault {
    int weight;
    void (Chaos::*act)();
  };
  static const Fault kFaults[];

  void Next();
  void KillCoordinator();
  void CutPower();
  void KillInRecovery();
  void DrainCoordinator();
  void FailCommit();
  void FailDisk();
  void FillDisk();
  void SlowDisk();
  void KillWorker();
  void PreemptWorker();
  void FreezeWorker();
  void CutNetwork();
  void StartClone();
  void ForgeResult();
  void JumpClock();
  void CancelJob();
  void ControlJob();
  void ControlWorker();
  void CollectGarbage();
  void RevokeWorker();
  void DisturbClient();
  void SubmitUnstorable();

  SimulatedWorker& SomeWorker();
  SimulatedClient& SomeClient();
  absl::Duration UpTo(absl::Duration most);
  bool Chance(double probability) { return random_.Uniform() < probability; }

  Schedule& schedule_;
  Network& network_;
  Random& random_;
  Counts& counts_;
  Trace& trace_;
  CoordinatorProcess& coordinator_;
  Workers& workers_;
  std::unique_ptr<SimulatedWorker>& clone_;
  Clients& clients_;
  bool stopped_ = false;
  int unstorable_ = 0;
};

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_CHAOS_H_
