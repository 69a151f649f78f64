#ifndef QSWEEP_COORDINATOR_QCTL_LOCAL_CLUSTER_H_
#define QSWEEP_COORDINATOR_QCTL_LOCAL_CLUSTER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace qsweep::qctl {

// A coordinator and its workers as daemons of one folder: pid files, logs/,
// the coordinator's files and socket, and a folder per worker.
struct ClusterOptions {
  std::string dir;         // absolute; made when missing, mode 0700
  std::string binary_dir;  // holds qcoordinator, qworker
  int workers = 1;         // they share the memory that is free
  int threads = 0;         // of each worker; 0: the cores shared between them
  int port = 0;            // listen on 127.0.0.1:port too; 0: unix socket only
  absl::Duration patience = absl::Seconds(60);  // for all to be ready
};

// The command line of one of its workers.
std::vector<std::string> WorkerArguments(const ClusterOptions& options,
                                         const std::string& server,
                                         const std::string& name);

struct ClusterProcess {
  std::string name;  // "coordinator", "worker-1"
  int pid = 0;
  bool started = false;  // by this call; false: it ran already
};

struct Cluster {
  std::string server;  // address the coordinator listens on
  std::vector<ClusterProcess> processes;
};

// Starts what is missing and returns when the coordinator serves and all
// workers are live. QS4050, with the end of the log when a process died or did
// not become ready; what was started before keeps running.
absl::StatusOr<Cluster> StartCluster(const ClusterOptions& options);

// Ends the folder's workers, then its coordinator: SIGTERM, `patience`, then
// SIGKILL. Names of the processes that ran. QS4051: one survived.
absl::StatusOr<std::vector<std::string>> StopCluster(const std::string& dir,
                                                     absl::Duration patience);

// What runs in the folder now.
std::vector<ClusterProcess> ListCluster(const std::string& dir);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_LOCAL_CLUSTER_H_
