#ifndef QSWEEP_TESTS_E2E_KILL_ROUNDS_H_
#define QSWEEP_TESTS_E2E_KILL_ROUNDS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include <sys/types.h>

#include "common/base/random.h"
#include "tests/e2e/ledger.h"
#include "tests/e2e/local_cluster.h"
#include "tests/e2e/recording_worker.h"
#include "tests/e2e/sweep_client.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {

// One fault: what is done to which process, when in its round, and after how
// long it is made good.
struct KillFault {
  enum class Target { kCoordinator, kWorker, kEngine };
  enum class Signal { kKill, kTerminate, kStop };
  Target target = Target::kWorker;
  Signal signal = Signal::kKill;
  int worker = 0;
  absl::Duration after;
  absl::Duration hold;  // until it is started again, or continued
};
std::string KillFaultText(const KillFault& fault);
// The faults of one round; the same generator gives the same ones. gentle: one
// fault, not of the coordinator.
std::vector<KillFault> ChooseFaults(Random& random, int num_workers,
                                    bool gentle);

// A coordinator, eight workers with fake_qengine, one that records, and two
// clients that submit jobs that overlap; the timings are the defaults / 50.
//   KillRounds rounds(seed);
//   rounds.Start();
//   for (...) { rounds.RunRound(); }
//   rounds.Finish();
// Failures are test failures and name the seed. Single-thread.
class KillRounds {
 public:
  struct Options {
    uint64_t seed = 1;
    bool gentle = false;
    absl::Duration task_time = absl::Milliseconds(150);
  };
  explicit KillRounds(const Options& options);
  ~KillRounds();

  void Start();
  // Faults, all made good; then, if `check`, the oracles.
  void RunRound(bool check = true);
  // No more faults and no more jobs: what was submitted must succeed.
  void Finish();

  LocalCluster& cluster() { return *cluster_; }
  int rounds() const { return rounds_; }
  int engine_strikes() const { return engine_strikes_; }  // of any signal
  // What happened how often, a line each.
  std::string Report() const;

 private:
  ChildProcess& ProcessOf(const KillFault& fault);  // of an engine: its worker
  pid_t Strike(const KillFault& fault);
  void MakeGood(const KillFault& fault, pid_t struck);
  void CheckOracles();
  std::string Unfinished();
  v1::SubmitJobRequest MakeJob(int client, int index);
  std::string Name(int worker) const;

  const Options options_;
  Random faults_;
  TempDir model_;
  std::unique_ptr<LocalCluster> cluster_;
  Ledger ledger_;
  int rounds_ = 0;
  int engine_strikes_ = 0;
  std::unique_ptr<RecordingWorker> recorder_;
  std::vector<std::unique_ptr<SweepClient>> clients_;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_E2E_KILL_ROUNDS_H_
