#include "tests/e2e/sweep_client.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/ids.h"

namespace qsweep::testing {
namespace {

constexpr absl::Duration kCallTimeout = absl::Seconds(3);
constexpr absl::Duration kPause = absl::Milliseconds(50);

// What may be repeated: nobody answered, or answered that it is not stored.
bool MayRepeat(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsCancelled(status) || absl::IsResourceExhausted(status);
}

v1::JobSelector Select(const std::string& job) {
  v1::JobSelector selector;
  selector.set_text(job);
  return selector;
}

}  // namespace

SweepClient::SweepClient(const Endpoint& endpoint,
                         std::function<v1::SubmitJobRequest(int)> job,
                         Ledger& ledger)
    : endpoint_(endpoint), job_(std::move(job)), ledger_(ledger) {
  thread_ = std::thread([this] { Run(); });
}

SweepClient::~SweepClient() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    abandoned_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

void SweepClient::Stop() {
  MutexLock lock(mutex_);
  stopping_ = true;
}

bool SweepClient::finished() const {
  MutexLock lock(mutex_);
  return finished_;
}

int SweepClient::jobs() const {
  MutexLock lock(mutex_);
  return jobs_;
}

void SweepClient::NewClient() {
  // The channel of the one before may be backing off.
  client_ = std::make_unique<CoordinatorClient>(
      endpoint_, CoordinatorClientOptions{.timeout = kCallTimeout});
}

bool SweepClient::Pause() {
  MutexLock lock(mutex_);
  if (!abandoned_) {
    changed_.WaitFor(mutex_, kPause);
  }
  return !abandoned_;
}

void SweepClient::Run() {
  NewClient();
  for (int index = 0;; ++index) {
    const bool done = RunJob(index);
    MutexLock lock(mutex_);
    jobs_ += done ? 1 : 0;
    if (!done || stopping_) {
      finished_ = done;
      return;
    }
  }
}

bool SweepClient::Submit(const v1::SubmitJobRequest& request) {
  while (true) {
    const auto submitted = client_->SubmitJob(request);
    if (submitted.ok()) {
      ledger_.Job(request.job_uuid(), submitted->job_number());
      ledger_.Count(submitted->existed() ? "submits that had been stored"
                                         : "submits");
      return true;
    }
    if (!MayRepeat(submitted.status())) {
      ledger_.Problem(
          absl::StrCat("a submit: ", submitted.status().ToString()));
      return false;
    }
    if (!Pause()) {
      return false;
    }
    NewClient();
  }
}

absl::Status SweepClient::Watch(const std::string& job, Position& position) {
  v1::WatchJobRequest request;
  *request.mutable_job() = Select(job);
  request.set_from_seq(position.seq);
  return client_->WatchJob(
      request,
      [&](const v1::WatchEvent& event) {
        if (!event.has_durable()) {
          return true;
        }
        const v1::DurableEvent& durable = event.durable();
        if (durable.seq() <= position.seq ||
            durable.job_seq() != position.job_seq + 1) {
          ledger_.Problem(absl::StrCat(
              job, ": event ", durable.job_seq(), " (", durable.seq(),
              ") follows ", position.job_seq, " (", position.seq, ")"));
        }
        position = {.seq = durable.seq(), .job_seq = durable.job_seq()};
        ledger_.Count(durable.kind());
        if (durable.kind() == "task_done") {
          ledger_.Result(durable.task_id(), durable.epoch());
        }
        return true;
      },
      kCallTimeout);
}

bool SweepClient::RunJob(int index) {
  const v1::SubmitJobRequest request = job_(index);
  if (!Submit(request)) {
    return false;
  }
  const std::string job =
      absl::StrCat("job/", JobUuid::FromBytes(request.job_uuid())->text());
  Position position;
  while (true) {
    const absl::Status watched = Watch(job, position);
    v1::GetJobRequest get;
    *get.mutable_job() = Select(job);
    const auto response = client_->GetJob(get);
    if (!response.ok()) {
      if (!MayRepeat(response.status())) {
        ledger_.Problem(absl::StrCat(job, ": ", response.status().ToString()));
        return false;
      }
      NewClient();
    } else if (response->summary().state() == v1::JOB_STATE_SUCCEEDED) {
      if (watched.ok()) {  // it saw the last event
        return true;
      }
    } else if (response->summary().state() == v1::JOB_STATE_FAILED) {
      v1::ControlJobRequest retry;
      *retry.mutable_job() = Select(job);
      retry.set_action(v1::JOB_ACTION_RETRY);
      ledger_.Count(client_->ControlJob(retry).ok() ? "jobs taken up again"
                                                    : "retries refused");
    }
    if (!Pause()) {
      return false;
    }
  }
}

}  // namespace qsweep::testing
