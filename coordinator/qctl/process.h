#ifndef QSWEEP_COORDINATOR_QCTL_PROCESS_H_
#define QSWEEP_COORDINATOR_QCTL_PROCESS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace qsweep::qctl {

// A process, told apart from a later one with the same number by the time it
// started. Value.
struct Process {
  int pid = 0;
  uint64_t start_ticks = 0;  // since boot, as in /proc/PID/stat
};

// The process a pid file names, when it still runs; nothing when the file is
// missing or unreadable or the process has gone.
std::optional<Process> ReadPidFile(const std::string& path);

struct DaemonOptions {
  std::vector<std::string> argv;  // argv[0]: absolute path of the program
  std::string working_dir;
  std::string log_path;  // stdout and stderr are appended to it
  std::string pid_path;  // written before this returns
};

// Starts a program in its own session, with the environment of this process.
// QS4050: it cannot be started, or the pid file cannot be written (then it is
// ended again).
absl::StatusOr<Process> StartDaemon(const DaemonOptions& options);

// Waits at most `patience`; whether the process has ended.
bool WaitForExit(const Process& process, absl::Duration patience);

// Sends a signal to that very process; false when it has gone.
bool SendSignal(const Process& process, int signal);

struct ProgramResult {
  int exit_code = 0;  // 128 + signal when a signal ended it
  std::string out;
  std::string err;
};

// Runs a program to its end, its stdin `input`. QS5001: it cannot be started.
absl::StatusOr<ProgramResult> RunProgram(const std::vector<std::string>& argv,
                                         const std::string& input = "");

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_PROCESS_H_
