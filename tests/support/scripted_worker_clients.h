#ifndef QSWEEP_TESTS_SUPPORT_SCRIPTED_WORKER_CLIENTS_H_
#define QSWEEP_TESTS_SUPPORT_SCRIPTED_WORKER_CLIENTS_H_

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/rpc/worker_client.h"
#include "tests/support/worker_script.h"

namespace qsweep {

// As ScriptedWorkerService, within the process and without gRPC: what
// ThreadSanitizer can look into from end to end. It must outlive the clients
// that it makes. Thread-safe.
class ScriptedWorkerClients : public WorkerScript {
 public:
  explicit ScriptedWorkerClients(const std::string& /*socket_path*/) {}

  std::unique_ptr<WorkerClient> MakeClient() override {
    return std::make_unique<Client>(*this);
  }

  void Push(const v1::DesiredState& state) override {
    const std::shared_ptr<Session> session = newest();
    ASSERT_NE(session, nullptr);
    session->Say(state);
  }
  void EndStream() override {
    if (const std::shared_ptr<Session> session = newest()) {
      session->Close(absl::UnavailableError("the stream ended"));
    }
  }
  void AnswerPoll(const v1::DesiredState& state) override {
    std::shared_ptr<Session> session;
    {
      MutexLock lock(mutex_);
      poll_answers_.push_back(state);
      session = session_;
    }
    if (session != nullptr) {
      TryToAnswerPoll(*session);
    }
  }

 private:
  // Both ends of a stream or of a row of polls.
  class Session {
   public:
    explicit Session(AttachCallbacks callbacks)
        : callbacks_(std::move(callbacks)) {}
    void Say(const v1::DesiredState& state) {
      MutexLock lock(mutex_);
      if (callbacks_.on_state) {
        callbacks_.on_state(state);
      }
    }
    void Close(const absl::Status& status) {
      MutexLock lock(mutex_);
      if (callbacks_.on_closed) {
        std::exchange(callbacks_, {}).on_closed(status);
      }
    }
    // Nothing is called back any more.
    void Forget() {
      MutexLock lock(mutex_);
      callbacks_ = {};
    }

    std::atomic<bool> poll_waits = false;

   private:
    Mutex mutex_;
    AttachCallbacks callbacks_ ABSL_GUARDED_BY(mutex_);
  };

  class Stream : public AttachStream {
   public:
    Stream(ScriptedWorkerClients& clients, std::shared_ptr<Session> session,
           bool polls)
        : clients_(clients), session_(std::move(session)), polls_(polls) {}
    ~Stream() override { session_->Forget(); }
    void Send(const v1::WorkerState& state) override {
      clients_.Take(*session_, state, polls_);
    }

   private:
    ScriptedWorkerClients& clients_;
    const std::shared_ptr<Session> session_;
    const bool polls_;
  };

  class Client : public WorkerClient {
   public:
    explicit Client(ScriptedWorkerClients& clients) : clients_(clients) {}
    std::unique_ptr<AttachStream> Attach(const v1::WorkerState& first,
                                         AttachCallbacks callbacks) override {
      return clients_.Open(first, std::move(callbacks), /*polls=*/false);
    }
    std::unique_ptr<AttachStream> Poll(const v1::WorkerState& first,
                                       AttachCallbacks callbacks) override {
      return clients_.Open(first, std::move(callbacks), /*polls=*/true);
    }
    absl::StatusOr<v1::CommitResultResponse> CommitResult(
        const v1::CommitResultRequest& request) override {
      v1::CommitResultResponse response;
      const absl::Status status =
          cancelled_ ? absl::CancelledError()
                     : clients_.Commit(request, response,
                                       [this] { return cancelled_.load(); });
      return status.ok() ? absl::StatusOr<v1::CommitResultResponse>(response)
                         : status;
    }
    absl::Status ReleaseTask(const v1::ReleaseTaskRequest& request) override {
      return cancelled_ ? absl::CancelledError() : clients_.Release(request);
    }
    absl::StatusOr<std::string> GetArtifact(const Digest& digest) override {
      if (cancelled_) {
        return absl::CancelledError();
      }
      auto bytes = clients_.Artifact(digest.bytes());
      return bytes ? absl::StatusOr<std::string>(*std::move(bytes))
                   : MakeError(kArtifactNotFound, "no such artifact");
    }
    void CancelCalls() override { cancelled_ = true; }

   private:
    ScriptedWorkerClients& clients_;
    std::atomic<bool> cancelled_ = false;
  };

  std::unique_ptr<AttachStream> Open(const v1::WorkerState& first,
                                     AttachCallbacks callbacks, bool polls) {
    auto session = std::make_shared<Session>(std::move(callbacks));
    auto stream = std::make_unique<Stream>(*this, session, polls);
    const std::optional<absl::Status> refused = refusal();
    if (!refused) {
      MutexLock lock(mutex_);
      session_ = session;
    }
    if (refused && !polls) {
      session->Close(*refused);
    } else {
      Take(*session, first, polls);
    }
    return stream;
  }
  void Take(Session& session, const v1::WorkerState& state, bool polls) {
    Hear(state);
    if (const auto end = EndOfStream()) {
      session.Close(*end);
    } else if (polls) {
      session.poll_waits = true;
      TryToAnswerPoll(session);
    }
  }
  void TryToAnswerPoll(Session& session) {
    v1::DesiredState answer;
    {
      MutexLock lock(mutex_);
      if (poll_answers_.empty() || !session.poll_waits.exchange(false)) {
        return;
      }
      answer = std::move(poll_answers_.front());
      poll_answers_.pop_front();
    }
    session.Say(answer);
  }
  std::shared_ptr<Session> newest() {
    MutexLock lock(mutex_);
    return session_;
  }

  std::shared_ptr<Session> session_;  // the newest
  std::deque<v1::DesiredState> poll_answers_;
};

}  // namespace qsweep

#endif  // QSWEEP_TESTS_SUPPORT_SCRIPTED_WORKER_CLIENTS_H_
