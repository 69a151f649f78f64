#ifndef QSWEEP_TESTS_SUPPORT_WORKER_SCRIPT_H_
#define QSWEEP_TESTS_SUPPORT_WORKER_SCRIPT_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include <gtest/gtest.h>

#include "common/base/digest.h"
#include "common/base/mutex.h"
#include "common/rpc/worker_client.h"
#include "qsweep/v1/worker.pb.h"

namespace qsweep {

// What a scripted coordinator heard from workers, and what the test has told it
// to answer. Its ways to workers: ScriptedWorkerService over gRPC,
// ScriptedWorkerClients without. Thread-safe.
class WorkerScript {
 public:
  virtual ~WorkerScript() = default;

  virtual std::unique_ptr<WorkerClient> MakeClient() = 0;
  // Sends on the newest stream.
  virtual void Push(const v1::DesiredState& state) = 0;
  // Ends the newest stream.
  virtual void EndStream() = 0;
  // Answers the poll that waits, or the next.
  virtual void AnswerPoll(const v1::DesiredState& state) = 0;

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

  // Refuses calls from now on: streams before they start, commits, releases.
  void Refuse(std::optional<absl::Status> status) {
    MutexLock lock(mutex_);
    refuse_ = std::move(status);
  }
  // Ends the newest stream with this status at its next message.
  void FailStream(absl::Status status) {
    MutexLock lock(mutex_);
    fail_status_ = std::move(status);
  }
  // Fails every commit that holds a result of this task.
  void FailCommitsOf(uint64_t task,
                     absl::Status status = absl::InternalError("not this")) {
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

 protected:
  void Hear(const v1::WorkerState& state) { Record(states_, state); }
  // Of the message just heard: why its stream ends; nothing: it goes on.
  std::optional<absl::Status> EndOfStream() {
    MutexLock lock(mutex_);
    return std::exchange(fail_status_, std::nullopt);
  }
  std::optional<absl::Status> refusal() {
    MutexLock lock(mutex_);
    return refuse_;
  }
  // Blocks while commits are held, until the caller has gone.
  absl::Status Commit(const v1::CommitResultRequest& request,
                      v1::CommitResultResponse& response,
                      const std::function<bool()>& gone) {
    {
      MutexLock lock(mutex_);
      if (refuse_) {
        return *refuse_;
      }
      for (const v1::ResultEnvelope& result : request.results()) {
        if (result.task_id() == failing_task_) {
          return failing_status_;
        }
        response.add_results()->set_outcome(outcome_);
      }
    }
    Record(commits_, request);
    MutexLock lock(mutex_);
    while (hold_commits_ && !gone()) {
      changed_.WaitFor(mutex_, absl::Milliseconds(20));
    }
    return absl::OkStatus();
  }
  absl::Status Release(const v1::ReleaseTaskRequest& request) {
    if (const auto status = refusal()) {
      return *status;
    }
    Record(releases_, request);
    return absl::OkStatus();
  }
  // Nothing: there is none.
  std::optional<std::string> Artifact(const std::string& digest) {
    MutexLock lock(mutex_);
    const auto it = artifacts_.find(digest);
    if (it == artifacts_.end()) {
      return std::nullopt;
    }
    ++artifacts_sent_;
    return it->second;
  }

  Mutex mutex_;
  CondVar changed_;

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

  std::deque<v1::WorkerState> states_;
  std::deque<v1::CommitResultRequest> commits_;
  std::deque<v1::ReleaseTaskRequest> releases_;
  std::map<std::string, std::string> artifacts_;
  std::optional<absl::Status> refuse_;
  std::optional<absl::Status> fail_status_;
  v1::CommitOutcome outcome_ = v1::COMMIT_OUTCOME_OK;
  uint64_t failing_task_ = 0;
  absl::Status failing_status_;
  int artifacts_sent_ = 0;
  bool hold_commits_ = false;
};

}  // namespace qsweep

#endif  // QSWEEP_TESTS_SUPPORT_WORKER_SCRIPT_H_
