// Which leases are held. Session, time and the way out: agent_core.cc.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/rpc/failure.h"
#include "worker/agent/agent_core.h"

namespace qsweep {
namespace {

// Ended leases of one stream remembered, so that a DesiredState that left
// before the coordinator knew does not start them again.
constexpr size_t kEndedRemembered = 1024;

TaskId ToTaskId(uint64_t id) { return TaskId(static_cast<int64_t>(id)); }
Epoch ToEpoch(uint64_t epoch) { return Epoch(static_cast<int64_t>(epoch)); }

}  // namespace

void AgentCore::TakeLeases(const v1::DesiredState& state) {
  std::map<TaskId, Epoch> desired;
  for (const v1::DesiredLease& lease : state.leases()) {
    desired.emplace(ToTaskId(lease.task_id()), ToEpoch(lease.epoch()));
    TakeLease(lease);
  }
  for (auto it = held_.begin(); it != held_.end();) {
    const auto current = it++;
    Held& held = current->second;
    if (desired.count(current->first) > 0) {
      held.desired_in_session = true;
      continue;
    }
    // Absence counts only from a sender who knows that we hold it.
    const bool sender_knows =
        held.desired_in_session ||
        (held.listed_in_beat != 0 && held.listed_in_beat <= state.beat_ack());
    if (sender_knows) {
      Withdraw(current);
    }
  }
}

void AgentCore::TakeLease(const v1::DesiredLease& lease) {
  const TaskId task = ToTaskId(lease.task_id());
  const Epoch epoch = ToEpoch(lease.epoch());
  const auto it = held_.find(task);
  if (it != held_.end()) {
    Held& held = it->second;
    if (epoch <= held.epoch || held.cancelled) {
      return;  // a cancelled run is not listed, so the lease comes again
    }
    switch (held.stage) {
      case Stage::kFetching:
      case Stage::kWaiting:
      case Stage::kRunning:
        // Granted again while we are at it: a task never changes, so the work
        // done so far counts for the new grant.
        held.epoch = epoch;
        held.worker_uuid = hello_.worker_uuid();
        held.session_id = session_id_;
        tasks_dirty_ = true;
        return;
      case Stage::kSpooling:
      case Stage::kSpooled:
        return;  // the result of the older grant will settle the task
      case Stage::kReleasing:
        Forget(it);
        break;
    }
  }
  if (!lease.has_spec() || Ended({task, epoch})) {
    return;
  }
  Held& held = held_[task];
  held.epoch = epoch;
  held.grant = ++grants_;
  held.worker_uuid = hello_.worker_uuid();
  held.session_id = session_id_;
  if (RefusesWork()) {  // it was on its way when we said so
    Release(
        held, task,
        draining_ ? v1::RELEASE_REASON_DRAINED : v1::RELEASE_REASON_PREEMPTED,
        absl::OkStatus());
    return;
  }
  held.spec = lease.spec();
  held.progress.set_phase(v1::TASK_PHASE_FETCH);
  held.progress.set_progress_seq(1);
  tasks_dirty_ = true;
  Note(absl::StrCat("task ", task.value(), " epoch ", epoch.value(),
                    ": leased, ", held.spec.configurations_size(),
                    " configurations x ", held.spec.documents_size(),
                    " documents"));
  Do(action::Fetch{task, held.grant, held.spec});
}

void AgentCore::ReleaseWaiting(v1::ReleaseReason reason) {
  for (auto& [task, held] : held_) {
    if (held.stage == Stage::kFetching || held.stage == Stage::kWaiting) {
      Release(held, task, reason, absl::OkStatus());
    }
  }
}

void AgentCore::Withdraw(HeldTasks::iterator it) {
  Held& held = it->second;
  switch (held.stage) {
    case Stage::kSpooling:
    case Stage::kSpooled:
      return;  // only the answer to the result ends it
    case Stage::kFetching:
    case Stage::kWaiting:
    case Stage::kReleasing:
      Forget(it);
      return;
    case Stage::kRunning:
      if (!held.cancelled) {
        held.cancelled = true;
        dirty_ = true;
        Note(absl::StrCat("task ", it->first.value(), " epoch ",
                          held.epoch.value(), ": not wanted any more"));
        kill_at_ = now_ + settings_.cancel_grace;
        Do(action::CancelRun{it->first});
      }
      return;
  }
}

AgentCore::HeldTasks::iterator AgentCore::Forget(HeldTasks::iterator it) {
  // What no message of this session carried is not on its way in one either.
  if (it->second.desired_in_session) {
    Epoch& newest = ended_[it->first];
    if (!newest.valid()) {
      ended_order_.push_back(it->first);
    }
    newest = std::max(newest, it->second.epoch);
    if (ended_order_.size() > kEndedRemembered) {
      ended_.erase(ended_order_.front());
      ended_order_.pop_front();
    }
  }
  tasks_dirty_ = true;
  return held_.erase(it);
}

bool AgentCore::Ended(const LeaseKey& lease) const {
  const auto it = ended_.find(lease.task);
  return it != ended_.end() && lease.epoch <= it->second;
}

AgentCore::Held* AgentCore::Find(const LeaseKey& lease, Stage stage) {
  const auto it = held_.find(lease.task);
  const bool found = it != held_.end() && it->second.epoch == lease.epoch &&
                     it->second.stage == stage;
  return found ? &it->second : nullptr;
}

void AgentCore::Release(Held& held, TaskId task, v1::ReleaseReason reason,
                        const absl::Status& why) {
  ReleaseWithFailure(
      held, task, reason,
      why.ok() ? v1::Failure() : FailureFromStatus(why, IsRetryable(why)));
}

void AgentCore::ReleaseWithFailure(Held& held, TaskId task,
                                   v1::ReleaseReason reason,
                                   const v1::Failure& failure) {
  held.stage = Stage::kReleasing;
  held.run.reset();
  dirty_ = true;
  v1::ReleaseTaskRequest request;
  request.set_task_id(static_cast<uint64_t>(task.value()));
  request.set_epoch(static_cast<uint64_t>(held.epoch.value()));
  request.set_worker_uuid(held.worker_uuid);
  request.set_reason(reason);
  if (failure.status_code() != 0) {
    *request.mutable_failure() = failure;
    // Whoever it comes from, engine or coordinator: one table decides.
    request.mutable_failure()->set_retryable(
        IsRetryable(StatusFromFailure(failure)));
  }
  Note(absl::StrCat("task ", task.value(), " epoch ", held.epoch.value(),
                    ": given back, ", v1::ReleaseReason_Name(reason),
                    failure.message().empty() ? "" : ": ", failure.message()));
  Do(action::Release{std::move(request)});
}

void AgentCore::On(const event::ReleaseAnswered& answered) {
  if (Find(answered.lease, Stage::kReleasing) != nullptr) {
    Forget(held_.find(answered.lease.task));
  }
}

void AgentCore::On(const event::Fetched& fetched) {
  const auto it = held_.find(fetched.task);
  if (it == held_.end() || it->second.grant != fetched.grant ||
      it->second.stage != Stage::kFetching) {
    return;
  }
  it->second.run = fetched.run;
  it->second.stage = Stage::kWaiting;
  it->second.progress.set_progress_seq(it->second.progress.progress_seq() + 1);
  it->second.progress.set_fraction(1);
  progress_dirty_ = true;
}

void AgentCore::On(const event::FetchFailed& failed) {
  const auto it = held_.find(failed.task);
  if (it == held_.end() || it->second.grant != failed.grant ||
      it->second.stage != Stage::kFetching) {
    return;
  }
  // It may be the model that is not there any more.
  std::erase(disk_models_, it->second.spec.model_digest());
  Release(it->second, it->first, v1::RELEASE_REASON_FAILED, failed.why);
}

void AgentCore::On(const event::ResultSpooled& spooled) {
  if (Held* held = Find(spooled.lease, Stage::kSpooling)) {
    held->stage = Stage::kSpooled;
    held->spec.Clear();
    held->run.reset();
  }
}

void AgentCore::On(const event::SpoolFailed& failed) {
  if (Held* held = Find(failed.lease, Stage::kSpooling)) {
    Release(*held, failed.lease.task, v1::RELEASE_REASON_FAILED, failed.why);
  }
  // A disk that fails to write cannot be trusted with the next result.
  BeginShutdown("the spool cannot be written", failed.why);
}

// Better no new task than a result that is nowhere on the disk.
void AgentCore::On(const event::SpoolRoomChanged& changed) {
  spool_full_ = changed.full;
  dirty_ = true;
  if (spool_full_.ok()) {
    Note("the result spool has room again");
    return;
  }
  Note(absl::StrCat("no new task: ", spool_full_.message()));
  ReleaseWaiting(v1::RELEASE_REASON_PREEMPTED);
}

void AgentCore::On(const event::ResultAnswered& answered) {
  Held* held = Find(answered.lease, Stage::kSpooled);
  if (held == nullptr) {  // sent from memory, for lack of room on the disk
    held = Find(answered.lease, Stage::kSpooling);
  }
  if (held == nullptr) {
    return;
  }
  if (answered.outcome == v1::COMMIT_OUTCOME_REJECTED) {
    ReleaseWithFailure(*held, answered.lease.task, v1::RELEASE_REASON_FAILED,
                       answered.failure);
    return;
  }
  Note(absl::StrCat("task ", answered.lease.task.value(), " epoch ",
                    answered.lease.epoch.value(), ": ",
                    v1::CommitOutcome_Name(answered.outcome)));
  Forget(held_.find(answered.lease.task));
}

}  // namespace qsweep
