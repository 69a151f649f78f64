#include "common/rpc/worker_client.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
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
    Entry(RunningCalls& calls, const WorkerChannel& link,
          grpc::ClientContext& context)
        : calls_(calls), link_(link), context_(context) {
      MutexLock lock(calls_.mutex_);
      calls_.entries_.insert(this);
      if (calls_.cancelled_) {
        context_.TryCancel();
      }
    }
    ~Entry() {
      MutexLock lock(calls_.mutex_);
      calls_.entries_.erase(this);
      calls_.overtaken_.erase(this);
    }
    // What the end of the call means for the caller.
    absl::Status Explain(const absl::Status& status) const {
      MutexLock lock(calls_.mutex_);
      return absl::IsCancelled(status) && calls_.overtaken_.contains(this)
                 ? absl::UnavailableError("the connection went silent")
                 : ExplainCallStatus(link_.endpoint, status);
    }

   private:
    friend class RunningCalls;
    RunningCalls& calls_;
    const WorkerChannel& link_;
    grpc::ClientContext& context_;
  };

  void CancelAll() {
    MutexLock lock(mutex_);
    cancelled_ = true;
    for (Entry* entry : entries_) {
      entry->context_.TryCancel();
    }
  }
  // Ends those on other channels, so that they are repeated on this one.
  void Overtake(const WorkerChannel& link) {
    MutexLock lock(mutex_);
    for (Entry* entry : entries_) {
      if (&entry->link_ != &link) {
        overtaken_.insert(entry);
        entry->context_.TryCancel();
      }
    }
  }

 private:
  Mutex mutex_;
  std::set<Entry*> entries_ ABSL_GUARDED_BY(mutex_);
  std::set<const Entry*> overtaken_ ABSL_GUARDED_BY(mutex_);
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

class GrpcWorkerClient : public WorkerClient {
 public:
  explicit GrpcWorkerClient(const Endpoint& endpoint)
      : endpoint_(endpoint), link_(std::make_shared<WorkerChannel>(endpoint)) {}

  std::unique_ptr<AttachStream> Attach(const v1::WorkerState& first,
                                       AttachCallbacks callbacks) override {
    return Open(OpenStreamSession, first, std::move(callbacks));
  }

  std::unique_ptr<AttachStream> Poll(const v1::WorkerState& first,
                                     AttachCallbacks callbacks) override {
    return Open(OpenPollSession, first, std::move(callbacks));
  }

  absl::StatusOr<v1::CommitResultResponse> CommitResult(
      const v1::CommitResultRequest& request) override {
    grpc::ClientContext context;
    AddToken(endpoint_, context);
    SetTimeout(context, kCommitTimeout);
    const std::shared_ptr<const WorkerChannel> link = this->link();
    const RunningCalls::Entry running(calls_, *link, context);
    v1::CommitResultResponse response;
    const absl::Status status =
        FromGrpcStatus(link->stub->CommitResult(&context, request, &response));
    if (!status.ok()) {
      return running.Explain(status);
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
    const std::shared_ptr<const WorkerChannel> link = this->link();
    const RunningCalls::Entry running(calls_, *link, context);
    v1::ReleaseTaskResponse response;
    return running.Explain(
        FromGrpcStatus(link->stub->ReleaseTask(&context, request, &response)));
  }

  absl::StatusOr<std::string> GetArtifact(const Digest& digest) override {
    grpc::ClientContext context;
    AddToken(endpoint_, context);
    SetTimeout(context, kArtifactTimeout);
    const std::shared_ptr<const WorkerChannel> link = this->link();
    const RunningCalls::Entry running(calls_, *link, context);
    v1::GetArtifactRequest request;
    request.set_digest(digest.bytes());
    const auto reader = link->stub->GetArtifact(&context, request);
    std::string bytes;
    v1::ArtifactChunk chunk;
    while (reader->Read(&chunk)) {
      bytes.append(chunk.data());
    }
    const absl::Status status = FromGrpcStatus(reader->Finish());
    if (!status.ok()) {
      return running.Explain(status);
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
  // The calls that wait on an older channel, perhaps for ever, are ended once
  // the coordinator has answered on the new one.
  template <typename OpenSession>
  std::unique_ptr<AttachStream> Open(OpenSession open,
                                     const v1::WorkerState& first,
                                     AttachCallbacks callbacks) {
    QSWEEP_CHECK(first.has_hello());
    uint64_t session = 0;
    std::shared_ptr<const WorkerChannel> link = NewLink(session);
    AttachCallbacks wrapped = {
        .on_state =
            [this, link = link.get(),
             on_state = std::move(callbacks.on_state)](v1::DesiredState state) {
              if (state.has_welcome()) {
                calls_.Overtake(*link);
              }
              on_state(std::move(state));
            },
        .on_closed =
            [this, session,
             on_closed = std::move(callbacks.on_closed)](absl::Status why) {
              {
                MutexLock lock(mutex_);
                closed_session_ = std::max(closed_session_, session);
              }
              on_closed(std::move(why));
            }};
    return open(std::move(link), first, std::move(wrapped), sessions_);
  }

  // For a new session. The agent keeps its own back-off, and a channel that
  // could not connect fails calls at once until its own has passed: another
  // channel tries now. So it does when the session before was given up without
  // having ended: its connection may be dead, and gRPC would be long to notice.
  std::shared_ptr<const WorkerChannel> NewLink(uint64_t& session) {
    MutexLock lock(mutex_);
    std::erase_if(retired_,
                  [](const auto& old) { return old.use_count() == 1; });
    const bool silent = closed_session_ != newest_session_;
    session = ++newest_session_;
    if (silent ||
        link_->channel->GetState(false) == GRPC_CHANNEL_TRANSIENT_FAILURE) {
      retired_.push_back(link_);
      link_ = std::make_shared<WorkerChannel>(endpoint_);
    }
    return link_;
  }

  const Endpoint endpoint_;
  RunningCalls calls_;
  Mutex mutex_;
  std::shared_ptr<const WorkerChannel> link_ ABSL_GUARDED_BY(mutex_);
  uint64_t newest_session_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t closed_session_ ABSL_GUARDED_BY(mutex_) = 0;  // newest that ended
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
