// Session, time and the way out. Leases: agent_core_leases.cc; engine:
// agent_core_engine.cc.
#include "worker/agent/agent_core.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/rpc/retry.h"

namespace qsweep {
namespace {

constexpr absl::Duration kReconnectFirst = absl::Seconds(1);
constexpr uint32_t kCredits = 2;  // one task runs, one is fetched ahead

// The coordinator will never take this worker: trying again is no use.
bool IsFatal(const absl::Status& status) {
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  return absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status) ||
         absl::IsUnimplemented(status) ||
         (info && (info->code == kProtocolVersion.code ||
                   info->code == kWorkerSuperseded.code));
}

}  // namespace

AgentCore::AgentCore(const AgentSettings& settings)
    : settings_(settings), random_(settings.seed) {}

std::vector<AgentAction> AgentCore::Step(const AgentEvent& event,
                                         SteadyTime now) {
  QSWEEP_CHECK(now >= now_);
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

SteadyTime AgentCore::NextTick() const {
  if (exited_) {
    return SteadyTime::InfiniteFuture();
  }
  SteadyTime next = std::min({connect_at_, start_at_, kill_at_, lifetime_end_});
  if (!leaving_.empty()) {
    next = std::min(next, leave_by_);
  }
  if (stream_open_) {
    next = std::min(next, heard_at_ + SilenceLimit());
  }
  if (attached_) {
    next = std::min(next, last_beat_at_ + heartbeat_);
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

absl::Duration AgentCore::ProgressInterval() const { return heartbeat_ / 10; }

absl::Duration AgentCore::SilenceLimit() const {
  return std::max(3 * heartbeat_, lease_ttl_ / 2);
}

void AgentCore::On(const event::Started& started) {
  for (const LeaseKey& lease : started.spooled) {
    Held& held = held_[lease.task];
    held.epoch = lease.epoch;
    held.stage = Stage::kSpooled;
    held.grant = ++grants_;
    held.progress.set_phase(v1::TASK_PHASE_COMMIT);
  }
  lifetime_end_ = now_ + settings_.lifetime;
  engine_ = Engine::kStarting;
  Do(action::StartEngine{});
}

void AgentCore::On(const event::ShutdownRequested& requested) {
  BeginShutdown(requested.reason, absl::OkStatus());
}

void AgentCore::OpenStream() {
  connect_at_ = SteadyTime::InfiniteFuture();
  ++connect_attempts_;
  stream_open_ = true;
  attached_ = false;
  session_id_.clear();
  state_seq_ = 0;
  beats_.clear();
  heard_at_ = now_;
  for (auto& [task, held] : held_) {
    held.listed_in_beat = 0;
    held.desired_in_session = false;
  }
  v1::WorkerState first = MakeState();
  v1::Hello& hello = *first.mutable_hello();
  hello = settings_.hello;
  QSWEEP_CHECK(ready_.has_value());
  v1::Device& device = *hello.add_devices();
  device.set_name(ready_->device());
  device.set_kind(absl::StartsWith(ready_->device(), "cuda") ? "cuda" : "cpu");
  device.set_memory_bytes(ready_->memory_bytes());
  device.set_gflops(ready_->gflops());
  device.set_engine(ready_->fingerprint());
  *hello.mutable_evaluations() = ready_->evaluations();
  *hello.mutable_methods() = ready_->methods();
  Do(action::OpenStream{++stream_, std::move(first)});
}

void AgentCore::DropStream(SteadyTime retry_at) {
  stream_open_ = false;
  attached_ = false;
  connect_at_ = std::max(retry_at, going_away_until_);
}

void AgentCore::On(const event::StreamClosed& closed) {
  if (!stream_open_ || closed.stream != stream_) {
    return;
  }
  if (!leaving_.empty()) {
    DropStream(SteadyTime::InfiniteFuture());
    return;
  }
  if (IsFatal(closed.why)) {
    DropStream(SteadyTime::InfiniteFuture());
    BeginShutdown("the coordinator refuses this worker", closed.why);
    return;
  }
  const absl::Duration pause =
      FullJitterBackoff({.first = kReconnectFirst, .max = backoff_max_},
                        std::max(connect_attempts_, 1), random_);
  DropStream(now_ + pause);
  Note(absl::StrCat("lost the coordinator: ", closed.why.message(),
                    "; next attempt in ", absl::FormatDuration(pause)));
}

void AgentCore::On(const event::StateReceived& received) {
  if (!stream_open_ || received.stream != stream_) {
    return;
  }
  const v1::DesiredState& state = received.state;
  if (state.has_welcome()) {
    TakeWelcome(state.welcome());
  }
  if (!attached_ ||
      (state.state_seq() != 0 && state.state_seq() <= state_seq_)) {
    return;
  }
  state_seq_ = state.state_seq();
  TakeBeatAck(state.beat_ack());
  if (state.going_away()) {
    going_away_until_ = now_ + absl::Milliseconds(state.retry_after_ms());
  }
  if (!leaving_.empty()) {
    return;
  }
  if (state.drain() && !draining_) {
    draining_ = true;
    dirty_ = true;
    Note("draining: no new task");
    for (auto& [task, held] : held_) {
      if (held.stage == Stage::kFetching || held.stage == Stage::kWaiting) {
        Release(held, task, v1::RELEASE_REASON_DRAINED, absl::OkStatus());
      }
    }
  }
  TakeLeases(state);
}

void AgentCore::TakeWelcome(const v1::Welcome& welcome) {
  const auto take = [](absl::Duration& setting, uint64_t ms) {
    if (ms != 0) {
      setting = absl::Milliseconds(static_cast<int64_t>(ms));
    }
  };
  take(heartbeat_, welcome.heartbeat_ms());
  take(lease_ttl_, welcome.lease_ttl_ms());
  take(progress_deadline_, welcome.progress_deadline_ms());
  take(backoff_max_, welcome.reconnect_backoff_max_ms());
  session_id_ = welcome.session_id();
  connect_attempts_ = 0;
  going_away_until_ = SteadyTime();
  if (!attached_) {  // the welcome comes again until it was acknowledged
    attached_ = true;
    dirty_ = true;
    Note("attached to the coordinator");
  }
}

void AgentCore::TakeBeatAck(uint64_t beat_ack) {
  while (!beats_.empty() && beats_.front().seq <= beat_ack) {
    // The lease is counted from before the coordinator began to count, so this
    // worker gives up first.
    lease_until_ = beats_.front().sent_at + lease_ttl_;
    heard_at_ = now_;
    beats_.pop_front();
  }
}

v1::WorkerState AgentCore::MakeState() {
  v1::WorkerState state;
  state.set_session_id(session_id_);
  state.set_beat_seq(++beat_seq_);
  state.set_ack_seq(state_seq_);
  state.set_draining(draining_);
  state.set_goodbye(!leaving_.empty());
  state.set_reason(!leaving_.empty() ? leaving_ : draining_ ? "drain" : "");
  if (settings_.lifetime < absl::InfiniteDuration()) {
    state.set_lifetime_left_ms(static_cast<uint64_t>(
        std::max<int64_t>(1, absl::ToInt64Milliseconds(lifetime_end_ - now_))));
  }
  const bool able = engine_ == Engine::kIdle || engine_ == Engine::kBusy;
  state.set_credits(able && !draining_ && leaving_.empty() ? kCredits : 0);
  if (!resident_model_.empty()) {
    v1::ResidentModel& model = *state.add_models();
    model.set_digest(resident_model_);
    model.set_level(v1::ResidentModel::LEVEL_MEMORY);
  }
  for (auto& [task, held] : held_) {
    // A goodbye lists only results: everything else is given up.
    const bool result =
        held.stage == Stage::kSpooling || held.stage == Stage::kSpooled;
    if (held.cancelled || (!leaving_.empty() && !result)) {
      continue;
    }
    v1::HeldTask& listed = *state.add_held();
    listed.set_task_id(static_cast<uint64_t>(task.value()));
    listed.set_epoch(static_cast<uint64_t>(held.epoch.value()));
    *listed.mutable_progress() = held.progress;
    if (held.listed_in_beat == 0) {
      held.listed_in_beat = beat_seq_;
    }
  }
  beats_.push_back({beat_seq_, now_});
  last_beat_at_ = now_;
  dirty_ = false;
  progress_dirty_ = false;
  return state;
}

void AgentCore::SendBeatIfDue() {
  if (!attached_ || exited_) {
    return;
  }
  const absl::Duration since = now_ - last_beat_at_;
  if (dirty_ || since >= heartbeat_ ||
      (progress_dirty_ && since >= ProgressInterval())) {
    Do(action::SendState{MakeState()});
  }
}

void AgentCore::CheckTimers() {
  if (exited_) {
    return;
  }
  if (now_ >= lifetime_end_) {
    BeginShutdown("the time limit has come", absl::OkStatus());
  }
  if (stream_open_ && now_ >= heard_at_ + SilenceLimit()) {
    Note("the coordinator is silent: connecting again");
    Do(action::CloseStream{});
    DropStream(leaving_.empty() ? now_ : SteadyTime::InfiniteFuture());
  }
  CheckLeaseCount();
  CheckEngineTimers();
  if (draining_ && leaving_.empty() && held_.empty()) {
    BeginShutdown("drained", absl::OkStatus());
  }
  if (!leaving_.empty()) {
    ContinueShutdown();
  } else if (!stream_open_ && now_ >= connect_at_) {
    OpenStream();
  }
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
