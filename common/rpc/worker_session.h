#ifndef QSWEEP_COMMON_RPC_WORKER_SESSION_H_
#define QSWEEP_COMMON_RPC_WORKER_SESSION_H_

#include <memory>

#include <grpcpp/channel.h>

#include "common/base/mutex.h"
#include "common/rpc/channel.h"
#include "common/rpc/worker_client.h"
#include "qsweep/v1/worker.grpc.pb.h"

namespace qsweep {

// One channel to the coordinator.
struct WorkerChannel {
  explicit WorkerChannel(const Endpoint& to)
      : endpoint(to),
        channel(MakeChannel(to)),
        stub(v1::WorkerService::NewStub(channel)) {}
  const Endpoint endpoint;
  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<v1::WorkerService::Stub> stub;
};

// The calls of sessions that gRPC has not finished yet. Destroying it waits for
// them; their channels must live longer, for the last reference to a channel
// must not go on one of gRPC's own threads. Thread-safe.
class RunningSessions {
 public:
  ~RunningSessions();
  void Begin();
  void End();

 private:
  Mutex mutex_;
  CondVar none_;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
};

// WorkerClient::Attach and ::Poll. sessions must outlive gRPC's last callback,
// which its destructor sees to.
std::unique_ptr<AttachStream> OpenStreamSession(
    std::shared_ptr<const WorkerChannel> link, const v1::WorkerState& first,
    AttachCallbacks callbacks, RunningSessions& sessions);
std::unique_ptr<AttachStream> OpenPollSession(
    std::shared_ptr<const WorkerChannel> link, const v1::WorkerState& first,
    AttachCallbacks callbacks, RunningSessions& sessions);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_RPC_WORKER_SESSION_H_
