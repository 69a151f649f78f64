#include "worker/agent/result_sender.h"

#include <algorithm>
#include <cstring>
#include <errno.h>
#include <fcntl.h>
#include <span>
#include <unistd.h>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/log.h"
#include "common/rpc/failure.h"
#include "common/rpc/retry.h"

namespace qsweep {
namespace {

constexpr size_t kMaxBatchBytes = size_t{3} << 20;  // below gRPC's 4 MiB
constexpr BackoffPolicy kUnanswered = {.first = absl::Milliseconds(100),
                                       .max = absl::Seconds(20)};
constexpr BackoffPolicy kRefused = {.first = absl::Seconds(1),
                                    .max = absl::Minutes(5)};
// Of the spool's capacity: below this no task is begun whose result might not
// fit.
constexpr size_t kReservedPart = 8;

LeaseKey KeyOf(const v1::ResultEnvelope& envelope) {
  return {TaskId(static_cast<int64_t>(envelope.task_id())),
          Epoch(static_cast<int64_t>(envelope.epoch()))};
}

// Whether the call says nothing about the results in it: nobody heard it, or
// everything would be refused alike.
bool Unanswered(const absl::Status& status) {
  const auto info = GetErrorInfo(status);
  if (info && info->code == kCertificateExpired.code) {
    return true;  // the server's: it was told nothing
  }
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsCancelled(status) || absl::IsUnauthenticated(status) ||
         absl::IsPermissionDenied(status) || absl::IsUnimplemented(status);
}

// Whether a result that was sent alone will be refused for ever.
bool NeverTaken(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsOutOfRange(status) ||
         absl::IsNotFound(status) || absl::IsFailedPrecondition(status) ||
         absl::IsAlreadyExists(status) || absl::IsDataLoss(status);
}

// Writes a new file. When it returns OK the bytes survive a crash of the
// machine.
absl::Status WriteDurably(const std::string& path, const std::string& bytes) {
  const int fd =
      open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  const bool written = fd >= 0 &&
                       write(fd, bytes.data(), bytes.size()) ==
                           static_cast<ssize_t>(bytes.size()) &&
                       fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) {
    close(fd);
  }
  if (!written) {
    return absl::UnavailableError(
        absl::StrCat("cannot write '", path, "': ", strerror(error)));
  }
  return SyncDirectory(path.substr(0, path.rfind('/')));
}

}  // namespace

ResultSender::ResultSender(std::string directory, Spool::Opened opened,
                           WorkerClient* client, Post post)
    : directory_(std::move(directory)),
      client_(client),
      post_(std::move(post)),
      spool_(std::move(opened.spool)),
      random_(static_cast<uint64_t>(getpid())) {
  for (Spool::Record& record : opened.pending) {
    Unsent unsent;
    unsent.record = record.id;
    if (unsent.envelope.ParseFromString(record.payload)) {
      unsent_.push_back(std::move(unsent));
    } else {
      LogError("a spooled record is not a result; dropped");
      if (const absl::Status marked = spool_->Acknowledge(record.id);
          !marked.ok()) {
        LogError(marked.message());
      }
    }
  }
  thread_ = std::thread([this] { Run(); });
}

ResultSender::~ResultSender() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

void ResultSender::Send(const v1::ResultEnvelope& result) {
  MutexLock lock(mutex_);
  incoming_.results.push_back(result);
  changed_.NotifyAll();
}

void ResultSender::Release(const v1::ReleaseTaskRequest& request) {
  MutexLock lock(mutex_);
  incoming_.releases.push_back(request);
  changed_.NotifyAll();
}

void ResultSender::Hurry() {
  MutexLock lock(mutex_);
  hurry_ = true;
  changed_.NotifyAll();
}

void ResultSender::Run() {
  UseRoom();
  Incoming incoming;
  while (WaitForWork(incoming)) {
    Append(std::exchange(incoming.results, {}));
    unreleased_.insert(unreleased_.end(), incoming.releases.begin(),
                       incoming.releases.end());
    incoming.releases.clear();
    if (NextAttempt() <= Clock::Real().SteadyNow()) {
      if (SendReleases() && SendResults()) {
        failures_ = 0;
        retry_at_ = SteadyTime();
      } else {
        retry_at_ = Clock::Real().SteadyNow() +
                    FullJitterBackoff(kUnanswered, ++failures_, random_);
      }
    }
    UseRoom();
  }
}

// When there is something to send.
SteadyTime ResultSender::NextAttempt() const {
  SteadyTime next =
      unreleased_.empty() ? SteadyTime::InfiniteFuture() : retry_at_;
  for (const Unsent& unsent : unsent_) {
    next = std::min(next, std::max(retry_at_, unsent.retry_at));
  }
  return next;
}

// Waits until something came in or an attempt is due; false: stop.
bool ResultSender::WaitForWork(Incoming& incoming) {
  MutexLock lock(mutex_);
  for (;;) {
    if (stopping_) {
      return false;
    }
    if (std::exchange(hurry_, false)) {
      retry_at_ = SteadyTime();
      for (Unsent& unsent : unsent_) {
        unsent.retry_at = SteadyTime();
      }
    }
    if (!incoming_.results.empty() || !incoming_.releases.empty()) {
      incoming = std::exchange(incoming_, {});
      return true;
    }
    const absl::Duration pause = NextAttempt() - Clock::Real().SteadyNow();
    if (pause <= absl::ZeroDuration()) {
      return true;
    }
    if (pause == absl::InfiniteDuration()) {
      changed_.Wait(mutex_);
    } else {
      changed_.WaitFor(mutex_, pause);
    }
  }
}

void ResultSender::Append(std::vector<v1::ResultEnvelope> results) {
  std::vector<std::string> payloads;
  for (const v1::ResultEnvelope& envelope : results) {
    payloads.push_back(envelope.SerializeAsString());
  }
  if (payloads.empty()) {
    return;
  }
  const auto ids = spool_->Append(payloads);
  for (size_t i = 0; i < results.size(); ++i) {
    const LeaseKey lease = KeyOf(results[i]);
    if (!ids.ok() && !absl::IsResourceExhausted(ids.status())) {
      post_(event::SpoolFailed{lease, ids.status()});
      continue;
    }
    Unsent& unsent = unsent_.emplace_back();
    unsent.envelope = std::move(results[i]);
    if (ids.ok()) {
      unsent.record = (*ids)[i];
      post_(event::ResultSpooled{lease});
    }
  }
}

void ResultSender::UseRoom() {
  absl::Status full;
  for (Unsent& unsent : unsent_) {
    if (unsent.record) {
      continue;
    }
    const std::string payload = unsent.envelope.SerializeAsString();
    const auto id = spool_->Append(std::span(&payload, 1));
    if (!id.ok()) {
      full = id.status();
      break;
    }
    unsent.record = id->front();
    post_(event::ResultSpooled{KeyOf(unsent.envelope)});
  }
  if (full.ok() && spool_->num_pending() > 0 &&
      spool_->room() < spool_->capacity() / kReservedPart) {
    full = spool_->FullError();
  }
  if (full.ok() == told_full_) {
    told_full_ = !full.ok();
    post_(event::SpoolRoomChanged{full});
  }
}

bool ResultSender::SendResults() {
  size_t max_count = unsent_.size();
  for (;;) {
    const SteadyTime now = Clock::Real().SteadyNow();
    v1::CommitResultRequest request;
    std::vector<Unsent*> sent;
    size_t bytes = 0;
    for (Unsent& unsent : unsent_) {
      bytes += unsent.retry_at > now ? 0 : unsent.envelope.ByteSizeLong();
      if (sent.size() == max_count ||
          (bytes > kMaxBatchBytes && !sent.empty())) {
        break;
      }
      if (unsent.retry_at <= now) {
        *request.add_results() = unsent.envelope;
        sent.push_back(&unsent);
      }
    }
    if (sent.empty()) {
      return true;
    }
    const auto response = client_->CommitResult(request);
    if (response.ok()) {
      for (size_t i = 0; i < sent.size(); ++i) {
        TakeOutcome(*sent[i], response->results(static_cast<int>(i)));
      }
    } else if (Unanswered(response.status())) {
      if (failures_ == 0 && !absl::IsCancelled(response.status())) {
        LogWarning(absl::StrCat(unsent_.size(), " results wait in the spool: ",
                                response.status().message()));
      }
      return false;
    } else if (sent.size() > 1) {
      max_count = 1;  // whatever is wrong with one must not hold up the others
    } else {
      TakeRefusal(*sent.front(), response.status());
    }
    std::erase_if(unsent_, [](const Unsent& unsent) {
      return unsent.envelope.task_id() == 0;
    });
  }
}

void ResultSender::TakeOutcome(Unsent& unsent,
                               const v1::CommitResultResponse::One& one) {
  switch (one.outcome()) {
    case v1::COMMIT_OUTCOME_OK:
    case v1::COMMIT_OUTCOME_ALREADY_COMMITTED:
    case v1::COMMIT_OUTCOME_SUPERSEDED:
    case v1::COMMIT_OUTCOME_CANCELLED:
    case v1::COMMIT_OUTCOME_REJECTED:
      Settle(unsent, one);
      return;
    default:  // not an answer this version knows
      Postpone(unsent,
               absl::StrCat("CommitResult answered outcome ", one.outcome()));
  }
}

void ResultSender::TakeRefusal(Unsent& unsent, const absl::Status& why) {
  if (!NeverTaken(why)) {
    Postpone(unsent, why.message());
    return;
  }
  v1::CommitResultResponse::One rejected;
  rejected.set_outcome(v1::COMMIT_OUTCOME_REJECTED);
  *rejected.mutable_failure() = FailureFromStatus(why, IsRetryable(why));
  Settle(unsent, rejected);
}

void ResultSender::Postpone(Unsent& unsent, absl::string_view why) {
  const absl::Duration pause =
      FullJitterBackoff(kRefused, ++unsent.refusals, random_);
  unsent.retry_at = Clock::Real().SteadyNow() + pause;
  LogWarning(absl::StrCat("task ", unsent.envelope.task_id(), " epoch ",
                          unsent.envelope.epoch(), ": result not taken, ", why,
                          "; again in ", absl::FormatDuration(pause)));
}

void ResultSender::Settle(Unsent& unsent,
                          const v1::CommitResultResponse::One& one) {
  // The task is answered even while the record must stay.
  post_(event::ResultAnswered{KeyOf(unsent.envelope), one.outcome(),
                              one.failure()});
  if (one.outcome() == v1::COMMIT_OUTCOME_REJECTED) {
    if (const absl::Status kept = SetAside(unsent.envelope); !kept.ok()) {
      Postpone(unsent, absl::StrCat("rejected, and ", kept.message()));
      return;
    }
  }
  if (unsent.record) {
    if (const absl::Status marked = spool_->Acknowledge(*unsent.record);
        !marked.ok()) {
      LogError(marked.message());
    }
  }
  unsent.envelope.Clear();
}

absl::Status ResultSender::SetAside(const v1::ResultEnvelope& envelope) {
  const std::string path = absl::StrCat(
      directory_, "/rejected-", envelope.task_id(), "-", envelope.epoch());
  const absl::Status written = WriteDurably(path, envelope.SerializeAsString());
  if (written.ok()) {
    LogError(absl::StrCat("task ", envelope.task_id(), " epoch ",
                          envelope.epoch(), ": result rejected, kept in ",
                          path));
  }
  return written;
}

bool ResultSender::SendReleases() {
  while (!unreleased_.empty()) {
    const v1::ReleaseTaskRequest& request = unreleased_.front();
    const absl::Status status = client_->ReleaseTask(request);
    if (Unanswered(status) || absl::IsResourceExhausted(status)) {
      return false;
    }
    if (!status.ok()) {
      LogWarning(absl::StrCat("task ", request.task_id(), " epoch ",
                              request.epoch(),
                              ": release refused: ", status.message()));
    }
    post_(
        event::ReleaseAnswered{{TaskId(static_cast<int64_t>(request.task_id())),
                                Epoch(static_cast<int64_t>(request.epoch()))}});
    unreleased_.erase(unreleased_.begin());
  }
  return true;
}

}  // namespace qsweep
