#include "coordinator/qctl/local_cluster.h"

#include <algorithm>
#include <csignal>
#include <deque>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include <sys/file.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/base/error_codes.h"
#include "common/base/host_cpus.h"
#include "common/base/status_macros.h"
#include "common/rpc/coordinator_client.h"
#include "coordinator/qctl/error_text.h"
#include "coordinator/qctl/output/value.h"
#include "coordinator/qctl/process.h"

namespace qsweep::qctl {
namespace {

// `qctl down` does not wait for the tasks of a long sweep.
constexpr char kDrainDeadline[] = "3s";
constexpr char kCoordinator[] = "coordinator";
constexpr char kWorkerPrefix[] = "worker-";
constexpr char kStartLine[] = "==== started by qctl at ";  // in a log
constexpr int kMemoryPercent = 80;  // of what is free, shared by the engines
constexpr size_t kLogLines = 5;     // of a log, shown with an error
constexpr absl::Duration kLookAgain = absl::Milliseconds(50);
constexpr absl::Duration kKillPatience = absl::Seconds(5);

std::string PidPath(const std::string& dir, const std::string& name) {
  return absl::StrCat(dir, "/", name, ".pid");
}

std::string LogPath(const std::string& dir, const std::string& name) {
  return absl::StrCat(dir, "/logs/", name, ".log");
}

std::string LocalWorkerName(int number) {
  return absl::StrCat(kWorkerPrefix, number);
}

// Held while a folder's processes are started or stopped, so that two callers
// do not start two coordinators.
class DirLock {
 public:
  explicit DirLock(const std::string& dir)
      : fd_(open((dir + "/cluster.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC,
                 0600)) {
    if (fd_ >= 0) {
      flock(fd_, LOCK_EX);
    }
  }
  DirLock(const DirLock&) = delete;
  ~DirLock() {
    if (fd_ >= 0) {
      close(fd_);
    }
  }

 private:
  const int fd_;
};

// The last lines a process wrote since it was started.
std::string LogTail(const std::string& path) {
  std::ifstream file(path);
  std::deque<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (absl::StartsWith(line, kStartLine)) {
      lines.clear();
      continue;
    }
    lines.push_back(line);
    if (lines.size() > kLogLines) {
      lines.pop_front();
    }
  }
  return absl::StrJoin(lines, "\n");
}

absl::Status NotReady(const std::string& dir, const std::string& name,
                      const std::string& what) {
  const std::string log = LogPath(dir, name);
  const std::string tail = LogTail(log);
  // Its own words say best what is wrong.
  if (const std::optional<absl::Status> error = FindErrorText(tail, log)) {
    return *error;
  }
  return MakeError(
      kClusterStart,
      absl::StrCat(name, " ", what, "; its log ends:\n  ",
                   absl::StrReplaceAll(tail, {{"\n", "\n  "}}), "\n "),
      log);
}

std::string ReadServer(const std::string& dir) {
  std::ifstream file(dir + "/server");
  std::string address;
  std::getline(file, address);
  return address;
}

absl::StatusOr<v1::GetStatusResponse> AskStatus(const std::string& dir) {
  std::ifstream token_file(dir + "/token");
  std::string token;
  std::getline(token_file, token);
  QSWEEP_ASSIGN_OR_RETURN(const Endpoint endpoint,
                          ParseEndpoint(ReadServer(dir), token));
  return CoordinatorClient(endpoint, {.timeout = absl::Seconds(2)})
      .GetStatus({});
}

// Looks again and again until ready() or one of the processes has ended.
absl::Status AwaitReady(const ClusterOptions& options, SteadyTime deadline,
                        const std::vector<std::string>& names,
                        const std::function<bool()>& ready) {
  while (!ready()) {
    for (const std::string& name : names) {
      const std::optional<Process> process =
          ReadPidFile(PidPath(options.dir, name));
      const absl::Duration pause =
          kLookAgain / static_cast<int64_t>(names.size());
      if (!process || WaitForExit(*process, pause)) {
        return NotReady(options.dir, name, "ended at once");
      }
    }
    if (Clock::Real().SteadyNow() > deadline) {
      return NotReady(options.dir, names.back(),
                      absl::StrCat("is not ready after ",
                                   absl::FormatDuration(options.patience)));
    }
  }
  return absl::OkStatus();
}

// Starts the process unless it runs; adds it to the cluster.
absl::Status Ensure(const ClusterOptions& options, const std::string& name,
                    const std::vector<std::string>& argv, Cluster& cluster) {
  const std::string pid_path = PidPath(options.dir, name);
  if (const std::optional<Process> process = ReadPidFile(pid_path)) {
    cluster.processes.push_back({name, process->pid, false});
    return absl::OkStatus();
  }
  std::ofstream(LogPath(options.dir, name), std::ios::app)
      << kStartLine << UtcText(Clock::Real().Now()) << "\n";
  QSWEEP_ASSIGN_OR_RETURN(const Process process,
                          StartDaemon({.argv = argv,
                                       .working_dir = options.dir,
                                       .log_path = LogPath(options.dir, name),
                                       .pid_path = pid_path}));
  cluster.processes.push_back({name, process.pid, true});
  return absl::OkStatus();
}

std::vector<std::string> CoordinatorArgs(const ClusterOptions& options) {
  std::vector<std::string> argv = {
      options.binary_dir + "/qcoordinator",
      "serve",
      "--dir",
      options.dir,
      "--listen",
      absl::StrCat("unix:", options.dir, "/.sock")};
  if (options.port != 0) {
    argv.insert(argv.end(),
                {"--listen", absl::StrCat("127.0.0.1:", options.port)});
  }
  return argv;
}

absl::Status MakeDirs(const std::string& dir) {
  std::error_code error;
  std::filesystem::create_directories(dir + "/logs", error);
  if (error || chmod(dir.c_str(), 0700) != 0) {
    return MakeError(kClusterStart, "cannot make the folder", dir);
  }
  return absl::OkStatus();
}

// SIGTERM to all, then SIGKILL to those that are left.
absl::Status StopAll(const std::string& dir,
                     const std::vector<std::string>& names,
                     absl::Duration patience,
                     std::vector<std::string>& stopped) {
  std::vector<std::pair<std::string, Process>> running;
  for (const std::string& name : names) {
    if (const auto process = ReadPidFile(PidPath(dir, name))) {
      SendSignal(*process, SIGTERM);
      running.emplace_back(name, *process);
    }
  }
  const SteadyTime deadline = Clock::Real().SteadyNow() + patience;
  for (const auto& [name, process] : running) {
    const absl::Duration left =
        std::max(absl::ZeroDuration(), deadline - Clock::Real().SteadyNow());
    if (!WaitForExit(process, left)) {
      SendSignal(process, SIGKILL);
      if (!WaitForExit(process, kKillPatience)) {
        return MakeError(
            kClusterStop,
            absl::StrCat(name, " (process ", process.pid, ") does not end"),
            PidPath(dir, name));
      }
    }
    stopped.push_back(name);
  }
  for (const std::string& name : names) {
    unlink(PidPath(dir, name).c_str());
  }
  return absl::OkStatus();
}

// Names of the folder's pid files: coordinator first, workers by number.
std::vector<std::string> PidFileNames(const std::string& dir) {
  std::vector<std::pair<int, std::string>> workers;
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(dir, error), end;
       !error && it != end; it.increment(error)) {
    absl::string_view name = "";
    const std::string file = it->path().filename().string();
    name = file;
    int number = 0;
    if (!absl::ConsumeSuffix(&name, ".pid")) {
      continue;
    }
    if (name == kCoordinator) {
      names.emplace_back(name);
    } else if (absl::StartsWith(name, kWorkerPrefix) &&
               absl::SimpleAtoi(absl::StripPrefix(name, kWorkerPrefix),
                                &number)) {
      workers.emplace_back(number, name);
    }
  }
  std::sort(workers.begin(), workers.end());
  for (auto& [number, name] : workers) {
    names.push_back(std::move(name));
  }
  return names;
}

}  // namespace

std::vector<std::string> WorkerArguments(const ClusterOptions& options,
                                         const std::string& server,
                                         const std::string& name) {
  const int threads =
      options.threads > 0
          ? options.threads
          : std::max(1, AvailableHostCpus() / std::max(1, options.workers));
  std::vector<std::string> argv = {options.binary_dir + "/qworker",
                                   "--server",
                                   server,
                                   "--token-file",
                                   options.dir + "/token",
                                   "--dir",
                                   absl::StrCat(options.dir, "/", name),
                                   "--name",
                                   name,
                                   "--threads",
                                   absl::StrCat(threads),
                                   "--drain-deadline",
                                   kDrainDeadline};
  if (options.workers > 1) {
    const int percent = std::max(1, kMemoryPercent / options.workers);
    argv.insert(argv.end(), {"--memory", absl::StrCat(percent, "%")});
  }
  return argv;
}

absl::StatusOr<Cluster> StartCluster(const ClusterOptions& options) {
  QSWEEP_RETURN_IF_ERROR(MakeDirs(options.dir));
  const DirLock lock(options.dir);
  const SteadyTime deadline = Clock::Real().SteadyNow() + options.patience;
  Cluster cluster;
  QSWEEP_RETURN_IF_ERROR(
      Ensure(options, kCoordinator, CoordinatorArgs(options), cluster));
  QSWEEP_RETURN_IF_ERROR(AwaitReady(options, deadline, {kCoordinator}, [&] {
    return AskStatus(options.dir).ok();
  }));
  cluster.server = ReadServer(options.dir);
  std::vector<std::string> workers;
  for (int i = 1; i <= options.workers; ++i) {
    workers.push_back(LocalWorkerName(i));
    QSWEEP_RETURN_IF_ERROR(Ensure(
        options, workers.back(),
        WorkerArguments(options, cluster.server, workers.back()), cluster));
  }
  if (!workers.empty()) {
    QSWEEP_RETURN_IF_ERROR(AwaitReady(options, deadline, workers, [&] {
      const absl::StatusOr<v1::GetStatusResponse> status =
          AskStatus(options.dir);
      return status.ok() && status->workers_live() >= workers.size();
    }));
  }
  return cluster;
}

absl::StatusOr<std::vector<std::string>> StopCluster(const std::string& dir,
                                                     absl::Duration patience) {
  std::vector<std::string> stopped;
  if (!std::filesystem::is_directory(dir)) {
    return stopped;
  }
  const DirLock lock(dir);
  std::vector<std::string> workers = PidFileNames(dir);
  workers.erase(std::remove(workers.begin(), workers.end(), kCoordinator),
                workers.end());
  QSWEEP_RETURN_IF_ERROR(StopAll(dir, workers, patience, stopped));
  QSWEEP_RETURN_IF_ERROR(StopAll(dir, {kCoordinator}, patience, stopped));
  unlink((dir + "/server").c_str());
  unlink((dir + "/.sock").c_str());
  return stopped;
}

std::vector<ClusterProcess> ListCluster(const std::string& dir) {
  std::vector<ClusterProcess> processes;
  for (const std::string& name : PidFileNames(dir)) {
    if (const auto process = ReadPidFile(PidPath(dir, name))) {
      processes.push_back({name, process->pid, false});
    }
  }
  return processes;
}

}  // namespace qsweep::qctl
