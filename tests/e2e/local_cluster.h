#ifndef QSWEEP_TESTS_E2E_LOCAL_CLUSTER_H_
#define QSWEEP_TESTS_E2E_LOCAL_CLUSTER_H_

#include <map>
#include <memory>
#include <optional>
#include <signal.h>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/base/ids.h"
#include "common/rpc/coordinator_client.h"
#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {

// A coordinator and workers, real processes in a folder of their own, with
// short heartbeats. The test plays qctl through CoordinatorClient. Failures are
// test failures. Single-thread.
class LocalCluster {
 public:
  struct Options {
    std::string engine;        // program
    double task_seconds = 60;  // how long the coordinator thinks a task is
    absl::Duration heartbeat = absl::Milliseconds(250);
    absl::Duration lease_ttl = absl::Seconds(3);
    absl::Duration failover_ttl = absl::Seconds(6);
    absl::Duration progress_deadline = absl::Seconds(120);
    std::vector<std::string> coordinator_flags;
    std::map<std::string, std::string> coordinator_environment;
    std::map<std::string, std::string> worker_environment;
    std::string worker_server;  // empty: the coordinator's socket
    std::vector<std::string> worker_flags;
    // Where they run; -1: where the test does. See ChildProcess.
    int coordinator_network = -1;
    int worker_network = -1;
  };
  explicit LocalCluster(const Options& options);

  // For processes that start from now on.
  Options& options() { return options_; }

  // Starts it and waits until it answers.
  void StartCoordinator();
  void KillCoordinator() { coordinator_->Kill(); }
  ChildProcess& coordinator() { return *coordinator_; }
  // The path of a copy of the database, made while it serves.
  std::string BackUp();
  // Kills the coordinator and starts it on the backup.
  void Restore(const std::string& backup);
  // name: also its folder, so a worker that is started again is the same one.
  void StartWorker(const std::string& name, int threads);
  // SIGKILL; its engine dies with it.
  void KillWorker(const std::string& name);
  ChildProcess& worker(const std::string& name) { return *workers_.at(name); }
  // A signal for the engine of a worker; false: it has none at the moment.
  bool SignalEngine(const std::string& name, int number);
  bool KillEngine(const std::string& name) {
    return SignalEngine(name, SIGKILL);
  }
  // SIGTERM; the exit status.
  std::optional<int> StopWorker(const std::string& name,
                                absl::Duration timeout);
  // Waits until so many workers are live.
  void AwaitWorkers(size_t count);

  CoordinatorClient& client() { return *client_; }
  const std::string& path() const { return dir_.path(); }
  std::string coordinator_dir() const { return dir_ / "coordinator"; }
  Endpoint endpoint() const { return {.address = "unix:" + (dir_ / "sock")}; }

  // Stores the corpus (language -> texts, aligned by position) under `name`.
  void AddCorpus(const std::string& name,
                 const std::map<std::string, std::vector<std::string>>& texts);
  // Submits and returns the job, named "job/<uuid>".
  std::string Submit(const v1::JobSpec& spec,
                     const v1::ModelDescription& model);
  v1::JobSummary Job(const std::string& job);
  std::vector<v1::TaskSummary> Tasks(const std::string& job);
  // Waits until the job has ended, which must be by success.
  void AwaitSuccess(const std::string& job, absl::Duration timeout);

  // The identity and value columns of a job's measurements, one text a row, in
  // identity order; doubles bit for bit.
  std::vector<std::string> Rows(const std::string& job);
  // The single integer a query returns.
  int64_t QueryInteger(const std::string& sql);
  // The logs' ends, for a failure's message.
  std::string Logs() const;

 private:
  Options options_;
  TempDir dir_;
  std::unique_ptr<CoordinatorClient> client_;
  std::unique_ptr<ChildProcess> coordinator_;
  std::map<std::string, std::unique_ptr<ChildProcess>> workers_;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_E2E_LOCAL_CLUSTER_H_
