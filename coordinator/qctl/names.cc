#include "coordinator/qctl/names.h"

#include "absl/strings/escaping.h"

#include "common/base/ids.h"

namespace qsweep::qctl {
namespace {

constexpr size_t kShortDigits = 12;

struct JobStateRow {
  v1::JobState state;
  const char* name;
};
constexpr JobStateRow kJobStates[] = {
    {v1::JOB_STATE_PLANNING, "planning"},
    {v1::JOB_STATE_QUEUED, "queued"},
    {v1::JOB_STATE_RUNNING, "running"},
    {v1::JOB_STATE_PAUSED, "paused"},
    {v1::JOB_STATE_STOPPING, "stopping"},
    {v1::JOB_STATE_SUCCEEDED, "succeeded"},
    {v1::JOB_STATE_FAILED, "failed"},
    {v1::JOB_STATE_CANCELLED, "cancelled"},
};

}  // namespace

std::string JobStateName(v1::JobState state) {
  for (const JobStateRow& row : kJobStates) {
    if (row.state == state) {
      return row.name;
    }
  }
  return "unknown";
}

std::string TaskStateName(const v1::TaskSummary& task) {
  switch (task.state()) {
    case v1::TASK_STATE_BLOCKED:
      return "blocked";
    case v1::TASK_STATE_READY:
    case v1::TASK_STATE_BACKOFF:
      return "queued";
    case v1::TASK_STATE_LEASED:
      return task.phase() == v1::TASK_PHASE_RUN ||
                     task.phase() == v1::TASK_PHASE_COMMIT
                 ? "running"
                 : "leased";
    case v1::TASK_STATE_QUARANTINED:
      return "failed";
    case v1::TASK_STATE_DONE:
      return "succeeded";
    case v1::TASK_STATE_CANCELLED:
      return "cancelled";
    default:
      return "unknown";
  }
}

std::vector<v1::TaskState> TaskStatesOf(absl::string_view name) {
  if (name == "queued") {
    return {v1::TASK_STATE_READY, v1::TASK_STATE_BACKOFF};
  }
  if (name == "leased" || name == "running") {
    return {v1::TASK_STATE_LEASED};
  }
  if (name == "succeeded") {
    return {v1::TASK_STATE_DONE};
  }
  if (name == "failed") {
    return {v1::TASK_STATE_QUARANTINED};
  }
  if (name == "cancelled") {
    return {v1::TASK_STATE_CANCELLED};
  }
  if (name == "blocked") {
    return {v1::TASK_STATE_BLOCKED};
  }
  return {};
}

std::vector<v1::JobState> JobStatesOf(absl::string_view name) {
  for (const JobStateRow& row : kJobStates) {
    if (name == row.name) {
      return {row.state};
    }
  }
  return {};
}

bool HasEnded(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED ||
         state == v1::JOB_STATE_CANCELLED;
}

std::string UuidText(const std::string& bytes) {
  const absl::StatusOr<JobUuid> uuid = JobUuid::FromBytes(bytes);
  return uuid.ok() ? uuid->text() : "";
}

std::string HexText(const std::string& bytes) {
  return absl::BytesToHexString(bytes);
}

std::string ShortHex(const std::string& bytes) {
  return HexText(bytes).substr(0, kShortDigits);
}

absl::Time TimeOf(int64_t microseconds) {
  return absl::FromUnixMicros(microseconds);
}

ExitCode OutcomeOf(const v1::JobSummary& job) {
  if (job.state() == v1::JOB_STATE_CANCELLED) {
    return ExitCode::kCancelled;
  }
  if (job.tasks_failed() > 0 || job.documents_skipped() > 0) {
    return ExitCode::kPartial;
  }
  return job.state() == v1::JOB_STATE_SUCCEEDED ? ExitCode::kOk
                                                : ExitCode::kFailed;
}

}  // namespace qsweep::qctl
