#include "common/rpc/worker_client.h"

#include <chrono>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/mutex.h"
#include "common/rpc/status_conversion.h"
#include "qsweep/v1/worker.grpc.pb.h"

namespace qsweep {
namespace {

constexpr absl::Duration kCommitTimeout = absl::Seconds(30);
constexpr absl::Duration kArtifactTimeout = absl::Seconds(120);

void SetTimeout(grpc::ClientContext& context, absl::Duration timeout) {
  context.set_deadline(absl::ToChronoTime(Clock::Real().Now() + timeout));
}

// The stream's reactor. gRPC allows one read and one write in flight; what
// should be written meanwhile waits in next_, the newest only.
class GrpcAttachStream
    : public AttachStream,
      public grpc::ClientBidiReactor<v1::WorkerState, v1::DesiredState> {
 public:
  GrpcAttachStream(const Endpoint& endpoint, v1::WorkerService::Stub& stub,
                   const v1::WorkerState& first, AttachCallbacks callbacks)
      : endpoint_(endpoint),
        callbacks_(std::move(callbacks)),
        outgoing_(first) {
    AddToken(endpoint_, context_);
    stub.async()->Attach(&context_, this);
    // Send may start a write at any time, outside the reactor's callbacks. The
    // hold keeps OnDone away until OnReadDone has seen the end.
    AddHold();
    StartWrite(&outgoing_);
    StartRead(&incoming_);
    StartCall();
  }

  ~GrpcAttachStream() override {
    context_.TryCancel();
    MutexLock lock(mutex_);
    while (!done_) {
      done_changed_.Wait(mutex_);
    }
  }

  void Send(const v1::WorkerState& state) override {
    MutexLock lock(mutex_);
    if (closed_) {
      return;
    }
    if (writing_) {
      next_ = state;
      return;
    }
    writing_ = true;
    outgoing_ = state;
    StartWrite(&outgoing_);
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(mutex_);
    writing_ = false;
    if (!ok || closed_) {
      return;  // OnReadDone hears of it too
    }
    if (next_) {
      outgoing_ = *std::exchange(next_, std::nullopt);
      writing_ = true;
      StartWrite(&outgoing_);
    }
  }

  void OnReadDone(bool ok) override {
    if (ok) {
      callbacks_.on_state(std::move(incoming_));
      incoming_.Clear();
      StartRead(&incoming_);
      return;
    }
    {
      MutexLock lock(mutex_);
      closed_ = true;
    }
    RemoveHold();
  }

  void OnDone(const grpc::Status& status) override {
    const absl::Status why = FromGrpcStatus(status);
    callbacks_.on_closed(
        why.ok() ? absl::UnavailableError("the coordinator ended the stream")
                 : ExplainCallStatus(endpoint_, why));
    MutexLock lock(mutex_);
    done_ = true;
    done_changed_.NotifyAll();
  }

 private:
  const Endpoint endpoint_;
  const AttachCallbacks callbacks_;
  grpc::ClientContext context_;
  v1::DesiredState incoming_;  // the reading reaction's

  Mutex mutex_;
  CondVar done_changed_;
  v1::WorkerState outgoing_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::WorkerState> next_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = true;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
};

// The calls in flight, so that others can end them. Thread-safe.
class RunningCalls {
 public:
  // Adds one for as long as it lives.
  class Entry {
   public:
    Entry(RunningCalls& calls, grpc::ClientContext& context)
        : calls_(calls), context_(context) {
      MutexLock lock(calls_.mutex_);
      calls_.contexts_.insert(&context_);
      if (calls_.cancelled_) {
        context_.TryCancel();
      }
    }
    ~Entry() {
      MutexLock lock(calls_.mutex_);
      calls_.contexts_.erase(&context_);
    }

   private:
    RunningCalls& calls_;
    grpc::ClientContext& context_;
  };

  void CancelAll() {
    MutexLock lock(mutex_);
    cancelled_ = true;
    for (grpc::ClientContext* context : contexts_) {
      context->TryCancel();
    }
  }

 private:
  Mutex mutex_;
  std::set<grpc::ClientContext*> contexts_ ABSL_GUARDED_BY(mutex_);
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

class GrpcWorkerClient : public WorkerClient {
 public:
  explicit GrpcWorkerClient(const Endpoint& endpoint)
      : endpoint_(endpoint),
        channel_(MakeChannel(endpoint)),
        stub_(v1::WorkerService::NewStub(channel_)) {}

  std::unique_ptr<AttachStream> Attach(const v1::WorkerState& first,
                                       AttachCallbacks callbacks) override {
    QSWEEP_CHECK(first.has_hello());
    // The agent keeps its own back-off; the channel's would only add to it.
    grpc::experimental::ChannelResetConnectionBackoff(channel_.get());
    return std::make_unique<GrpcAttachStream>(endpoint_, *stub_, first,
                                              std::move(callbacks));
  }

  absl::StatusOr<v1::CommitResultResponse> CommitResult(
      const v1::CommitResultRequest& request) override {
    grpc::ClientContext context;
    AddToken(endpoint_, context);
    SetTimeout(context, kCommitTimeout);
    const RunningCalls::Entry running(calls_, context);
    v1::CommitResultResponse response;
    const absl::Status status =
        FromGrpcStatus(stub_->CommitResult(&context, request, &response));
    if (!status.ok()) {
      return ExplainCallStatus(endpoint_, status);
    }
    if (response.results_size() != request.results_size()) {
      return MakeError(
          kInternal,
          absl::StrCat("CommitResult answered ", response.results_size(),
                       " outcomes for ", request.results_size(), " results"));
    }
    return response;
  }

  absl::Status ReleaseTask(const v1::ReleaseTaskRequest& request) override {
    grpc::ClientContext context;
    AddToken(endpoint_, context);
    SetTimeout(context, kCommitTimeout);
    const RunningCalls::Entry running(calls_, context);
    v1::ReleaseTaskResponse response;
    return ExplainCallStatus(endpoint_, FromGrpcStatus(stub_->ReleaseTask(
                                            &context, request, &response)));
  }

  absl::StatusOr<std::string> GetArtifact(const Digest& digest) override {
    grpc::ClientContext context;
    AddToken(endpoint_, context);
    SetTimeout(context, kArtifactTimeout);
    const RunningCalls::Entry running(calls_, context);
    v1::GetArtifactRequest request;
    request.set_digest(digest.bytes());
    const auto reader = stub_->GetArtifact(&context, request);
    std::string bytes;
    v1::ArtifactChunk chunk;
    while (reader->Read(&chunk)) {
      bytes.append(chunk.data());
    }
    const absl::Status status = FromGrpcStatus(reader->Finish());
    if (!status.ok()) {
      return ExplainCallStatus(endpoint_, status);
    }
    if (Digest::Of(bytes) != digest) {
      return MakeError(kArtifactMismatch,
                       absl::StrCat("artifact ", digest.hex(), ": received ",
                                    bytes.size(), " bytes of another digest"));
    }
    return bytes;
  }

  void CancelCalls() override { calls_.CancelAll(); }

 private:
  const Endpoint endpoint_;
  RunningCalls calls_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::WorkerService::Stub> stub_;
};

}  // namespace

std::unique_ptr<WorkerClient> MakeWorkerClient(const Endpoint& endpoint) {
  return std::make_unique<GrpcWorkerClient>(endpoint);
}

}  // namespace qsweep
