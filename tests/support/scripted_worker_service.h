#ifndef QSWEEP_TESTS_SUPPORT_SCRIPTED_WORKER_SERVICE_H_
#define QSWEEP_TESTS_SUPPORT_SCRIPTED_WORKER_SERVICE_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "common/base/digest.h"
#include "common/base/mutex.h"
#include "common/rpc/channel.h"
#include "qsweep/v1/worker.grpc.pb.h"

namespace qsweep {

// A worker service on a unix socket that does what the test says: it records
// what workers send and sends what it is told. Thread-safe.
class ScriptedWorkerService : public v1::WorkerService::Service {
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

  // The next message of any stream; fails the test after 20 s.
  v1::WorkerState NextState() { return AwaitNext(states_, "no WorkerState"); }
  // Skips until want(state).
  v1::WorkerState AwaitState(
      const std::function<bool(const v1::WorkerState&)>& want) {
    for (;;) {
      v1::WorkerState state = NextState();
      if (want(state) || ::testing::Test::HasFailure()) {
        return state;
      }
    }
  }
  v1::CommitResultRequest NextCommit() {
    return AwaitNext(commits_, "no CommitResult");
  }
  v1::ReleaseTaskRequest NextRelease() {
    return AwaitNext(releases_, "no ReleaseTask");
  }

  // Sends on the newest stream.
  void Push(const v1::DesiredState& state) {
    MutexLock lock(mutex_);
    ASSERT_NE(stream_, nullptr);
    stream_->Write(state);
  }
  // Ends the newest stream with this status.
  void EndStream(grpc::Status status = grpc::Status::OK) {
    MutexLock lock(mutex_);
    end_status_ = std::move(status);
    if (context_ != nullptr) {
      context_->TryCancel();
    }
  }
  // Ends the newest stream with this status at its next message.
  void FailStream(grpc::Status status) {
    MutexLock lock(mutex_);
    fail_status_ = std::move(status);
  }
  // Refuses calls from now on: streams before they start, commits, releases.
  void Refuse(std::optional<grpc::Status> status) {
    MutexLock lock(mutex_);
    refuse_ = std::move(status);
  }
  // Fails every commit that holds a result of this task.
  void FailCommitsOf(uint64_t task,
                     grpc::Status status = {grpc::StatusCode::INTERNAL,
                                            "not this one"}) {
    MutexLock lock(mutex_);
    failing_task_ = task;
    failing_status_ = std::move(status);
  }
  // Commits are heard and not answered.
  void HoldCommits() {
    MutexLock lock(mutex_);
    hold_commits_ = true;
  }
  void AnswerCommitsWith(v1::CommitOutcome outcome) {
    MutexLock lock(mutex_);
    outcome_ = outcome;
  }
  Digest AddArtifact(const std::string& bytes) {
    MutexLock lock(mutex_);
    artifacts_[Digest::Of(bytes).bytes()] = bytes;
    return Digest::Of(bytes);
  }
  int artifacts_sent() {
    MutexLock lock(mutex_);
    return artifacts_sent_;
  }

  using Stream = grpc::ServerReaderWriter<v1::DesiredState, v1::WorkerState>;
  grpc::Status Attach(grpc::ServerContext* context, Stream* stream) override {
    {
      MutexLock lock(mutex_);
      if (refuse_) {
        return *refuse_;
      }
      stream_ = stream;
      context_ = context;
    }
    v1::WorkerState state;
    while (stream->Read(&state)) {
      Record(states_, state);
      MutexLock lock(mutex_);
      if (fail_status_) {
        stream_ = nullptr;
        context_ = nullptr;
        return *std::exchange(fail_status_, std::nullopt);
      }
    }
    MutexLock lock(mutex_);
    if (stream_ == stream) {
      stream_ = nullptr;
      context_ = nullptr;
    }
    return end_status_;
  }
  // Polls that were overtaken are not ended; false: they are now.
  void HoldOvertakenPolls(bool hold) {
    MutexLock lock(mutex_);
    hold_overtaken_polls_ = hold;
    changed_.NotifyAll();
  }
  // Answers the poll that waits, or the next.
  void AnswerPoll(const v1::DesiredState& state) {
    MutexLock lock(mutex_);
    poll_answers_.push_back(state);
    changed_.NotifyAll();
  }
  grpc::Status Synchronize(grpc::ServerContext* context,
                           const v1::WorkerState* request,
                           v1::DesiredState* response) override {
    Record(states_, *request);
    MutexLock lock(mutex_);
    if (refuse_) {
      return *refuse_;
    }
    const uint64_t number = ++polls_;
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
    {
      MutexLock lock(mutex_);
      if (refuse_) {
        return *refuse_;
      }
      for (const v1::ResultEnvelope& result : request->results()) {
        if (result.task_id() == failing_task_) {
          return failing_status_;
        }
        response->add_results()->set_outcome(outcome_);
      }
    }
    Record(commits_, *request);
    MutexLock lock(mutex_);
    while (hold_commits_ && !context->IsCancelled()) {
      changed_.WaitFor(mutex_, absl::Milliseconds(20));
    }
    return grpc::Status::OK;
  }
  grpc::Status ReleaseTask(grpc::ServerContext*,
                           const v1::ReleaseTaskRequest* request,
                           v1::ReleaseTaskResponse*) override {
    {
      MutexLock lock(mutex_);
      if (refuse_) {
        return *refuse_;
      }
    }
    Record(releases_, *request);
    return grpc::Status::OK;
  }
  grpc::Status GetArtifact(
      grpc::ServerContext*, const v1::GetArtifactRequest* request,
      grpc::ServerWriter<v1::ArtifactChunk>* writer) override {
    MutexLock lock(mutex_);
    const auto it = artifacts_.find(request->digest());
    if (it == artifacts_.end()) {
      return {grpc::StatusCode::NOT_FOUND, "no such artifact"};
    }
    ++artifacts_sent_;
    v1::ArtifactChunk chunk;
    for (const char c : it->second) {  // as many chunks as there can be
      chunk.set_data(std::string(1, c));
      writer->Write(chunk);
    }
    return grpc::Status::OK;
  }

 private:
  template <typename Message>
  void Record(std::deque<Message>& queue, const Message& message) {
    MutexLock lock(mutex_);
    queue.push_back(message);
    changed_.NotifyAll();
  }
  template <typename Message>
  Message AwaitNext(std::deque<Message>& queue, const char* complaint) {
    MutexLock lock(mutex_);
    while (queue.empty()) {
      if (changed_.WaitFor(mutex_, absl::Seconds(20))) {
        ADD_FAILURE() << complaint;
        return {};
      }
    }
    Message message = std::move(queue.front());
    queue.pop_front();
    return message;
  }

  const std::string address_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<v1::WorkerState> states_;
  std::deque<v1::CommitResultRequest> commits_;
  std::deque<v1::ReleaseTaskRequest> releases_;
  std::map<std::string, std::string> artifacts_;
  Stream* stream_ = nullptr;
  grpc::ServerContext* context_ = nullptr;
  std::optional<grpc::Status> refuse_;
  grpc::Status end_status_;
  std::optional<grpc::Status> fail_status_;
  v1::CommitOutcome outcome_ = v1::COMMIT_OUTCOME_OK;
  uint64_t failing_task_ = 0;
  grpc::Status failing_status_;
  int artifacts_sent_ = 0;
  bool hold_commits_ = false;
  bool hold_overtaken_polls_ = false;
  std::deque<v1::DesiredState> poll_answers_;
  uint64_t polls_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace qsweep

#endif  // QSWEEP_TESTS_SUPPORT_SCRIPTED_WORKER_SERVICE_H_
