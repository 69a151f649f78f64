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

// One session with the coordinator, on a stream or by polls. Each message is
// the sender's whole small state, so an older one that has not left yet is
// replaced, never queued. Thread-safe. Destroying it cancels and does not wait
// for the network; no callback runs afterwards: never do that inside one.
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
  // Once, last. UNAVAILABLE: QS4001 when there is no connection, without a code
  // when there is one and something in between ended the stream.
  std::function<void(absl::Status)> on_closed;
};

// The coordinator's API as a worker sees it. Implementations are thread-safe.
// Errors as in CoordinatorClient; nothing is repeated inside: the agent
// decides. A session that follows one that was given up has a connection of its
// own; once it is welcome, calls that wait on an older connection end as
// UNAVAILABLE, to be repeated on the new one.
class WorkerClient {
 public:
  virtual ~WorkerClient() = default;

  // Opens a stream whose first message is `first`, with its hello.
  virtual std::unique_ptr<AttachStream> Attach(const v1::WorkerState& first,
                                               AttachCallbacks callbacks) = 0;
  // The same by Synchronize calls, for proxies that break streams: each Send is
  // a call that the coordinator answers when something changed, or after a
  // heartbeat. on_state wants a Send in turn, or the coordinator cannot reach
  // the worker. A Send before an answer takes the place of the call that waits.
  virtual std::unique_ptr<AttachStream> Poll(const v1::WorkerState& first,
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

// Over gRPC. Deadlines: commit and release 30 s, an artifact 120 s, a poll the
// heartbeat and 10 s. Destroying it waits for what was cancelled.
std::unique_ptr<WorkerClient> MakeWorkerClient(const Endpoint& endpoint);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_RPC_WORKER_CLIENT_H_
