#include "coordinator/service/watch_reactor.h"

#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "common/base/error_codes.h"
#include "common/base/mutex.h"
#include "common/base/planted.h"
#include "common/rpc/status_conversion.h"

namespace qsweep {
namespace {

absl::Status TooSlow() {
  return MakeError(kOverloaded, "the watcher reads too slowly", "",
                   "Watch again from the last sequence number.");
}

using WriteReactor = grpc::ServerWriteReactor<v1::WatchEvent>;

// The outbox of one watcher, shared by the reactor and the loop. Bounded: who
// reads too slowly is cut and resumes from its last sequence number.
class WatchOutbox : public WatchSink {
 public:
  WatchOutbox(WriteReactor* reactor, Loop& loop)
      : reactor_(reactor), loop_(loop) {}

  bool Send(v1::WatchEvent event) override {
    MutexLock lock(mutex_);
    if (finish_.has_value()) {
      return false;
    }
    const size_t bytes = event.ByteSizeLong();
    const bool full = !Planted(Bug::kUnboundedWatchBuffer) &&
                      (static_cast<int>(queue_.size()) >= kWatchEventsMax ||
                       queue_bytes_ + bytes > kWatchBytesMax);
    if (event.has_progress() &&
        (full || static_cast<int>(queue_.size()) >= kWatchEventsMax / 2)) {
      return true;  // dropped first: the next frame says it better
    }
    if (full) {
      // What waits is still sent: who resumes far behind must get further each
      // time.
      finish_ = TooSlow();
      Advance();
      return false;
    }
    queue_bytes_ += bytes;
    queue_.push_back(std::move(event));
    Advance();
    return true;
  }

  int Room() override {
    MutexLock lock(mutex_);
    const int room = RoomNow();
    asked_in_vain_ = room == 0;
    return room;
  }

  void Close(absl::Status status) override {
    MutexLock lock(mutex_);
    if (!finish_.has_value()) {
      finish_ = std::move(status);
    }
    Advance();
  }

  // The client is gone.
  void Cancel() {
    {
      MutexLock lock(mutex_);
      Drop();
      Advance();
    }
    TellOfRoom();
  }

  void WriteDone(bool ok) {
    {
      MutexLock lock(mutex_);
      writing_ = false;
      if (!ok) {
        Drop();
      }
      Advance();
    }
    TellOfRoom();
  }

 private:
  // Half of the buffer: the rest is for what happens meanwhile. A stream that
  // has ended takes all, to say so.
  int RoomNow() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finish_.has_value()) {
      return kWatchEventsMax;
    }
    const int room = kWatchEventsMax / 2 - static_cast<int>(queue_.size());
    // Not a read for a few.
    return queue_bytes_ > kWatchBytesMax / 2 || room < kWatchEventsMax / 4
               ? 0
               : room;
  }

  void TellOfRoom() {
    {
      MutexLock lock(mutex_);
      if (!asked_in_vain_ || RoomNow() == 0) {
        return;
      }
      asked_in_vain_ = false;
    }
    loop_.PostRoom();
  }

  void Drop() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    queue_.clear();
    if (!finish_.has_value()) {
      finish_ = absl::CancelledError("the watcher is gone");
    }
  }

  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || finished_) {
      return;
    }
    if (!queue_.empty()) {
      outgoing_ = std::move(queue_.front());
      queue_.pop_front();
      queue_bytes_ =
          queue_.empty() ? 0 : queue_bytes_ - outgoing_.ByteSizeLong();
      writing_ = true;
      // Many small messages go to the socket together.
      grpc::WriteOptions options;
      if (!queue_.empty()) {
        options.set_buffer_hint();
      }
      reactor_->StartWrite(&outgoing_, options);
    } else if (finish_.has_value()) {
      finished_ = true;  // the reactor may be gone after this
      reactor_->Finish(ToGrpcStatus(*finish_));
    }
  }

  Mutex mutex_;
  WriteReactor* const reactor_;  // alive until finished_
  Loop& loop_;
  v1::WatchEvent outgoing_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::WatchEvent> queue_ ABSL_GUARDED_BY(mutex_);
  size_t queue_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> finish_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool asked_in_vain_ ABSL_GUARDED_BY(mutex_) = false;  // for room
};

class WatchReactor : public WriteReactor {
 public:
  explicit WatchReactor(Loop& loop)
      : outbox_(std::make_shared<WatchOutbox>(this, loop)) {}
  const std::shared_ptr<WatchOutbox>& outbox() const { return outbox_; }

  void OnWriteDone(bool ok) override { outbox_->WriteDone(ok); }
  void OnCancel() override { outbox_->Cancel(); }
  void OnDone() override { delete this; }

 private:
  const std::shared_ptr<WatchOutbox> outbox_;
};

}  // namespace

WriteReactor* NewWatchReactor(Loop& loop, const v1::WatchJobRequest& request,
                              absl::StatusOr<Caller> caller) {
  auto* reactor = new WatchReactor(loop);
  // Its end may delete the reactor; the outbox is ours until we return.
  const std::shared_ptr<WatchOutbox> outbox = reactor->outbox();
  if (caller.ok()) {
    loop.PostWatch(*std::move(caller), request, outbox);
  } else {
    outbox->Close(caller.status());
  }
  return reactor;
}

}  // namespace qsweep
