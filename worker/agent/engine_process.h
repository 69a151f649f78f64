#ifndef QSWEEP_WORKER_AGENT_ENGINE_PROCESS_H_
#define QSWEEP_WORKER_AGENT_ENGINE_PROCESS_H_

#include <functional>
#include <memory>
#include <signal.h>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include <sys/types.h>

#include "common/base/mutex.h"
#include "common/rpc/frame.h"
#include "qsweep/v1/engine.pb.h"

namespace qsweep {

// A running engine: a child on a pipe, frames of engine.proto in both
// directions. Its stderr is ours. One object per child; to restart, make
// another.
//   auto engine = EngineProcess::Start({.program = path}, callbacks);
//   (*engine)->Send(request);
// The child is killed when the thread that called Start ends (the kernel's
// parent-death signal follows the thread): start engines from a thread that
// lives as long as the worker. The process must ignore SIGPIPE.
class EngineProcess {
 public:
  struct Options {
    std::string program;                 // path of qengine
    std::vector<std::string> arguments;  // after the program: "serve", ...
    size_t max_frame_bytes = kMaxFrameBytes;
  };
  // Called on the reader thread, in order.
  struct Callbacks {
    std::function<void(v1::EngineEvent)> on_event;
    // Once, last: how it ended, "killed by signal 9 (Killed)", as UNAVAILABLE
    // QS5002; a damaged or oversized frame kills it and is named here. killed:
    // by a signal that was not for such a frame.
    std::function<void(absl::Status, bool killed)> on_exit;
  };

  // NOT_FOUND QS5001: the program cannot be started; no callback runs then.
  static absl::StatusOr<std::unique_ptr<EngineProcess>> Start(
      const Options& options, Callbacks callbacks);
  // Kills it if it still runs; waits for on_exit, so never from a callback.
  ~EngineProcess();
  EngineProcess(const EngineProcess&) = delete;
  EngineProcess& operator=(const EngineProcess&) = delete;

  // Writes one request; blocks while the pipe is full. One thread at a time.
  // UNAVAILABLE: the engine is gone; on_exit says how.
  absl::Status Send(const v1::EngineRequest& request);

  // Ends its stdin: a healthy engine exits by itself. Not while Send runs.
  void CloseInput();

  // SIGKILL. Returns at once, repeats are harmless. Thread-safe, also while
  // Send blocks.
  void Kill();

  pid_t pid() const { return pid_; }

 private:
  EngineProcess(const Options& options, Callbacks callbacks);
  void ReadEvents();
  siginfo_t WaitForExit();

  const Options options_;
  const Callbacks callbacks_;
  pid_t pid_ = -1;
  int input_ = -1;   // the child's stdin; Send's thread
  int output_ = -1;  // the child's stdout; the reader's
  std::thread reader_;

  Mutex mutex_;
  bool reaped_ ABSL_GUARDED_BY(mutex_) = false;  // pid_ may be another's now
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_AGENT_ENGINE_PROCESS_H_
