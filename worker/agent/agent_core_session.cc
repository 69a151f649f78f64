// The stream to the coordinator: who we are, what we say, what we hear. Time
// and the way out: agent_core.cc.
#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "worker/agent/agent_core.h"

namespace qsweep {
namespace {

constexpr absl::Duration kReconnectFirst = absl::Seconds(1);
// Of the time without a coordinator so far, the longest pause.
constexpr int64_t kReconnectPart = 4;
// Then the next session polls.
constexpr int kBrokenStreams = 3;
constexpr uint32_t kCredits = 2;  // one task runs, one is fetched ahead

bool HasCode(const absl::Status& status, const ErrorCode& code) {
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  return info && info->code == code.code;
}

// The coordinator will never take this worker: trying again is no use.
bool IsFatal(const absl::Status& status) {
  return absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status) ||
         absl::IsUnimplemented(status) || HasCode(status, kProtocolVersion);
}

}  // namespace

// A result that is committed makes room for the next lease by itself: no beat
// is needed for that, and one for each step of a short task would cost more
// than the task.
absl::Duration AgentCore::TaskInterval() const { return heartbeat_ / 100; }

absl::Duration AgentCore::ProgressInterval() const { return heartbeat_ / 10; }

absl::Duration AgentCore::SilenceLimit() const {
  return std::max(3 * heartbeat_, lease_ttl_ / 2);
}

void AgentCore::OpenStream() {
  connect_at_ = SteadyTime::InfiniteFuture();
  stream_open_ = true;
  attached_ = false;
  session_id_.clear();
  state_seq_ = 0;
  beats_.clear();
  heard_at_ = now_;
  // Whoever answers has seen this state first, so what it wants is not what
  // ended before. And its numbers may mean other tasks: a backup was restored.
  ended_.clear();
  ended_order_.clear();
  for (auto& [task, held] : held_) {
    held.listed_in_beat = 0;
    held.desired_in_session = false;
  }
  v1::WorkerState first = MakeState();
  v1::Hello& hello = *first.mutable_hello();
  hello = hello_;
  QSWEEP_CHECK(ready_.has_value());
  v1::Device& device = *hello.add_devices();
  device.set_name(ready_->device());
  device.set_kind(absl::StartsWith(ready_->device(), "cuda") ? "cuda" : "cpu");
  device.set_memory_bytes(ready_->memory_bytes());
  device.set_gflops(ready_->gflops());
  device.set_compute_capability(ready_->compute_capability());
  device.set_engine(ready_->fingerprint());
  *device.mutable_computes() = ready_->computes();
  *hello.mutable_evaluations() = ready_->evaluations();
  *hello.mutable_methods() = ready_->methods();
  polling_ =
      settings_.control == Control::kPoll || broken_streams_ == kBrokenStreams;
  if (polling_ && settings_.control == Control::kStream) {
    broken_streams_ = 0;
    Note("streams do not get through: polling; --control poll saves the tries");
  }
  Do(action::OpenStream{++stream_, std::move(first), polling_});
}

void AgentCore::DropStream(SteadyTime retry_at) {
  if (attached_) {
    unattached_since_ = now_;
  }
  stream_open_ = false;
  attached_ = false;
  connect_at_ = std::max(retry_at, going_away_until_);
}

// A stream that ends before its first word although there is a connection:
// something on the way does not let streams pass.
void AgentCore::CountBrokenStream(bool connected) {
  if (attached_) {
    broken_streams_ = 0;
  } else if (connected && !polling_) {
    ++broken_streams_;
  }
}

// Soon after a restart of the coordinator, ever more seldom while it stays
// away: never longer than a part of the time it has been away already.
absl::Duration AgentCore::ReconnectPause() {
  const absl::Duration away = now_ - unattached_since_;
  return std::min(std::max(away / kReconnectPart, kReconnectFirst),
                  backoff_max_) *
         random_.Uniform();
}

// A copy of our folder runs elsewhere. Two processes under one name would evict
// each other for ever; what we hold on disk names its grant and stays ours.
void AgentCore::LeaveIdentity() {
  DropStream(SteadyTime::InfiniteFuture());
  lease_until_ = SteadyTime();
  for (auto it = held_.begin(); it != held_.end();) {
    const Stage stage = it->second.stage;
    it = stage == Stage::kFetching || stage == Stage::kWaiting ? Forget(it)
                                                               : std::next(it);
  }
  Note("another process has this worker's identity: going on under a new one");
  Do(action::TakeNewIdentity{});
}

void AgentCore::On(const event::IdentityTaken& taken) {
  hello_.set_worker_uuid(taken.worker_uuid);
  if (leaving_.empty() && !stream_open_) {
    connect_at_ = now_;
  }
}

void AgentCore::On(const event::StreamClosed& closed) {
  if (!stream_open_ || closed.stream != stream_) {
    return;
  }
  if (!leaving_.empty()) {
    DropStream(SteadyTime::InfiniteFuture());
    return;
  }
  if (HasCode(closed.why, kWorkerSuperseded)) {
    LeaveIdentity();
    return;
  }
  // A worker that was attached keeps what it has: its coordinator may get its
  // certificate back. One that never was is wrongly set up.
  const bool other_certificate =
      was_attached_ && (HasCode(closed.why, kWrongCertificate) ||
                        HasCode(closed.why, kCertificateExpired));
  if (IsFatal(closed.why) && !other_certificate) {
    DropStream(SteadyTime::InfiniteFuture());
    BeginShutdown("the coordinator refuses this worker", closed.why);
    return;
  }
  CountBrokenStream(!HasCode(closed.why, kUnreachable));
  DropStream(SteadyTime::InfiniteFuture());
  const absl::Duration pause = ReconnectPause();
  connect_at_ = std::max(now_ + pause, going_away_until_);
  if (!other_certificate) {
    Note(absl::StrCat("lost the coordinator: ", closed.why.message(),
                      "; next attempt in ", absl::FormatDuration(pause)));
  } else if (!std::exchange(told_of_certificate_, true)) {
    Note(absl::StrCat(closed.why.message(),
                      "; results stay in the spool, and it tries on"));
  }
}

void AgentCore::On(const event::StateReceived& received) {
  if (!stream_open_ || received.stream != stream_) {
    return;
  }
  const v1::DesiredState& state = received.state;
  if (state.has_welcome() && !TakeWelcome(state.welcome())) {
    return;
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
  if (state.drain()) {
    const uint64_t ms = state.drain_deadline_ms();
    BeginDrain("drain",
               ms == 0 ? SteadyTime::InfiniteFuture()
                       : now_ + absl::Milliseconds(static_cast<int64_t>(ms)),
               v1::RELEASE_REASON_DRAINED);
  } else if (drained_by_server_) {
    drained_by_server_ = false;
    draining_ = false;
    drain_until_ = SteadyTime::InfiniteFuture();
    dirty_ = true;
    Note("not draining any more");
  }
  TakeLeases(state);
  // Without a poll in its turn the coordinator could not reach us.
  dirty_ |= polling_;
}

bool AgentCore::TakeWelcome(const v1::Welcome& welcome) {
  if (welcome.protocol() < hello_.protocol_min() ||
      welcome.protocol() > hello_.protocol_max()) {
    Do(action::CloseStream{});
    DropStream(SteadyTime::InfiniteFuture());
    BeginShutdown(
        "the coordinator speaks another protocol",
        MakeError(
            kProtocolVersion,
            absl::StrCat("the coordinator chose protocol version ",
                         welcome.protocol(), ", this worker speaks ",
                         hello_.protocol_min(), " to ", hello_.protocol_max()),
            "welcome.protocol", "Install the same release on both machines."));
    return false;
  }
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
  going_away_until_ = SteadyTime();
  if (!attached_) {  // the welcome comes again until it was acknowledged
    attached_ = true;
    was_attached_ = true;
    told_of_certificate_ = false;
    dirty_ = true;
    Note("attached to the coordinator");
  }
  return true;
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
  state.set_reason(!leaving_.empty()   ? leaving_
                   : draining_         ? drain_reason_
                   : !spool_full_.ok() ? absl::StrCat(kSpoolFull.code, ": ",
                                                      spool_full_.message())
                                       : "");
  if (settings_.lifetime < absl::InfiniteDuration()) {
    state.set_lifetime_left_ms(static_cast<uint64_t>(
        std::max<int64_t>(1, absl::ToInt64Milliseconds(lifetime_end_ - now_))));
  }
  const bool able = engine_ == Engine::kIdle || engine_ == Engine::kBusy;
  state.set_credits(able && !RefusesWork() && leaving_.empty() ? kCredits : 0);
  const auto add_model = [&state](const std::string& digest,
                                  v1::ResidentModel::Level level) {
    v1::ResidentModel& model = *state.add_models();
    model.set_digest(digest);
    model.set_level(level);
  };
  if (!resident_model_.empty()) {
    add_model(resident_model_, v1::ResidentModel::LEVEL_MEMORY);
  }
  for (const std::string& digest : disk_models_) {
    if (digest != resident_model_) {
      add_model(digest, v1::ResidentModel::LEVEL_DISK);
    }
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
  tasks_dirty_ = false;
  progress_dirty_ = false;
  return state;
}

void AgentCore::SendBeatIfDue() {
  if (!attached_ || exited_) {
    return;
  }
  // A poll is answered within a heartbeat, and the answer is the cue for the
  // next; only what cannot wait so long overtakes it.
  const absl::Duration since = now_ - last_beat_at_;
  if (dirty_ || (polling_ && tasks_dirty_) ||
      (!polling_ &&
       (since >= heartbeat_ || (tasks_dirty_ && since >= TaskInterval()) ||
        (progress_dirty_ && since >= ProgressInterval())))) {
    Do(action::SendState{MakeState()});
  }
}

}  // namespace qsweep
