#include "tests/support/state_snapshot.h"

#include <set>
#include <utility>

namespace qsweep::testing {

StateSnapshot SnapshotOf(const State& state) {
  StateSnapshot snapshot{.coordinator_epoch = state.coordinator_epoch(),
                         .last_event = state.last_event()};
  for (auto [number, job] : state.jobs()) {
    job.tasks_by_state = {};
    job.ready.clear();
    job.waiting_since = SteadyTime::InfiniteFuture();
    job.waiting_told = false;
    snapshot.jobs.push_back(std::move(job));
  }
  std::set<TaskGroupId> groups;
  for (const auto& [id, live] : state.tasks()) {
    Task task = live;
    groups.insert(task.group);
    if (task.lease) {
      task.lease =
          Lease{.worker = task.lease->worker, .session = task.lease->session};
    }
    if (task.history->ready_at != SteadyTime()) {
      task.history.Edit().ready_at = SteadyTime();
    }
    snapshot.tasks.Add(std::move(task));
  }
  snapshot.documents = state.documents();
  for (const TaskGroupId id : groups) {
    snapshot.groups.push_back(state.group(id));
    snapshot.last_group = id;
  }
  for (const auto& [uuid, worker] : state.workers()) {
    snapshot.workers.push_back({.uuid = worker.uuid,
                                .name = worker.name,
                                .build_id = worker.build_id,
                                .devices = worker.devices,
                                .boot_seq = worker.boot_seq,
                                .credential = worker.credential,
                                .mode = worker.mode,
                                .mode_reason = worker.mode_reason,
                                .blamed = worker.blamed,
                                .tasks_done = worker.tasks_done,
                                .attached = worker.attached,
                                .last_seen = worker.last_seen});
  }
  return snapshot;
}

}  // namespace qsweep::testing
