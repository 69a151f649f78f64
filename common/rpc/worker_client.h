#ifndef QSWEEP_COMMON_RPC_WORKER_CLIENT_H_
#define QSWEEP_COMMON_RPC_WORKER_CLIENT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/base/digest.h"
#include "common/rpc/channel.h"
#include "qsweep/v1/worker.pb.h"

namespace qsweep {

// One Attach stream. Each message is the sender's whole small state, so an
// older one that has not left yet is replaced, never queued. Thread-safe.
// Destroying it cancels the stream and waits until no callback runs any more:
// never do that inside one.
class AttachStream {
 public:
  virtual ~AttachStream() = default;
  // Sends state, or lets it replace the one that waits for the wire. Nothing
  // happens after the stream has closed.
  virtual void Send(const v1::WorkerState& state) = 0;
};

// Called on the client's threads, in order; must not block.
struct AttachCallbacks {
  std::function<void(v1::DesiredState)> on_state;
  std::function<void(absl::Status)> on_closed;  // once, last
};

// The coordinator's API as a worker sees it. Implementations are thread-safe.
// Errors as in CoordinatorClient; nothing is repeated inside: the agent
// decides.
class WorkerClient {
 public:
  virtual ~WorkerClient() = default;

  // Opens a stream whose first message is `first`, with its hello.
  virtual std::unique_ptr<AttachStream> Attach(const v1::WorkerState& first,
                                               AttachCallbacks callbacks) = 0;
  // OK: the response has one outcome per result.
  virtual absl::StatusOr<v1::CommitResultResponse> CommitResult(
      const v1::CommitResultRequest& request) = 0;
  virtual absl::Status ReleaseTask(const v1::ReleaseTaskRequest& request) = 0;
  // The whole artifact, its digest checked. NOT_FOUND QS4041; DATA_LOSS QS4042.
  virtual absl::StatusOr<std::string> GetArtifact(const Digest& digest) = 0;
  // Ends the calls that run, and every later one, with CANCELLED. Not streams.
  virtual void CancelCalls() = 0;
};

// Over gRPC. Deadlines: commit and release 30 s, an artifact 120 s.
std::unique_ptr<WorkerClient> MakeWorkerClient(const Endpoint& endpoint);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_RPC_WORKER_CLIENT_H_
