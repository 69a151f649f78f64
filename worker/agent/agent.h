#ifndef QSWEEP_WORKER_AGENT_AGENT_H_
#define QSWEEP_WORKER_AGENT_AGENT_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

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

  // Says goodbye, gives tasks back for free, ends within a second. Returns at
  // once; repeats are harmless.
  void Shutdown(const std::string& reason);

  // Until it has ended: OK after a Shutdown, the time limit or a drain; else
  // why it cannot go on.
  absl::Status Wait();

 private:
  struct Impl;
  explicit Agent(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_AGENT_AGENT_H_
