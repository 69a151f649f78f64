#ifndef QSWEEP_TESTS_E2E_SLOW_WATCHERS_H_
#define QSWEEP_TESTS_E2E_SLOW_WATCHERS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/e2e/ledger.h"
#include "tests/e2e/local_cluster.h"
#include "tests/e2e/recording_worker.h"
#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {

// A coordinator with jobs of many small tasks, workers that need no time for
// them, and `qctl watch` processes that are stopped. Failures are test
// failures. Single-thread.
class SlowWatchers {
 public:
  explicit SlowWatchers(int tasks);  // of a job; a multiple of 3
  ~SlowWatchers();

  void Start();
  LocalCluster& cluster() { return *cluster_; }
  // Submits a job that has not been measured yet; its name. Nobody works.
  std::string SubmitJob();
  // Starts so many watchers of the job and stops each once it has said a word.
  void StopWatchers(const std::string& job, int count);
  // Continues them; each must see the job's end.
  void ContinueWatchers();
  void KillWatchers() { watchers_.clear(); }
  // Workers run the job to its end; tasks per second.
  double Work(const std::string& job);

 private:
  const int tasks_;
  TempDir model_;
  std::unique_ptr<LocalCluster> cluster_;
  Ledger ledger_;
  int jobs_ = 0;
  int logs_ = 0;
  std::vector<std::unique_ptr<ChildProcess>> watchers_;
};

// For qchaos: the rate at which tasks are done with and without so many
// stopped watchers, in turns; prints both and the ratio of the medians.
void CompareRates(int watchers, int turns);

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_E2E_SLOW_WATCHERS_H_
