#include "tests/properties/lease_model.h"

#include <algorithm>

namespace qsweep::testing {
namespace {

constexpr auto kReady = v1::TASK_STATE_READY;
constexpr auto kLeased = v1::TASK_STATE_LEASED;
constexpr auto kBackoff = v1::TASK_STATE_BACKOFF;
constexpr auto kQuarantined = v1::TASK_STATE_QUARANTINED;
constexpr auto kDone = v1::TASK_STATE_DONE;
constexpr auto kCancelled = v1::TASK_STATE_CANCELLED;

bool Failed(const LeaseModel::Attempt& grant) {
  return grant.end == LeaseEnd::kFailed || grant.end == LeaseEnd::kStalled;
}

bool FailedOn(const LeaseModel::Task& task, int worker) {
  return std::ranges::any_of(task.grants, [worker](const auto& grant) {
    return grant.worker == worker && Failed(grant);
  });
}

}  // namespace

bool LeaseModel::Task::live() const {
  return state == kReady || state == kLeased || state == kBackoff;
}

bool LeaseModel::Task::given_up() const {
  return state == kQuarantined || state == kCancelled;
}

std::set<int> LeaseModel::HeldBy(int worker) const {
  std::set<int> held;
  for (const auto& [id, task] : tasks) {
    if (task.state == kLeased && task.grants.back().worker == worker) {
      held.insert(id);
    }
  }
  return held;
}

int LeaseModel::NumIn(int job, v1::TaskState state) const {
  return static_cast<int>(std::ranges::count_if(tasks, [&](const auto& entry) {
    return entry.second.jobs.contains(job) && entry.second.state == state;
  }));
}

int LeaseModel::NumLive(int job) const {
  return NumIn(job, kReady) + NumIn(job, kLeased) + NumIn(job, kBackoff);
}

bool LeaseModel::ended(int job) const {
  const v1::JobState state = jobs.at(job);
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED ||
         state == v1::JOB_STATE_CANCELLED;
}

void LeaseModel::EndJob(int job) {
  if (ended(job) || NumLive(job) > 0) {
    return;
  }
  jobs[job] = jobs[job] == v1::JOB_STATE_STOPPING ? v1::JOB_STATE_CANCELLED
              : NumIn(job, kQuarantined) > 0      ? v1::JOB_STATE_FAILED
                                                  : v1::JOB_STATE_SUCCEEDED;
}

void LeaseModel::Settle(int task, v1::TaskState to) {
  const bool was_live = tasks[task].live();
  tasks[task].state = to;
  for (const int job : std::set<int>(tasks[task].jobs)) {
    if (was_live) {
      EndJob(job);
    }
  }
}

void LeaseModel::Unsubscribe(int job, int task) { tasks[task].jobs.erase(job); }

// A worker's time belongs to the oldest lease that it holds.
void LeaseModel::Close(int id, LeaseEnd end) {
  Task& task = tasks[id];
  Worker& worker = workers[task.grants.back().worker];
  absl::Duration held;
  const auto age = [this](int of) {
    return std::pair(tasks[of].granted_at, of);
  };
  if (std::ranges::all_of(HeldBy(task.grants.back().worker),
                          [&](int other) { return age(id) <= age(other); })) {
    const absl::Duration from = std::max(task.granted_at, worker.charged_until);
    held = now - from;
    worker.charged_until = now;
  }
  charged[id] = held;
  task.grants.back().end = end;
}

bool LeaseModel::Lost(const Task& task) const {
  std::set<int> on = {task.grants.back().worker};
  for (const Attempt& grant : task.grants) {
    if (grant.end == LeaseEnd::kLost) {
      on.insert(grant.worker);
    }
  }
  const auto fit = std::ranges::count_if(workers, [](const auto& entry) {
    return entry.second.ready && entry.second.liveness == WorkerLiveness::kLive;
  });
  return task.lost + 1 >= settings.lost_budget &&
         static_cast<int64_t>(on.size()) >= std::clamp<int64_t>(fit, 1, 3);
}

void LeaseModel::EndLease(int id, LeaseEnd end, bool retryable) {
  Task& task = tasks[id];
  const bool failed = end == LeaseEnd::kFailed || end == LeaseEnd::kStalled;
  const bool spent =
      failed ? !retryable || task.failed + 1 >= settings.failed_budget
             : end == LeaseEnd::kLost && Lost(task);
  Close(id, end);
  task.failed += failed ? 1 : 0;
  task.lost += end == LeaseEnd::kLost ? 1 : 0;
  task.preempted += end == LeaseEnd::kPreempted ? 1 : 0;
  if (spent) {
    Settle(id, kQuarantined);
    return;
  }
  // A job that stops does not wait for another attempt.
  std::set<int> stopping;
  bool wanted = false;
  for (const int job : task.jobs) {
    if (jobs[job] == v1::JOB_STATE_STOPPING) {
      stopping.insert(job);
    } else {
      wanted |= !ended(job);
    }
  }
  if (!wanted) {
    Settle(id, kCancelled);
    return;
  }
  task.state = end == LeaseEnd::kPreempted ? kReady : kBackoff;
  for (const int job : stopping) {
    Unsubscribe(job, id);
    EndJob(job);
  }
}

void LeaseModel::Report(int number, bool hello, bool new_process, bool goodbye,
                        const std::set<int>& listed, bool seen) {
  Worker& worker = workers[number];
  if (!hello && worker.session == Worker::Session::kNone) {
    return;
  }
  worker.session = Worker::Session::kOpen;
  worker.liveness = goodbye ? WorkerLiveness::kSuspect : WorkerLiveness::kLive;
  worker.ready = !goodbye;
  worker.deadline = now + settings.lease_ttl;
  for (const int id : HeldBy(number)) {
    Task& task = tasks[id];
    const bool given_up = !hello && seen && task.sent;
    task.sent &= !hello;
    if (listed.contains(id)) {
      task.until = now + settings.lease_ttl;
    } else if (goodbye) {
      EndLease(id, LeaseEnd::kPreempted);
    } else if (new_process || given_up) {
      EndLease(id, LeaseEnd::kLost);
    }
  }
}

void LeaseModel::Detach(int worker) {
  if (workers[worker].liveness == WorkerLiveness::kLive) {
    workers[worker].liveness = WorkerLiveness::kSuspect;
  }
}

void LeaseModel::Send(int worker) {
  for (const int id : HeldBy(worker)) {
    tasks[id].sent = true;
  }
}

std::set<int> LeaseModel::Grantable(int number) const {
  const Worker& worker = workers.at(number);
  std::set<int> grantable;
  if (!worker.ready || worker.liveness != WorkerLiveness::kLive ||
      HeldBy(number).size() >= 2) {
    return grantable;
  }
  for (const auto& [id, task] : tasks) {
    const bool served = std::ranges::any_of(task.jobs, [this](int job) {
      return jobs.at(job) == v1::JOB_STATE_QUEUED ||
             jobs.at(job) == v1::JOB_STATE_RUNNING;
    });
    const bool for_others =
        task.failed > 0 && FailedOn(task, number) &&
        std::ranges::any_of(workers, [&](const auto& entry) {
          return entry.second.ready && !FailedOn(task, entry.first) &&
                 entry.second.liveness == WorkerLiveness::kLive;
        });
    if (task.state == kReady && served && !for_others) {
      grantable.insert(id);
    }
  }
  return grantable;
}

void LeaseModel::Grant(int id, int worker) {
  Task& task = tasks[id];
  task.state = kLeased;
  task.grants.push_back({.worker = worker});
  task.granted_at = now;
  task.until = now + std::min(settings.start_deadline, settings.lease_ttl);
  task.sent = false;
  for (const int job : task.jobs) {
    if (jobs[job] == v1::JOB_STATE_QUEUED) {
      jobs[job] = v1::JOB_STATE_RUNNING;
    }
  }
}

void LeaseModel::Release(int id, size_t epoch, LeaseEnd end, bool retryable) {
  if (tasks[id].state == kLeased && epoch == tasks[id].grants.size()) {
    EndLease(id, end, retryable);
  }
}

v1::CommitOutcome LeaseModel::Commit(int id, size_t epoch) {
  Task& task = tasks[id];
  if (task.state == kDone) {
    return task.grants[epoch - 1].end == LeaseEnd::kCommitted
               ? v1::COMMIT_OUTCOME_ALREADY_COMMITTED
               : v1::COMMIT_OUTCOME_SUPERSEDED;
  }
  if (task.state == kCancelled) {
    return v1::COMMIT_OUTCOME_CANCELLED;
  }
  if (task.state == kLeased) {
    Close(id, LeaseEnd::kSuperseded);
  }
  task.grants[epoch - 1].end = LeaseEnd::kCommitted;
  Settle(id, kDone);
  return v1::COMMIT_OUTCOME_OK;
}

void LeaseModel::PassTime(absl::Duration duration) {
  now += duration;
  for (auto& [id, task] : tasks) {
    if (task.until > now) {
      continue;
    }
    if (task.state == kBackoff) {
      task.state = kReady;
    } else if (task.state == kLeased) {
      EndLease(id, LeaseEnd::kLost);
    }
  }
  for (auto& [number, worker] : workers) {
    if (worker.deadline <= now) {
      worker.liveness = WorkerLiveness::kLost;
    }
  }
}

void LeaseModel::Cancel(int job) {
  if (ended(job)) {
    return;
  }
  for (auto& [id, task] : tasks) {
    if (!task.live() || !task.jobs.contains(job)) {
      continue;
    }
    if (task.jobs.size() > 1) {
      Unsubscribe(job, id);
      continue;
    }
    if (task.state == kLeased) {
      Close(id, LeaseEnd::kCancelled);
    }
    task.state = kCancelled;
  }
  jobs[job] = v1::JOB_STATE_CANCELLED;
}

void LeaseModel::Stop(int job) {
  if (ended(job) || jobs[job] == v1::JOB_STATE_STOPPING) {
    return;
  }
  for (auto& [id, task] : tasks) {
    if (!task.jobs.contains(job) || !task.live() || task.state == kLeased) {
      continue;
    }
    if (task.jobs.size() > 1) {
      Unsubscribe(job, id);
    } else {
      task.state = kCancelled;
    }
  }
  jobs[job] = NumIn(job, kLeased) == 0 ? v1::JOB_STATE_CANCELLED
                                       : v1::JOB_STATE_STOPPING;
}

void LeaseModel::Pause(int job) {
  if (jobs[job] == v1::JOB_STATE_QUEUED || jobs[job] == v1::JOB_STATE_RUNNING) {
    jobs[job] = v1::JOB_STATE_PAUSED;
  }
}

void LeaseModel::Resume(int job) {
  if (jobs[job] == v1::JOB_STATE_PAUSED) {
    const int begun = NumIn(job, kLeased) + NumIn(job, kDone) +
                      NumIn(job, kBackoff) + NumIn(job, kQuarantined);
    jobs[job] = begun > 0 ? v1::JOB_STATE_RUNNING : v1::JOB_STATE_QUEUED;
  }
}

// Of a job that goes on; one that ended is planned anew.
void LeaseModel::Retry(int job) {
  if (ended(job) || jobs[job] == v1::JOB_STATE_STOPPING) {
    return;
  }
  for (auto& [id, task] : tasks) {
    if (!task.jobs.contains(job) || !task.given_up()) {
      continue;
    }
    std::erase_if(task.jobs, [this](int other) {
      return ended(other) || jobs[other] == v1::JOB_STATE_STOPPING;
    });
    task.failed = task.lost = task.preempted = 0;
    task.state = kReady;
  }
}

void LeaseModel::Restart() {
  for (auto& [id, task] : tasks) {
    if (task.state == kLeased) {
      task.granted_at = now;
      task.until = now + settings.failover_ttl;
      task.sent = false;
    }
  }
  for (auto& [number, worker] : workers) {
    worker = Worker();
  }
}

}  // namespace qsweep::testing
