#include "coordinator/qctl/follow.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <optional>
#include <unistd.h>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/base/clock.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/rpc/retry.h"
#include "coordinator/qctl/names.h"

namespace qsweep::qctl {
namespace {

constexpr absl::Duration kComeBackPatience = absl::Seconds(60);
constexpr absl::Duration kPauseBeforeAgain = absl::Milliseconds(200);

// A signal handler reaches nothing but globals; written once, before the
// handler is installed.
std::array<char, 512> detach_message = {};  // NOLINT

extern "C" void OnInterrupt(int) {
  const size_t size = strnlen(detach_message.data(), detach_message.size());
  // Nothing can be done when stderr is gone.
  const ssize_t ignored = write(STDERR_FILENO, detach_message.data(), size);
  static_cast<void>(ignored);
  _exit(static_cast<int>(ExitCode::kInterrupted));
}

absl::StatusOr<v1::GetJobResponse> AskJob(CoordinatorClient& client,
                                          const std::string& selector) {
  v1::GetJobRequest request;
  request.mutable_job()->set_text(selector);
  return client.GetJob(request);
}

// Rows may have come, or the state changed.
bool ChangesSummary(const v1::WatchEvent& event) { return event.has_durable(); }

absl::Status TimedOut(const v1::JobSummary& job, absl::Duration timeout) {
  return MakeError(
      kWaitTimeout,
      absl::StrCat("job ", job.job_number(), " is ", JobStateName(job.state()),
                   " after ", absl::FormatDuration(timeout)),
      "", absl::StrCat("it goes on: qctl wait ", job.job_number()));
}

}  // namespace

absl::StatusOr<v1::JobSummary> FollowJob(Context& context,
                                         const std::string& selector,
                                         absl::Duration timeout,
                                         const Observer& observer) {
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  CoordinatorClient patient(client->endpoint(),
                            {.timeout = kComeBackPatience + absl::Seconds(10),
                             .retry_for = kComeBackPatience});
  QSWEEP_ASSIGN_OR_RETURN(v1::GetJobResponse job, AskJob(*client, selector));
  v1::JobSummary summary = job.summary();
  // "last" may be another job tomorrow; the UUID is this one.
  const std::string uuid = UuidText(summary.job_uuid());
  uint64_t seen = job.last_seq();
  const SteadyTime deadline = Clock::Real().SteadyNow() + timeout;
  observer.on_summary(summary);
  while (!HasEnded(summary.state()) && !observer.stop(summary)) {
    const absl::Duration left = deadline - Clock::Real().SteadyNow();
    if (left <= absl::ZeroDuration()) {
      return TimedOut(summary, timeout);
    }
    v1::WatchJobRequest request;
    request.mutable_job()->set_text(uuid);
    request.set_from_seq(seen);
    bool enough = false;
    const absl::Status status = client->WatchJob(
        request,
        [&](const v1::WatchEvent& event) {
          if (event.has_snapshot()) {
            summary = event.snapshot();
            observer.on_summary(summary);
          } else {
            observer.on_event(event);
          }
          if (ChangesSummary(event)) {
            seen = std::max(seen, event.durable().seq());
            const auto fresh = AskJob(*client, uuid);
            if (fresh.ok()) {
              summary = fresh->summary();
              observer.on_summary(summary);
            }
          }
          enough = HasEnded(summary.state()) || observer.stop(summary);
          return !enough;
        },
        left);
    if (absl::IsDeadlineExceeded(status)) {
      return TimedOut(summary, timeout);
    }
    // It cuts who reads too slowly, as a program that was stopped.
    const bool cut = absl::IsResourceExhausted(status);
    if (!status.ok() && !absl::IsUnavailable(status) && !cut) {
      return status;
    }
    if (!enough) {
      if (!status.ok() && !cut) {
        context.Note("the coordinator is away; trying again");
      }
      RealSleeper()(kPauseBeforeAgain);
      QSWEEP_ASSIGN_OR_RETURN(job, AskJob(patient, uuid));
      summary = job.summary();
      observer.on_summary(summary);
    }
  }
  return summary;
}

void DetachOnInterrupt(const Context& context, const v1::JobSummary& job) {
  if (!context.environment().handle_signals) {
    return;
  }
  // The cursor is hidden while a screen is drawn; it comes back.
  const std::string text = absl::StrCat(
      context.environment().err_is_terminal ? "\x1b[?25h" : "",
      "\nDetached: job ", job.job_number(), " goes on.   next:  qctl watch ",
      job.job_number(), context.ServerFlags(), "   |   qctl jobs cancel ",
      job.job_number(), context.ServerFlags(), "\n");
  std::strncpy(detach_message.data(), text.c_str(), detach_message.size() - 1);
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;
  sigaction(SIGINT, &action, nullptr);
}

}  // namespace qsweep::qctl
