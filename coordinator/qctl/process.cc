#include "coordinator/qctl/process.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <poll.h>
#include <spawn.h>
#include <sstream>
#include <unistd.h>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep::qctl {
namespace {

constexpr int kStartTimeField = 19;  // of /proc/PID/stat, after the name

// Owns a file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { Close(); }
  int get() const { return fd_; }
  void Close() {
    if (fd_ >= 0) {
      close(std::exchange(fd_, -1));
    }
  }

 private:
  int fd_;
};

// When the process started; nothing when it has gone or is a zombie.
std::optional<uint64_t> StartTicks(int pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::stringstream content;
  content << file.rdbuf();
  const std::string text = content.str();
  // "pid (name) state ...": the name may hold anything, so from its end.
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) {
    return std::nullopt;
  }
  const std::vector<absl::string_view> fields = absl::StrSplit(
      absl::string_view(text).substr(name_end + 1), ' ', absl::SkipEmpty());
  uint64_t ticks = 0;
  if (fields.size() <= kStartTimeField || fields[0] == "Z" ||
      !absl::SimpleAtoi(fields[kStartTimeField], &ticks)) {
    return std::nullopt;
  }
  return ticks;
}

// A handle to that very process, which a reused number cannot confuse.
Descriptor OpenProcess(const Process& process) {
  Descriptor handle(static_cast<int>(syscall(SYS_pidfd_open, process.pid, 0)));
  if (handle.get() >= 0 && StartTicks(process.pid) != process.start_ticks) {
    handle.Close();
  }
  return handle;
}

// posix_spawn's arguments, freed at the end.
class SpawnPlan {
 public:
  SpawnPlan() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  // 0 or an error number.
  int Spawn(const std::vector<std::string>& argv, pid_t& pid) {
    std::vector<char*> pointers;
    for (const std::string& arg : argv) {
      pointers.push_back(const_cast<char*>(arg.c_str()));
    }
    pointers.push_back(nullptr);
    return posix_spawn(&pid, pointers[0], &actions, &attributes,
                       pointers.data(), environ);
  }

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

// With the text, to be read from its start; -1 and errno where it cannot be. A
// pipe could fill up while nobody reads the other ones.
Descriptor FileInMemory(const std::string& text) {
  Descriptor file(memfd_create("input", MFD_CLOEXEC));
  for (size_t done = 0; file.get() >= 0 && done < text.size();) {
    const ssize_t size =
        write(file.get(), text.data() + done, text.size() - done);
    if (size < 0 && errno != EINTR) {
      return Descriptor();
    }
    done += size > 0 ? static_cast<size_t>(size) : 0;
  }
  lseek(file.get(), 0, SEEK_SET);
  return file;
}

// Reads both pipes until both are closed.
void ReadBoth(const Descriptor& out, const Descriptor& err,
              ProgramResult& result) {
  std::array<pollfd, 2> polled = {
      pollfd{.fd = out.get(), .events = POLLIN, .revents = 0},
      pollfd{.fd = err.get(), .events = POLLIN, .revents = 0}};
  std::array<std::string*, 2> texts = {&result.out, &result.err};
  std::array<char, 65536> buffer;
  int open = 2;
  while (open > 0) {
    if (poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) {
      return;
    }
    for (size_t i = 0; i < polled.size(); ++i) {
      if (polled[i].fd < 0 || polled[i].revents == 0) {
        continue;
      }
      const ssize_t size = read(polled[i].fd, buffer.data(), buffer.size());
      if (size > 0) {
        texts[i]->append(buffer.data(), static_cast<size_t>(size));
      } else if (size == 0 || errno != EINTR) {
        polled[i].fd = -1;
        --open;
      }
    }
  }
}

}  // namespace

std::optional<Process> ReadPidFile(const std::string& path) {
  std::ifstream file(path);
  Process process;
  if (!(file >> process.pid >> process.start_ticks) || process.pid <= 0 ||
      StartTicks(process.pid) != process.start_ticks) {
    return std::nullopt;
  }
  return process;
}

absl::StatusOr<Process> StartDaemon(const DaemonOptions& options) {
  SpawnPlan plan;
  posix_spawn_file_actions_addopen(&plan.actions, STDIN_FILENO, "/dev/null",
                                   O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&plan.actions, STDOUT_FILENO,
                                   options.log_path.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&plan.actions, STDOUT_FILENO, STDERR_FILENO);
  posix_spawn_file_actions_addchdir_np(&plan.actions,
                                       options.working_dir.c_str());
  posix_spawnattr_setflags(&plan.attributes, POSIX_SPAWN_SETSID);
  Process process;
  if (const int error = plan.Spawn(options.argv, process.pid); error != 0) {
    return MakeError(kClusterStart,
                     absl::StrCat("cannot start ", options.argv[0], ": ",
                                  std::strerror(error)),
                     options.argv[0]);
  }
  process.start_ticks = StartTicks(process.pid).value_or(0);
  std::ofstream file(options.pid_path, std::ios::trunc);
  file << process.pid << " " << process.start_ticks << "\n" << std::flush;
  if (!file) {
    SendSignal(process, SIGKILL);
    return MakeError(kClusterStart, "cannot write the pid file",
                     options.pid_path);
  }
  return process;
}

bool WaitForExit(const Process& process, absl::Duration patience) {
  const Descriptor handle = OpenProcess(process);
  if (handle.get() < 0) {
    return true;
  }
  pollfd polled = {.fd = handle.get(), .events = POLLIN, .revents = 0};
  return poll(&polled, 1,
              static_cast<int>(absl::ToInt64Milliseconds(patience))) > 0;
}

bool SendSignal(const Process& process, int signal) {
  const Descriptor handle = OpenProcess(process);
  return handle.get() >= 0 &&
         syscall(SYS_pidfd_send_signal, handle.get(), signal, nullptr, 0) == 0;
}

absl::StatusOr<ProgramResult> RunProgram(const std::vector<std::string>& argv,
                                         const std::string& input) {
  const Descriptor in = FileInMemory(input);
  if (in.get() < 0) {
    return MakeError(kEngineMissing, std::strerror(errno), argv[0]);
  }
  std::array<int, 2> out_pipe;
  std::array<int, 2> err_pipe;
  if (pipe2(out_pipe.data(), O_CLOEXEC) != 0) {
    return MakeError(kEngineMissing, std::strerror(errno), argv[0]);
  }
  const Descriptor out(out_pipe[0]);
  Descriptor out_end(out_pipe[1]);
  if (pipe2(err_pipe.data(), O_CLOEXEC) != 0) {
    return MakeError(kEngineMissing, std::strerror(errno), argv[0]);
  }
  const Descriptor err(err_pipe[0]);
  Descriptor err_end(err_pipe[1]);
  SpawnPlan plan;
  posix_spawn_file_actions_adddup2(&plan.actions, in.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&plan.actions, out_end.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&plan.actions, err_end.get(), STDERR_FILENO);
  pid_t pid = 0;
  if (const int error = plan.Spawn(argv, pid); error != 0) {
    return MakeError(
        kEngineMissing,
        absl::StrCat("cannot start ", argv[0], ": ", std::strerror(error)),
        argv[0]);
  }
  out_end.Close();
  err_end.Close();
  ProgramResult result;
  ReadBoth(out, err, result);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  result.exit_code =
      WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace qsweep::qctl
