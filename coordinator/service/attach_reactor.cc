#include "coordinator/service/attach_reactor.h"

#include <optional>
#include <utility>

#include "common/base/mutex.h"
#include "common/rpc/status_conversion.h"

namespace qsweep {
namespace {

using BidiReactor = grpc::ServerBidiReactor<v1::WorkerState, v1::DesiredState>;

// The writing half of a stream, shared by the reactor and the loop. Outlives
// the reactor as long as the loop holds it. Operations are started under the
// lock: gRPC runs their reactions on its own threads, never inside the call.
class AttachLink : public WorkerLink {
 public:
  explicit AttachLink(BidiReactor* reactor) : reactor_(reactor) {}

  void Send(v1::DesiredState state) override {
    MutexLock lock(mutex_);
    if (finish_.has_value() || finished_) {
      return;
    }
    // The Welcome comes once; the newer state must not make it disappear.
    if (waiting_.has_value() && waiting_->has_welcome() &&
        !state.has_welcome()) {
      *state.mutable_welcome() = waiting_->welcome();
    }
    waiting_ = std::move(state);
    Advance();
  }

  void Close(absl::Status status) override {
    MutexLock lock(mutex_);
    if (!finish_.has_value()) {
      finish_ = std::move(status);
    }
    Advance();
  }

  // The client ended the stream, or it broke: nothing more can be written.
  void EndOfReads() {
    MutexLock lock(mutex_);
    if (!finish_.has_value()) {
      finish_ = absl::OkStatus();
    }
    waiting_.reset();
    Advance();
  }

  // The loop has taken what was read last: on with the next message, into the
  // reactor's `incoming`, as soon as no answer waits for the worker to read.
  void ReadNext(v1::WorkerState* incoming) {
    MutexLock lock(mutex_);
    next_ = incoming;
    Advance();
  }

  void WriteDone(bool ok) {
    MutexLock lock(mutex_);
    writing_ = false;
    if (!ok) {
      waiting_.reset();
    }
    Advance();
  }

 private:
  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!finished_) {
      Write();
    }
    if (!finished_ && next_ != nullptr && !waiting_.has_value()) {
      next_->Clear();
      reactor_->StartRead(std::exchange(next_, nullptr));
    }
  }

  void Write() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_) {
      return;
    }
    if (waiting_.has_value()) {
      outgoing_ = *std::move(waiting_);
      waiting_.reset();
      writing_ = true;
      reactor_->StartWrite(&outgoing_);
    } else if (finish_.has_value()) {
      finished_ = true;  // the reactor may be gone after this
      reactor_->Finish(ToGrpcStatus(*finish_));
    }
  }

  Mutex mutex_;
  BidiReactor* const reactor_;  // alive until finished_
  v1::DesiredState outgoing_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::DesiredState> waiting_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  // What to read into next; null: a read is under way, or its message waits for
  // the loop.
  v1::WorkerState* next_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::optional<absl::Status> finish_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

class AttachReactor : public BidiReactor {
 public:
  AttachReactor(Loop& loop, absl::StatusOr<Caller> caller)
      : loop_(loop), link_(std::make_shared<AttachLink>(this)) {
    if (!caller.ok()) {
      link_->Close(caller.status());
      return;
    }
    caller_ = *std::move(caller);
    attached_ = true;
    StartRead(&incoming_);
  }

  // One message of a stream waits for the loop at a time, and none is read
  // while its worker reads no answers: HTTP/2 holds back who sends faster.
  void OnReadDone(bool ok) override {
    if (!ok) {
      Detach();
      link_->EndOfReads();
      return;
    }
    loop_.PostAttach(
        caller_, std::move(incoming_), link_,
        [link = link_, incoming = &incoming_] { link->ReadNext(incoming); });
  }
  void OnWriteDone(bool ok) override { link_->WriteDone(ok); }
  // Also of a stream that ended from our side while no read was under way.
  void OnDone() override {
    Detach();
    delete this;
  }

 private:
  void Detach() {
    if (std::exchange(attached_, false)) {
      loop_.PostDetach(link_);
    }
  }

  Loop& loop_;
  Caller caller_;
  bool attached_ = false;  // the loop is to hear of the end
  v1::WorkerState incoming_;
  const std::shared_ptr<AttachLink> link_;
};

}  // namespace

BidiReactor* NewAttachReactor(Loop& loop, absl::StatusOr<Caller> caller) {
  return new AttachReactor(loop, std::move(caller));
}

}  // namespace qsweep
