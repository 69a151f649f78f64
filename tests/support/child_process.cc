#include "tests/support/child_process.h"

#include <cstdlib>
#include <errno.h>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sstream>
#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "common/base/check.h"
#include "common/base/clock.h"

namespace qsweep::testing {
namespace {

constexpr int kLookAgainMs = 5;

}  // namespace

std::unique_ptr<ChildProcess> ChildProcess::Start(const Options& options) {
  // All memory is made before fork: the child of a program with threads may
  // only make system calls.
  std::vector<std::string> words = options.argv;
  std::vector<char*> argv;
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);
  std::vector<std::string> settings;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    settings.emplace_back(*entry);
  }
  for (const auto& [name, value] : options.environment) {
    settings.insert(settings.begin(), absl::StrCat(name, "=", value));
  }
  std::vector<char*> environment;
  for (std::string& setting : settings) {
    environment.push_back(setting.data());
  }
  environment.push_back(nullptr);
  const int log = open(options.log_path.c_str(),
                       O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  QSWEEP_CHECK(log >= 0);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  QSWEEP_CHECK(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
      _exit(127);
    }
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    if (options.network >= 0 && setns(options.network, CLONE_NEWNET) != 0) {
      _exit(126);
    }
    execve(argv[0], argv.data(), environment.data());
    _exit(127);
  }
  close(log);
  return std::unique_ptr<ChildProcess>(new ChildProcess(pid));
}

ChildProcess::~ChildProcess() { Kill(); }

void ChildProcess::Signal(int number) const {
  if (!status_) {
    kill(pid_, number);
  }
}

std::optional<int> ChildProcess::Wait(absl::Duration timeout) {
  if (status_) {
    return status_;
  }
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  QSWEEP_CHECK(fd >= 0);
  pollfd ended = {.fd = fd, .events = POLLIN};
  const int ready =
      poll(&ended, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout)));
  close(fd);
  if (ready > 0) {
    int status = 0;
    QSWEEP_CHECK(waitpid(pid_, &status, 0) == pid_);
    status_ = status;
  }
  return status_;
}

void ChildProcess::Kill() {
  Signal(SIGKILL);
  QSWEEP_CHECK(Wait(absl::Seconds(60)).has_value());
}

std::vector<pid_t> ChildrenOf(pid_t parent) {
  std::vector<pid_t> children;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc", error)) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) {
      continue;
    }
    std::ifstream file(entry.path() / "stat");
    std::string stat;
    std::getline(file, stat);
    const size_t name_end = stat.rfind(')');
    if (name_end == std::string::npos) {
      continue;
    }
    std::istringstream rest(stat.substr(name_end + 1));
    std::string state;
    pid_t its_parent = 0;
    if (rest >> state >> its_parent && its_parent == parent && state != "Z") {
      children.push_back(pid);
    }
  }
  return children;
}

bool AwaitTrue(absl::Duration timeout, const std::function<bool()>& ready) {
  const SteadyTime deadline = Clock::Real().SteadyNow() + timeout;
  while (!ready()) {
    if (Clock::Real().SteadyNow() > deadline) {
      return false;
    }
    poll(nullptr, 0, kLookAgainMs);
  }
  return true;
}

}  // namespace qsweep::testing
