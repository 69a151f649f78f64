#include "common/rpc/worker_client.h"

#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/mutex.h"
#include "common/rpc/status_conversion.h"
#include "common/rpc/worker_session.h"
#include "qsweep/v1/worker.grpc.pb.h"

namespace qsweep {
namespace {

constexpr absl::Duration kCommitTimeout = absl::Seconds(30);
constexpr absl::Duration kArtifactTimeout = absl::Seconds(120);

void SetTimeout(grpc::ClientContext& context, absl::Duration timeout) {
  context.set_deadline(absl::ToChronoTime(Clock::Real().Now() + timeout));
}

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
      : endpoint_(endpoint), link_(std::make_shared<WorkerChannel>(endpoint)) {}

  std::unique_ptr<AttachStream> Attach(const v1::WorkerState& first,
                                       AttachCallbacks callbacks) override {
    QSWEEP_CHECK(first.has_hello());
    return OpenStreamSession(NewLink(), first, std::move(callbacks), sessions_);
  }

  std::unique_ptr<AttachStream> Poll(const v1::WorkerState& first,
                                     AttachCallbacks callbacks) override {
    QSWEEP_CHECK(first.has_hello());
    return OpenPollSession(NewLink(), first, std::move(callbacks), sessions_);
  }

  absl::StatusOr<v1::CommitResultResponse> CommitResult(
      const v1::CommitResultRequest& request) override {
    grpc::ClientContext context;
    AddToken(endpoint_, context);
    SetTimeout(context, kCommitTimeout);
    const RunningCalls::Entry running(calls_, context);
    v1::CommitResultResponse response;
    const absl::Status status = FromGrpcStatus(
        link()->stub->CommitResult(&context, request, &response));
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
    return ExplainCallStatus(
        endpoint_, FromGrpcStatus(link()->stub->ReleaseTask(&context, request,
                                                            &response)));
  }

  absl::StatusOr<std::string> GetArtifact(const Digest& digest) override {
    grpc::ClientContext context;
    AddToken(endpoint_, context);
    SetTimeout(context, kArtifactTimeout);
    const RunningCalls::Entry running(calls_, context);
    v1::GetArtifactRequest request;
    request.set_digest(digest.bytes());
    const std::shared_ptr<const WorkerChannel> link = this->link();
    const auto reader = link->stub->GetArtifact(&context, request);
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
  std::shared_ptr<const WorkerChannel> link() {
    MutexLock lock(mutex_);
    return link_;
  }
  // For a new session. The agent keeps its own back-off, and a channel that
  // could not connect fails calls at once until its own has passed: another
  // channel tries now.
  std::shared_ptr<const WorkerChannel> NewLink() {
    MutexLock lock(mutex_);
    std::erase_if(retired_,
                  [](const auto& old) { return old.use_count() == 1; });
    if (link_->channel->GetState(false) == GRPC_CHANNEL_TRANSIENT_FAILURE) {
      retired_.push_back(link_);
      link_ = std::make_shared<WorkerChannel>(endpoint_);
    }
    return link_;
  }

  const Endpoint endpoint_;
  RunningCalls calls_;
  Mutex mutex_;
  std::shared_ptr<const WorkerChannel> link_ ABSL_GUARDED_BY(mutex_);
  // Until gRPC is done with their calls.
  std::vector<std::shared_ptr<const WorkerChannel>> retired_
      ABSL_GUARDED_BY(mutex_);
  RunningSessions sessions_;  // last: waits while the channels live
};

}  // namespace

std::unique_ptr<WorkerClient> MakeWorkerClient(const Endpoint& endpoint) {
  return std::make_unique<GrpcWorkerClient>(endpoint);
}

}  // namespace qsweep
