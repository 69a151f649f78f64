#ifndef QSWEEP_TESTS_SUPPORT_SCRIPTED_WORKER_SERVICE_H_
#define QSWEEP_TESTS_SUPPORT_SCRIPTED_WORKER_SERVICE_H_

#include <deque>
#include <memory>
#include <string>
#include <utility>

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "common/rpc/channel.h"
#include "common/rpc/status_conversion.h"
#include "common/rpc/worker_client.h"
#include "qsweep/v1/worker.grpc.pb.h"
#include "tests/support/worker_script.h"

namespace qsweep {

// A worker service on a unix socket that does what the test says: it records
// what workers send and sends what it is told. Thread-safe.
class ScriptedWorkerService : public v1::WorkerService::Service,
                              public WorkerScript {
 public:
  explicit ScriptedWorkerService(const std::string& socket_path)
      : address_("unix:" + socket_path) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address_, grpc::InsecureServerCredentials());
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    EXPECT_NE(server_, nullptr);
  }
  ~ScriptedWorkerService() override {
    EndStream();
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  Endpoint endpoint() const { return {.address = address_}; }
  std::unique_ptr<WorkerClient> MakeClient() override {
    return MakeWorkerClient(endpoint());
  }

  void Push(const v1::DesiredState& state) override {
    MutexLock lock(mutex_);
    ASSERT_NE(stream_, nullptr);
    stream_->Write(state);
  }
  void EndStream() override {
    MutexLock lock(mutex_);
    if (context_ != nullptr) {
      context_->TryCancel();
    }
  }
  // Polls that were overtaken are not ended; false: they are now.
  void HoldOvertakenPolls(bool hold) {
    MutexLock lock(mutex_);
    hold_overtaken_polls_ = hold;
    changed_.NotifyAll();
  }
  void AnswerPoll(const v1::DesiredState& state) override {
    MutexLock lock(mutex_);
    poll_answers_.push_back(state);
    changed_.NotifyAll();
  }

  using Stream = grpc::ServerReaderWriter<v1::DesiredState, v1::WorkerState>;
  grpc::Status Attach(grpc::ServerContext* context, Stream* stream) override {
    if (const auto refused = refusal()) {
      return ToGrpcStatus(*refused);
    }
    {
      MutexLock lock(mutex_);
      stream_ = stream;
      context_ = context;
    }
    v1::WorkerState state;
    absl::Status end;
    while (end.ok() && stream->Read(&state)) {
      Hear(state);
      end = EndOfStream().value_or(absl::OkStatus());
    }
    MutexLock lock(mutex_);
    if (stream_ == stream) {
      stream_ = nullptr;
      context_ = nullptr;
    }
    return ToGrpcStatus(end);
  }
  grpc::Status Synchronize(grpc::ServerContext* context,
                           const v1::WorkerState* request,
                           v1::DesiredState* response) override {
    uint64_t number = 0;
    {
      // Before it is heard: then the test may send the next one.
      MutexLock lock(mutex_);
      number = ++polls_;
    }
    Hear(*request);
    if (const auto refused = refusal()) {
      return ToGrpcStatus(*refused);
    }
    MutexLock lock(mutex_);
    while (poll_answers_.empty() || number != polls_) {
      if (context->IsCancelled() ||
          (number != polls_ && !hold_overtaken_polls_)) {
        return {grpc::StatusCode::ABORTED, "a newer poll waits"};
      }
      changed_.WaitFor(mutex_, absl::Milliseconds(20));
    }
    *response = std::move(poll_answers_.front());
    poll_answers_.pop_front();
    return grpc::Status::OK;
  }
  grpc::Status CommitResult(grpc::ServerContext* context,
                            const v1::CommitResultRequest* request,
                            v1::CommitResultResponse* response) override {
    return ToGrpcStatus(
        Commit(*request, *response, [&] { return context->IsCancelled(); }));
  }
  grpc::Status ReleaseTask(grpc::ServerContext*,
                           const v1::ReleaseTaskRequest* request,
                           v1::ReleaseTaskResponse*) override {
    return ToGrpcStatus(Release(*request));
  }
  grpc::Status GetArtifact(
      grpc::ServerContext*, const v1::GetArtifactRequest* request,
      grpc::ServerWriter<v1::ArtifactChunk>* writer) override {
    const auto bytes = Artifact(request->digest());
    if (!bytes) {
      return {grpc::StatusCode::NOT_FOUND, "no such artifact"};
    }
    v1::ArtifactChunk chunk;
    for (const char c : *bytes) {  // as many chunks as there can be
      chunk.set_data(std::string(1, c));
      writer->Write(chunk);
    }
    return grpc::Status::OK;
  }

 private:
  const std::string address_;
  Stream* stream_ = nullptr;
  grpc::ServerContext* context_ = nullptr;
  bool hold_overtaken_polls_ = false;
  std::deque<v1::DesiredState> poll_answers_;
  uint64_t polls_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace qsweep

#endif  // QSWEEP_TESTS_SUPPORT_SCRIPTED_WORKER_SERVICE_H_
