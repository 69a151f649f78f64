// Steps, time and the way out. Session: agent_core_session.cc; leases:
// agent_core_leases.cc; engine: agent_core_engine.cc.
#include "worker/agent/agent_core.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"

namespace qsweep {

AgentCore::AgentCore(const AgentSettings& settings)
    : settings_(settings), hello_(settings.hello), random_(settings.seed) {}

std::vector<AgentAction> AgentCore::Step(const AgentEvent& event,
                                         SteadyTime now) {
  QSWEEP_CHECK(now >= now_);
  NoticeAbsence(now);
  now_ = now;
  if (exited_) {
    return {};
  }
  std::visit([this](const auto& e) { On(e); }, event);
  CheckTimers();
  StartNextRun();
  SendBeatIfDue();
  return std::exchange(actions_, {});
}

// A step that comes long after it was asked for: this process was stopped, or
// its machine slept. So was the engine, or its progress waits in the pipe.
void AgentCore::NoticeAbsence(SteadyTime now) {
  if (now < NextTick() + heartbeat_) {
    return;
  }
  for (auto& [task, held] : held_) {
    if (held.stage == Stage::kRunning) {
      held.run_at = now;
      held.progressed_at = now;
    }
  }
}

SteadyTime AgentCore::NextTick() const {
  if (exited_) {
    return SteadyTime::InfiniteFuture();
  }
  SteadyTime next =
      std::min({connect_at_, start_at_, kill_at_,
                lifetime_end_ - settings_.goodbye_limit, drain_until_});
  if (!draining_) {
    next = std::min(next, LifetimeDrainAt());
  }
  if (!leaving_.empty()) {
    next = std::min(next, leave_by_);
  }
  if (stream_open_) {
    next = std::min(next, heard_at_ + SilenceLimit());
  }
  if (attached_ && !polling_) {
    next = std::min(next, last_beat_at_ + heartbeat_);
    if (tasks_dirty_) {
      next = std::min(next, last_beat_at_ + TaskInterval());
    }
    if (progress_dirty_) {
      next = std::min(next, last_beat_at_ + ProgressInterval());
    }
  }
  for (const auto& [task, held] : held_) {
    if (held.stage == Stage::kRunning && engine_ == Engine::kBusy &&
        !held.cancelled) {
      next = std::min(next, StalledAt(held));
      if (settings_.on_server_lost == OnServerLost::kStop) {
        next = std::min(next, lease_until_);
      }
    }
  }
  return next;
}

std::vector<LeaseKey> AgentCore::held() const {
  std::vector<LeaseKey> leases;
  for (const auto& [task, held] : held_) {
    if (!held.cancelled) {
      leases.push_back({task, held.epoch});
    }
  }
  return leases;
}

void AgentCore::On(const event::Started& started) {
  for (const LeaseKey& lease : started.spooled) {
    Held& held = held_[lease.task];
    held.epoch = lease.epoch;
    held.stage = Stage::kSpooled;
    held.grant = ++grants_;
    held.worker_uuid = hello_.worker_uuid();
    held.progress.set_phase(v1::TASK_PHASE_COMMIT);
  }
  disk_models_ = started.models;
  lifetime_end_ = now_ + settings_.lifetime;
  engine_ = Engine::kStarting;
  Do(action::StartEngine{});
}

void AgentCore::On(const event::ShutdownRequested& requested) {
  if (requested.at_once || asked_to_leave_) {
    BeginShutdown(requested.reason, absl::OkStatus());
    return;
  }
  asked_to_leave_ = true;
  BeginDrain(requested.reason, now_ + settings_.drain_deadline,
             v1::RELEASE_REASON_PREEMPTED);
}

void AgentCore::CheckTimers() {
  if (exited_) {
    return;
  }
  if (now_ >= lifetime_end_ - settings_.goodbye_limit) {
    BeginShutdown("the time limit has come", absl::OkStatus());
  } else if (now_ >= LifetimeDrainAt()) {
    BeginDrain("the time limit is near", SteadyTime::InfiniteFuture(),
               v1::RELEASE_REASON_PREEMPTED);
  }
  if (now_ >= drain_until_) {
    BeginShutdown(drain_reason_, absl::OkStatus());
  }
  if (stream_open_ && now_ >= heard_at_ + SilenceLimit()) {
    Note("the coordinator is silent: connecting again");
    CountBrokenStream(/*connected=*/true);
    Do(action::CloseStream{});
    DropStream(leaving_.empty() ? now_ : SteadyTime::InfiniteFuture());
  }
  CheckLeaseCount();
  CheckEngineTimers();
  if (draining_ && leaving_.empty() && held_.empty()) {
    BeginShutdown(drain_reason_, absl::OkStatus());
  }
  if (!leaving_.empty()) {
    ContinueShutdown();
  } else if (!stream_open_ && now_ >= connect_at_) {
    OpenStream();
  }
}

// Before the end, and not so early that a short life has no work at all.
SteadyTime AgentCore::LifetimeDrainAt() const {
  return lifetime_end_ -
         std::min(settings_.drain_deadline, settings_.lifetime / 2);
}

void AgentCore::BeginDrain(const std::string& reason, SteadyTime until,
                           v1::ReleaseReason release) {
  drain_until_ = std::min(drain_until_, until);
  drained_by_server_ = release == v1::RELEASE_REASON_DRAINED &&
                       (drained_by_server_ || !draining_);
  if (draining_ || !leaving_.empty()) {
    return;
  }
  draining_ = true;
  drain_reason_ = reason;
  dirty_ = true;
  Note(absl::StrCat("draining, no new task: ", reason));
  ReleaseWaiting(release);
}

void AgentCore::BeginShutdown(const std::string& reason,
                              const absl::Status& status) {
  if (!leaving_.empty()) {
    return;
  }
  leaving_ = reason;
  exit_status_ = status;
  leave_by_ = now_ + settings_.goodbye_limit;
  connect_at_ = SteadyTime::InfiniteFuture();
  start_at_ = SteadyTime::InfiniteFuture();
  lifetime_end_ = SteadyTime::InfiniteFuture();
  drain_until_ = SteadyTime::InfiniteFuture();
  Note(absl::StrCat("leaving: ", reason));
  for (auto it = held_.begin(); it != held_.end();) {
    const auto current = it++;
    if (current->second.cancelled) {
      held_.erase(current);
    } else if (current->second.stage == Stage::kFetching ||
               current->second.stage == Stage::kWaiting ||
               current->second.stage == Stage::kRunning) {
      Release(current->second, current->first, v1::RELEASE_REASON_PREEMPTED,
              absl::OkStatus());
    }
  }
  if (engine_ != Engine::kDown) {
    Do(action::KillEngine{});
    engine_ = Engine::kDying;
  }
  if (attached_) {
    Do(action::SendState{MakeState()});
    goodbye_beat_ = beat_seq_;
  }
}

void AgentCore::ContinueShutdown() {
  bool spooling = false;
  bool unanswered = false;
  for (const auto& [task, held] : held_) {
    spooling |= held.stage == Stage::kSpooling;
    unanswered = true;
  }
  const bool goodbye_heard =
      beats_.empty() || beats_.front().seq > goodbye_beat_;
  // Without a stream nobody answers; what is on its way to the disk still gets
  // there.
  const bool done = attached_ ? goodbye_heard && !unanswered : !spooling;
  if (done || now_ >= leave_by_) {
    exited_ = true;
    if (stream_open_) {
      Do(action::CloseStream{});
    }
    Do(action::Exit{exit_status_});
  }
}

void AgentCore::CheckLeaseCount() {
  if (settings_.on_server_lost != OnServerLost::kStop || !LeaseRunsOut()) {
    return;
  }
  for (auto it = held_.begin(); it != held_.end();) {
    const Stage stage = it->second.stage;
    if (stage == Stage::kFetching || stage == Stage::kWaiting) {
      it = Forget(it);
      continue;
    }
    if (stage == Stage::kRunning && !it->second.cancelled) {
      Note(absl::StrCat("task ", it->first.value(),
                        ": stopped, its lease has run out"));
      it->second.cancelled = true;
      Kill();
    }
    ++it;
  }
}

}  // namespace qsweep
