#ifndef QSWEEP_WORKER_AGENT_AGENT_H_
#define QSWEEP_WORKER_AGENT_AGENT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/base/ids.h"
#include "common/rpc/worker_client.h"
#include "worker/agent/agent_core.h"
#include "worker/agent/engine_process.h"
#include "worker/agent/spool.h"

namespace qsweep {

struct AgentOptions {
  AgentSettings settings;
  EngineProcess::Options engine;
  std::string directory;  // holds spool and cache; the caller has locked it
  Spool::Options spool;   // its directory is set by the agent
  // Keeps a worker_uuid for the next start. On a thread of the agent.
  std::function<absl::Status(const WorkerUuid&)> keep_identity;
};

// A worker: AgentCore with its threads and clients.
//   auto agent = Agent::Start(options, MakeWorkerClient(endpoint));
//   absl::Status why = (*agent)->Wait();
// Threads: control steps the core and sends the heartbeats; it never touches
// disk or pipe, so nothing there can delay a beat. The sender owns the spool
// and the durable calls, the fetcher downloads, the engine's thread starts it
// and writes to it, the engine's reader reads it. Thread-safe.
class Agent {
 public:
  // UNAVAILABLE: the spool cannot be opened. A missing engine is found later:
  // Wait returns it.
  static absl::StatusOr<std::unique_ptr<Agent>> Start(
      const AgentOptions& options, std::unique_ptr<WorkerClient> client);
  // Ends without a goodbye what has not ended; call Shutdown and Wait before.
  ~Agent();

  // Lets the task that runs end if it does so within the drain deadline, gives
  // the others back for free, says goodbye, ends. A second call does not wait
  // for the task and ends within a second. Returns at once.
  void Drain(const std::string& reason);
  // As the second call of Drain.
  void Shutdown(const std::string& reason);

  // Until it has ended: OK when it was asked to, or the time limit came; else
  // why it cannot go on.
  absl::Status Wait();

 private:
  struct Impl;
  explicit Agent(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_AGENT_AGENT_H_
