#ifndef QSWEEP_TESTS_BENCH_COORDINATOR_PROCESS_H_
#define QSWEEP_TESTS_BENCH_COORDINATOR_PROCESS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/rpc/coordinator_client.h"
#include "tests/support/child_process.h"

namespace qsweep::bench {

// A real qcoordinator on a folder of its own: workers reach it over TCP on
// loopback, the benchmark itself over the unix socket. Single-thread.
class CoordinatorProcess {
 public:
  struct Options {
    std::string init_program;        // qcoordinator
    std::string program;             // what serves
    std::vector<std::string> words;  // before the flags: "serve"
    std::string directory;           // made, and emptied before
    bool tls = true;
    double task_seconds = 60;
    std::vector<std::string> flags;  // more flags of serve
  };
  explicit CoordinatorProcess(Options options);

  // Makes certificates when there are none, starts the process and waits until
  // it answers. UNAVAILABLE: it ended, with the end of its log.
  absl::Status Start();
  void Kill() { process_->Kill(); }  // SIGKILL
  // SIGTERM, then waits. INTERNAL: it did not end well.
  absl::Status Stop();

  CoordinatorClient& client() { return *client_; }
  const std::string& directory() const { return options_.directory; }
  // Joins `count` workers with a join token, each with a credential of its own.
  absl::StatusOr<std::vector<Endpoint>> JoinWorkers(int count);

  // Of the process, by /proc.
  struct Use {
    int threads = 0;
    double rss_mib = 0;
    double rss_peak_mib = 0;
    double cpu_seconds = 0;
  };
  Use use() const;

  // A count from the database file, which may be in use.
  absl::StatusOr<int64_t> Count(const std::string& sql) const;

 private:
  std::string LogEnd() const;
  std::string log_path() const { return options_.directory + "/log"; }

  const Options options_;
  int port_ = 0;  // once started: the same after a restart
  std::unique_ptr<CoordinatorClient> client_;
  std::unique_ptr<testing::ChildProcess> process_;
};

}  // namespace qsweep::bench

#endif  // QSWEEP_TESTS_BENCH_COORDINATOR_PROCESS_H_
