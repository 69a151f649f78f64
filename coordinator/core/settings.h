#ifndef QSWEEP_COORDINATOR_CORE_SETTINGS_H_
#define QSWEEP_COORDINATOR_CORE_SETTINGS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace qsweep {

// Most rows that a task may have at all. A row takes 153 bytes at most: numbers
// of ten bytes each, all optional members there, and the digest of its codes.
// So a result is below the 3 MiB that a worker puts into one call, and with
// what surrounds it below the 4 MiB that a message may have.
inline constexpr int64_t kMostRowsPerTask = 20'000;

// What an operator may choose. Only ratios between the durations are checked,
// so tests run the same logic at 1/50 scale. Value type.
struct Settings {
  // Liveness; sent to workers in the Welcome.
  absl::Duration heartbeat = absl::Seconds(10);
  absl::Duration lease_ttl = absl::Seconds(60);  // >= 3 heartbeats
  // After a restart: how long a lease nobody has listed yet is honoured.
  absl::Duration failover_ttl = absl::Seconds(120);  // >= 2 lease_ttl
  // No sign of progress for this long: the attempt is stalled.
  absl::Duration progress_deadline = absl::Seconds(120);
  // Of loading and calibrating, without a sign of progress.
  absl::Duration fetch_deadline = absl::Minutes(30);
  // From when its worker first says that it has the result: a worker that never
  // brings it does not keep the task.
  absl::Duration commit_deadline = absl::Minutes(30);
  // A lease that its worker has not listed for this long was never started;
  // lease_ttl at most.
  absl::Duration start_deadline = absl::Seconds(60);
  // An attempt that runs this many times longer than nine in ten do, and at
  // least so long, hangs while it seems to get on.
  double run_deadline_factor = 10;
  absl::Duration run_deadline_min = absl::Minutes(10);
  // A job with tasks to run that no worker takes for this long is told of.
  absl::Duration queue_warning = absl::Minutes(30);
  absl::Duration reconnect_backoff_max = absl::Seconds(20);

  // Workers attached at once with one credential, under as many worker_uuids.
  int64_t workers_per_credential = 5'000;

  // Retry budgets of a task; a preempted attempt is free.
  int failed_budget = 3;
  int lost_budget = 5;
  int blame_limit = 3;  // a worker that failed so many tasks others finished
  absl::Duration backoff_min = absl::Seconds(1);  // full jitter, doubled each
  absl::Duration backoff_max = absl::Minutes(5);  // failure up to this
  uint64_t jitter_seed = 0;  // of the back-off; with task and epoch

  // Sizing of tasks (plan.h).
  absl::Duration task_target = absl::Seconds(60);
  double default_gflops = 60;  // of a worker that did not measure itself
  // Of the weights, that a task lasts at least: reading them costs a quarter.
  // 0: as long as task_target says, however long reading takes.
  double readings_min = 4;
  // Of a model that was not seen yet: bytes/s of its weights, as from an
  // ordinary disk, and its load.
  double default_weight_bandwidth = 1e9;
  absl::Duration default_load = absl::Seconds(30);
  int64_t max_rows_per_task = 2000;  // some 256 KiB; kMostRowsPerTask at most
  int64_t max_tasks_per_job = 1'000'000;  // QS1051 above
  // A submit of about more tasks than this is planned in slices, one per step
  // of the loop, so that workers do not wait for it.
  int64_t plan_at_once_tasks = 5'000;
  int64_t plan_slice_tasks = 500;
  // So many waiting tasks are dropped in one step of the loop, when a job is
  // cancelled, stopped or fails: some milliseconds.
  int64_t drop_slice_tasks = 500;

  // Placement (policy.h): a waiting job rises one priority class per this.
  absl::Duration ageing = absl::Minutes(10);
  // Of owners, in the fair share; 1 for who is not named.
  std::map<std::string, double> weights;

  // The share of tasks that another worker measures again, to compare
  // (audit.h). With the seed nobody can tell which.
  double audit_rate = 0;
  uint64_t audit_seed = 0;

  // How often the time of an attached worker is written; a coordinator that
  // dies forgets so much of it.
  absl::Duration worker_time_step = absl::Minutes(5);

  // Group commit (loop.h).
  int batch_requests_max = 512;
  absl::Duration batch_time_max = absl::Milliseconds(5);
  int queue_high_water = 10'000;  // above: stop leasing; twice: QS4040

  // What follows from the heartbeat and the lease TTL where nobody chose it.
  absl::Duration DefaultStartDeadline() const;
  absl::Duration DefaultRunDeadline() const;

  // All durations multiplied by `factor`, for tests.
  Settings Scaled(double factor) const;
  // INVALID_ARGUMENT QS1004 naming the setting whose ratio or range is wrong.
  absl::Status Validate() const;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_SETTINGS_H_
