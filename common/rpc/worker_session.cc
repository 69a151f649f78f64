#include "common/rpc/worker_session.h"

#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/rpc/status_conversion.h"

namespace qsweep {
namespace {

constexpr absl::Duration kFirstHeartbeat = absl::Seconds(10);
constexpr absl::Duration kPollGrace = absl::Seconds(10);

// Why a session ended. What a coordinator says has a code, or is not
// UNAVAILABLE.
absl::Status WhyClosed(const WorkerChannel& link, const absl::Status& status) {
  if (status.ok()) {
    return absl::UnavailableError("the coordinator ended the stream");
  }
  if (absl::IsUnavailable(status) && !GetErrorInfo(status) &&
      link.channel->GetState(false) == GRPC_CHANNEL_READY) {
    return absl::UnavailableError(absl::StrCat(
        "the connection stands, the call does not: ", status.message()));
  }
  return ExplainCallStatus(link.endpoint, status);
}

// The callbacks of a session, until it is given up.
class Listener {
 public:
  explicit Listener(AttachCallbacks callbacks)
      : callbacks_(std::move(callbacks)) {}

  void OnState(v1::DesiredState state) {
    MutexLock lock(mutex_);
    if (!silent_) {
      callbacks_.on_state(std::move(state));
    }
  }
  void OnClosed(absl::Status why) {
    MutexLock lock(mutex_);
    if (!std::exchange(silent_, true)) {
      callbacks_.on_closed(std::move(why));
    }
  }
  // Waits for the callback that runs, which never blocks.
  void Silence() {
    MutexLock lock(mutex_);
    silent_ = true;
  }

 private:
  Mutex mutex_;
  const AttachCallbacks callbacks_;
  bool silent_ ABSL_GUARDED_BY(mutex_) = false;
};

// The stream's reactor; lives until gRPC is done with it. gRPC allows one read
// and one write in flight; what should be written meanwhile waits in next_, the
// newest only.
class StreamReactor
    : public grpc::ClientBidiReactor<v1::WorkerState, v1::DesiredState> {
 public:
  static std::shared_ptr<StreamReactor> Start(
      std::shared_ptr<const WorkerChannel> link, const v1::WorkerState& first,
      AttachCallbacks callbacks, RunningSessions& sessions) {
    auto reactor = std::make_shared<StreamReactor>(
        std::move(link), first, std::move(callbacks), sessions);
    reactor->self_ = reactor;
    sessions.Begin();
    reactor->StartAll();
    return reactor;
  }

  StreamReactor(std::shared_ptr<const WorkerChannel> link,
                const v1::WorkerState& first, AttachCallbacks callbacks,
                RunningSessions& sessions)
      : link_(std::move(link)),
        listener_(std::move(callbacks)),
        sessions_(sessions),
        outgoing_(first) {}

  void GiveUp() {
    listener_.Silence();
    context_.TryCancel();
  }

  void Send(const v1::WorkerState& state) {
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
      listener_.OnState(std::move(incoming_));
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
    listener_.OnClosed(WhyClosed(*link_, FromGrpcStatus(status)));
    RunningSessions& sessions = sessions_;
    std::exchange(self_, nullptr).reset();  // *this may be gone
    sessions.End();
  }

 private:
  void StartAll() {
    AddToken(link_->endpoint, context_);
    link_->stub->async()->Attach(&context_, this);
    // Send may start a write at any time, outside the reactor's callbacks. The
    // hold keeps OnDone away until OnReadDone has seen the end.
    AddHold();
    {
      MutexLock lock(mutex_);
      StartWrite(&outgoing_);
    }
    StartRead(&incoming_);
    StartCall();
  }

  const std::shared_ptr<const WorkerChannel> link_;
  Listener listener_;
  RunningSessions& sessions_;
  grpc::ClientContext context_;
  v1::DesiredState incoming_;            // the reading reaction's
  std::shared_ptr<StreamReactor> self_;  // until OnDone

  Mutex mutex_;
  v1::WorkerState outgoing_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::WorkerState> next_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = true;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

class StreamSession : public AttachStream {
 public:
  explicit StreamSession(std::shared_ptr<StreamReactor> reactor)
      : reactor_(std::move(reactor)) {}
  ~StreamSession() override { reactor_->GiveUp(); }
  void Send(const v1::WorkerState& state) override { reactor_->Send(state); }

 private:
  const std::shared_ptr<StreamReactor> reactor_;
};

// Polls of one session. A call that was overtaken by a newer one is ended by
// the coordinator, which may be heard after the newer one's answer: the session
// has ended when its newest call fails, and no older one says so.
class Polls : public std::enable_shared_from_this<Polls> {
 public:
  Polls(std::shared_ptr<const WorkerChannel> link, AttachCallbacks callbacks,
        RunningSessions& sessions)
      : link_(std::move(link)),
        listener_(std::move(callbacks)),
        sessions_(sessions) {}

  void Send(const v1::WorkerState& state) {
    auto call = std::make_shared<Call>();
    call->request = state;
    AddToken(link_->endpoint, call->context);
    {
      MutexLock lock(mutex_);
      if (closed_) {
        return;
      }
      call->context.set_deadline(
          absl::ToChronoTime(Clock::Real().Now() + heartbeat_ + kPollGrace));
      running_.insert(call);
      newest_ = call.get();
    }
    sessions_.Begin();
    link_->stub->async()->Synchronize(
        &call->context, &call->request, &call->response,
        [self = shared_from_this(), call](const grpc::Status& status) mutable {
          RunningSessions& sessions = self->sessions_;
          self->OnAnswer(call, FromGrpcStatus(status));
          call.reset();
          self.reset();
          sessions.End();
        });
  }

  void GiveUp() {
    listener_.Silence();
    MutexLock lock(mutex_);
    closed_ = true;
    for (const std::shared_ptr<Call>& call : running_) {
      call->context.TryCancel();
    }
  }

 private:
  struct Call {
    grpc::ClientContext context;
    v1::WorkerState request;
    v1::DesiredState response;
  };

  void OnAnswer(const std::shared_ptr<Call>& call, const absl::Status& status) {
    bool ended = false;
    {
      MutexLock lock(mutex_);
      running_.erase(call);
      ended = !status.ok() && call.get() == newest_;
      closed_ |= ended;
      if (call->response.welcome().heartbeat_ms() > 0) {
        heartbeat_ = absl::Milliseconds(
            static_cast<int64_t>(call->response.welcome().heartbeat_ms()));
      }
    }
    if (status.ok()) {
      listener_.OnState(std::move(call->response));
    } else if (ended) {
      listener_.OnClosed(WhyClosed(*link_, status));
    }
  }

  const std::shared_ptr<const WorkerChannel> link_;
  Listener listener_;
  RunningSessions& sessions_;

  Mutex mutex_;
  std::set<std::shared_ptr<Call>> running_ ABSL_GUARDED_BY(mutex_);
  const Call* newest_ ABSL_GUARDED_BY(mutex_) = nullptr;  // may have ended
  absl::Duration heartbeat_ ABSL_GUARDED_BY(mutex_) = kFirstHeartbeat;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

class PollSession : public AttachStream {
 public:
  explicit PollSession(std::shared_ptr<Polls> polls)
      : polls_(std::move(polls)) {}
  ~PollSession() override { polls_->GiveUp(); }
  void Send(const v1::WorkerState& state) override { polls_->Send(state); }

 private:
  const std::shared_ptr<Polls> polls_;
};

}  // namespace

RunningSessions::~RunningSessions() {
  MutexLock lock(mutex_);
  while (running_ > 0) {
    none_.Wait(mutex_);
  }
}

void RunningSessions::Begin() {
  MutexLock lock(mutex_);
  ++running_;
}

void RunningSessions::End() {
  MutexLock lock(mutex_);
  --running_;
  none_.NotifyAll();
}

std::unique_ptr<AttachStream> OpenStreamSession(
    std::shared_ptr<const WorkerChannel> link, const v1::WorkerState& first,
    AttachCallbacks callbacks, RunningSessions& sessions) {
  return std::make_unique<StreamSession>(StreamReactor::Start(
      std::move(link), first, std::move(callbacks), sessions));
}

std::unique_ptr<AttachStream> OpenPollSession(
    std::shared_ptr<const WorkerChannel> link, const v1::WorkerState& first,
    AttachCallbacks callbacks, RunningSessions& sessions) {
  auto polls =
      std::make_shared<Polls>(std::move(link), std::move(callbacks), sessions);
  polls->Send(first);
  return std::make_unique<PollSession>(std::move(polls));
}

}  // namespace qsweep
