#ifndef QSWEEP_WORKER_AGENT_ENGINE_RUNNER_H_
#define QSWEEP_WORKER_AGENT_ENGINE_RUNNER_H_

#include <functional>
#include <memory>
#include <thread>

#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "worker/agent/agent_events.h"
#include "worker/agent/engine_process.h"
#include "worker/agent/mailbox.h"

namespace qsweep {

// The thread that starts engines and writes to them: the pipe may block it,
// nobody else. What the engine says becomes events. Thread-safe.
class EngineRunner {
 public:
  using Post = std::function<void(AgentEvent)>;

  EngineRunner(const EngineProcess::Options& options, Post post);
  ~EngineRunner();  // kills the engine

  // Starts a new engine; the one before has exited.
  void Start();
  void Run(const v1::EngineRun& run);
  void Cancel(TaskId task);
  // At once, also when the engine is only being started.
  void Kill();

 private:
  // What its thread does next: write a request, or, null, start an engine.
  using Command = std::shared_ptr<const v1::EngineRequest>;

  void Serve();
  void StartEngine();
  void Send(const v1::EngineRequest& request);
  EngineProcess::Callbacks Callbacks() const;

  const EngineProcess::Options options_;
  const Post post_;
  Mailbox<Command> commands_;

  Mutex mutex_;
  std::shared_ptr<EngineProcess> engine_ ABSL_GUARDED_BY(mutex_);
  bool kill_wanted_ ABSL_GUARDED_BY(mutex_) = false;  // since the last Start
  std::thread thread_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_AGENT_ENGINE_RUNNER_H_
