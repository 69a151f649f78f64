#ifndef QSWEEP_TESTS_SUPPORT_CHILD_PROCESS_H_
#define QSWEEP_TESTS_SUPPORT_CHILD_PROCESS_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include <sys/types.h>

namespace qsweep::testing {

// A child process of a test. It dies with the thread that started it, so a test
// that is killed leaves nothing behind. Single-thread.
class ChildProcess {
 public:
  struct Options {
    std::vector<std::string> argv;
    std::map<std::string, std::string> environment;  // on top of ours
    std::string log_path;  // its stdout and stderr, appended
    int network =
        -1;  // descriptor of the network namespace it runs in; -1: ours
  };
  // Aborts the test program when it cannot be started.
  static std::unique_ptr<ChildProcess> Start(const Options& options);
  ~ChildProcess();  // SIGKILL and wait
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  void Signal(int number) const;
  // The status of waitpid once it has ended; nothing when timeout passes first.
  std::optional<int> Wait(absl::Duration timeout);
  // SIGKILL, then waits.
  void Kill();
  bool running() { return !Wait(absl::ZeroDuration()).has_value(); }
  pid_t pid() const { return pid_; }

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}
  const pid_t pid_;
  std::optional<int> status_;
};

// The processes whose parent is `parent`, by /proc.
std::vector<pid_t> ChildrenOf(pid_t parent);

// Looks every few milliseconds until ready() or timeout; whether it was ready.
bool AwaitTrue(absl::Duration timeout, const std::function<bool()>& ready);

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_CHILD_PROCESS_H_
