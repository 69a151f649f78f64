#include "worker/agent/result_sender.h"

#include <algorithm>
#include <cstring>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/log.h"
#include "common/rpc/failure.h"
#include "common/rpc/retry.h"

namespace qsweep {
namespace {

constexpr size_t kMaxBatchBytes = size_t{3} << 20;  // below gRPC's 4 MiB
constexpr BackoffPolicy kBackoff = {.first = absl::Milliseconds(100),
                                    .max = absl::Seconds(5)};

LeaseKey KeyOf(const v1::ResultEnvelope& envelope) {
  return {TaskId(static_cast<int64_t>(envelope.task_id())),
          Epoch(static_cast<int64_t>(envelope.epoch()))};
}

// Whether the coordinator never saw the call, or could not say.
bool Unanswered(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsResourceExhausted(status) || absl::IsCancelled(status);
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
    Unsent unsent{.record = record.id};
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
  Incoming incoming;
  while (WaitForWork(incoming)) {
    Append(std::exchange(incoming.results, {}));
    unreleased_.insert(unreleased_.end(), incoming.releases.begin(),
                       incoming.releases.end());
    incoming.releases.clear();
    const SteadyTime now = Clock::Real().SteadyNow();
    if ((unsent_.empty() && unreleased_.empty()) || now < retry_at_) {
      continue;
    }
    const bool released = SendReleases();
    const bool sent = SendResults();
    if (released && sent) {
      failures_ = 0;
      retry_at_ = SteadyTime();
    } else {
      retry_at_ = Clock::Real().SteadyNow() +
                  FullJitterBackoff(kBackoff, ++failures_, random_);
    }
  }
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
    }
    if (!incoming_.results.empty() || !incoming_.releases.empty()) {
      incoming = std::exchange(incoming_, {});
      return true;
    }
    if (unsent_.empty() && unreleased_.empty()) {
      changed_.Wait(mutex_);
      continue;
    }
    const absl::Duration pause = retry_at_ - Clock::Real().SteadyNow();
    if (pause <= absl::ZeroDuration()) {
      return true;
    }
    changed_.WaitFor(mutex_, pause);
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
    if (!ids.ok()) {
      post_(event::SpoolFailed{lease, ids.status()});
      continue;
    }
    post_(event::ResultSpooled{lease});
    unsent_.push_back({(*ids)[i], std::move(results[i])});
  }
}

// True: everything sent was answered.
bool ResultSender::SendResults() {
  while (!unsent_.empty()) {
    v1::CommitResultRequest request;
    size_t bytes = 0;
    for (const Unsent& unsent : unsent_) {
      bytes += unsent.envelope.ByteSizeLong();
      if (bytes > kMaxBatchBytes && request.results_size() > 0) {
        break;
      }
      *request.add_results() = unsent.envelope;
    }
    const auto response = client_->CommitResult(request);
    if (!response.ok()) {
      if (failures_ == 0 && !absl::IsCancelled(response.status())) {
        LogWarning(absl::StrCat(
            request.results_size(),
            " results wait in the spool: ", response.status().message()));
      }
      return !Unanswered(response.status()) && unsent_.size() > 1 &&
             SendSingly();
    }
    std::vector<Unsent> left;
    const auto count = static_cast<size_t>(request.results_size());
    for (size_t i = 0; i < unsent_.size(); ++i) {
      if (i >= count ||
          !TakeOutcome(unsent_[i], response->results(static_cast<int>(i)))) {
        left.push_back(std::move(unsent_[i]));
      }
    }
    const bool progress = left.size() < unsent_.size();
    unsent_ = std::move(left);
    if (!progress) {
      return false;
    }
  }
  return true;
}

// After a refusal of several: whatever is wrong with one must not hold up the
// others. True: every one was answered.
bool ResultSender::SendSingly() {
  std::vector<Unsent> left;
  bool reachable = true;
  for (Unsent& unsent : unsent_) {
    if (reachable) {
      v1::CommitResultRequest request;
      *request.add_results() = unsent.envelope;
      const auto response = client_->CommitResult(request);
      if (response.ok() && TakeOutcome(unsent, response->results(0))) {
        continue;
      }
      reachable = !Unanswered(response.status());
    }
    left.push_back(std::move(unsent));
  }
  unsent_ = std::move(left);
  return unsent_.empty();
}

bool ResultSender::TakeOutcome(const Unsent& unsent,
                               const v1::CommitResultResponse::One& one) {
  bool settled = true;
  switch (one.outcome()) {
    case v1::COMMIT_OUTCOME_OK:
    case v1::COMMIT_OUTCOME_ALREADY_COMMITTED:
    case v1::COMMIT_OUTCOME_SUPERSEDED:
    case v1::COMMIT_OUTCOME_CANCELLED:
      break;
    case v1::COMMIT_OUTCOME_REJECTED:
      settled = SetAside(unsent.envelope);
      break;
    default:  // not an answer this version knows
      LogError(absl::StrCat("CommitResult answered outcome ", one.outcome(),
                            "; trying again"));
      return false;
  }
  if (settled) {
    if (const absl::Status marked = spool_->Acknowledge(unsent.record);
        !marked.ok()) {
      LogError(marked.message());
    }
  }
  // The task is answered even while the record must stay.
  post_(event::ResultAnswered{KeyOf(unsent.envelope), one.outcome(),
                              one.failure()});
  return settled;
}

bool ResultSender::SetAside(const v1::ResultEnvelope& envelope) {
  const std::string path = absl::StrCat(
      directory_, "/rejected-", envelope.task_id(), "-", envelope.epoch());
  const absl::Status written = WriteDurably(path, envelope.SerializeAsString());
  if (written.ok() || failures_ == 0) {
    LogError(absl::StrCat(
        "task ", envelope.task_id(), " epoch ", envelope.epoch(),
        ": result rejected, kept in ",
        written.ok() ? path : absl::StrCat("the spool: ", written.message())));
  }
  return written.ok();
}

bool ResultSender::SendReleases() {
  while (!unreleased_.empty()) {
    const v1::ReleaseTaskRequest& request = unreleased_.front();
    const absl::Status status = client_->ReleaseTask(request);
    if (Unanswered(status)) {
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
