#include "coordinator/core/settings.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

absl::Status Require(bool condition, absl::string_view setting,
                     absl::string_view rule) {
  if (condition) {
    return absl::OkStatus();
  }
  return MakeError(kBadValue, absl::StrCat("setting ", setting, " ", rule),
                   setting);
}

}  // namespace

absl::Duration Settings::DefaultStartDeadline() const {
  return std::min(std::max(Settings().start_deadline, 3 * heartbeat),
                  lease_ttl);
}

absl::Duration Settings::DefaultRunDeadline() const {
  return std::max(Settings().run_deadline_min, 2 * lease_ttl);
}

Settings Settings::Scaled(double factor) const {
  Settings scaled = *this;
  for (absl::Duration* duration :
       {&scaled.heartbeat, &scaled.lease_ttl, &scaled.failover_ttl,
        &scaled.progress_deadline, &scaled.fetch_deadline,
        &scaled.commit_deadline, &scaled.start_deadline,
        &scaled.run_deadline_min, &scaled.queue_warning, &scaled.default_load,
        &scaled.reconnect_backoff_max, &scaled.backoff_min, &scaled.backoff_max,
        &scaled.ageing, &scaled.worker_time_step}) {
    *duration *= factor;
  }
  return scaled;
}

absl::Status Settings::Validate() const {
  QSWEEP_RETURN_IF_ERROR(Require(heartbeat >= absl::Milliseconds(1),
                                 "heartbeat", "must be at least 1 ms"));
  QSWEEP_RETURN_IF_ERROR(Require(lease_ttl >= 3 * heartbeat, "lease_ttl",
                                 "must be at least 3 heartbeats"));
  QSWEEP_RETURN_IF_ERROR(Require(failover_ttl >= 2 * lease_ttl, "failover_ttl",
                                 "must be at least 2 lease_ttl"));
  // An inner timeout equal to the lease's kills every attempt it meets.
  QSWEEP_RETURN_IF_ERROR(Require(progress_deadline > lease_ttl,
                                 "progress_deadline",
                                 "must be above lease_ttl"));
  QSWEEP_RETURN_IF_ERROR(Require(commit_deadline > lease_ttl, "commit_deadline",
                                 "must be above lease_ttl"));
  QSWEEP_RETURN_IF_ERROR(Require(start_deadline > 2 * heartbeat,
                                 "start_deadline",
                                 "must be above 2 heartbeats"));
  QSWEEP_RETURN_IF_ERROR(Require(
      std::isfinite(run_deadline_factor) && run_deadline_factor >= 2 &&
          run_deadline_min > lease_ttl,
      "run_deadline_min", "must be above lease_ttl, its factor 2 or more"));
  QSWEEP_RETURN_IF_ERROR(Require(queue_warning > absl::ZeroDuration(),
                                 "queue_warning", "must be above 0"));
  QSWEEP_RETURN_IF_ERROR(
      Require(backoff_min > absl::ZeroDuration() && backoff_max >= backoff_min,
              "backoff_max", "must be at least backoff_min, above 0"));
  QSWEEP_RETURN_IF_ERROR(Require(workers_per_credential >= 1,
                                 "workers_per_credential",
                                 "must be at least 1"));
  QSWEEP_RETURN_IF_ERROR(
      Require(failed_budget >= 1, "failed_budget", "must be at least 1"));
  QSWEEP_RETURN_IF_ERROR(
      Require(lost_budget >= 1, "lost_budget", "must be at least 1"));
  QSWEEP_RETURN_IF_ERROR(Require(task_target > absl::ZeroDuration(),
                                 "task_target", "must be above 0"));
  QSWEEP_RETURN_IF_ERROR(
      Require(std::isfinite(default_gflops) && default_gflops > 0,
              "default_gflops", "must be a number above 0"));
  QSWEEP_RETURN_IF_ERROR(Require(
      std::isfinite(default_weight_bandwidth) && default_weight_bandwidth > 0,
      "default_weight_bandwidth", "must be a number above 0"));
  QSWEEP_RETURN_IF_ERROR(Require(
      max_rows_per_task >= 1 && max_rows_per_task <= kMostRowsPerTask,
      "max_rows_per_task", absl::StrCat("must be 1 to ", kMostRowsPerTask)));
  QSWEEP_RETURN_IF_ERROR(Require(
      plan_slice_tasks >= 1 && plan_at_once_tasks >= plan_slice_tasks,
      "plan_at_once_tasks", "must be at least plan_slice_tasks, above 0"));
  QSWEEP_RETURN_IF_ERROR(
      Require(drop_slice_tasks >= 1, "drop_slice_tasks", "must be at least 1"));
  for (const auto& [owner, weight] : weights) {
    QSWEEP_RETURN_IF_ERROR(Require(std::isfinite(weight) && weight > 0,
                                   "weights", "must be numbers above 0"));
  }
  QSWEEP_RETURN_IF_ERROR(Require(audit_rate >= 0 && audit_rate <= 1,
                                 "audit_rate", "must be 0 to 1"));
  QSWEEP_RETURN_IF_ERROR(Require(worker_time_step > absl::ZeroDuration(),
                                 "worker_time_step", "must be above 0"));
  return Require(batch_requests_max >= 1 && queue_high_water >= 1,
                 "batch_requests_max", "must be at least 1");
}

}  // namespace qsweep
