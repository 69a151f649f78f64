// What the engine does next and what becomes of it. Session, time and the way
// out: agent_core.cc.
#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/digest.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/rpc/retry.h"
#include "worker/agent/agent_core.h"

namespace qsweep {
namespace {

constexpr absl::Duration kRestartFirst = absl::Seconds(1);
constexpr absl::Duration kRestartMax = absl::Seconds(30);
constexpr absl::Duration kLoadDeadline = absl::Minutes(30);
constexpr int kStartsTried = 4;  // in a row

TaskId ToTaskId(uint64_t id) { return TaskId(static_cast<int64_t>(id)); }

}  // namespace

AgentCore::HeldTasks::iterator AgentCore::Running() {
  auto it = held_.begin();
  while (it != held_.end() && it->second.stage != Stage::kRunning) {
    ++it;
  }
  return it;
}

// Nothing starts on a lease that may have been given to somebody else: after a
// long stop or silence an acknowledged beat comes first.
void AgentCore::StartNextRun() {
  if (exited_ || !leaving_.empty() || engine_ != Engine::kIdle ||
      LeaseRunsOut() || !spool_full_.ok()) {
    return;
  }
  auto next = held_.end();
  for (auto it = held_.begin(); it != held_.end(); ++it) {
    if (it->second.stage == Stage::kWaiting &&
        (next == held_.end() || it->second.grant < next->second.grant)) {
      next = it;
    }
  }
  if (next == held_.end()) {
    return;
  }
  Held& held = next->second;
  held.stage = Stage::kRunning;
  held.run_at = now_;
  held.progressed_at = now_;
  engine_ = Engine::kBusy;
  tasks_dirty_ = true;
  Do(action::Run{std::exchange(held.run, nullptr)});
}

// A model is hashed and read in one go, which shows no progress and on a slow
// disk takes longer than any step of the run itself. Calibration, which is part
// of loading, shows each of its steps.
SteadyTime AgentCore::StalledAt(const Held& held) const {
  return held.progress.phase() == v1::TASK_PHASE_RUN
             ? held.progressed_at + progress_deadline_
             : held.progressed_at + kLoadDeadline;
}

void AgentCore::Kill() {
  kill_at_ = SteadyTime::InfiniteFuture();
  if (engine_ != Engine::kDown && engine_ != Engine::kDying) {
    engine_ = Engine::kDying;
    Do(action::KillEngine{});
  }
}

void AgentCore::On(const event::EngineBecameReady& became) {
  if (engine_ != Engine::kStarting) {
    return;
  }
  engine_ = Engine::kIdle;
  dirty_ = true;
  start_failures_ = 0;
  const bool first = !ready_.has_value();
  ready_ = became.ready;
  if (first) {
    unattached_since_ = now_;
    connect_at_ = now_;  // the hello says what the engine can do
  }
}

void AgentCore::On(const event::EngineProgressed& progressed) {
  const auto running = Running();
  if (running == held_.end() ||
      running->first != ToTaskId(progressed.progress.task_id())) {
    return;
  }
  Held& held = running->second;
  const v1::TaskPhase old_phase = held.progress.phase();
  const uint64_t seq = held.progress.progress_seq() + 1;
  held.progress = progressed.progress.progress();
  held.progress.set_progress_seq(seq);
  held.progressed_at = now_;
  if (held.progress.phase() == v1::TASK_PHASE_RUN) {
    NoticeModel(held.spec);
  }
  // What waits behind a task that moves is not stalled.
  for (auto& [task, other] : held_) {
    if (other.stage == Stage::kWaiting) {
      other.progress.set_progress_seq(other.progress.progress_seq() + 1);
    }
  }
  (old_phase != held.progress.phase() ? tasks_dirty_ : progress_dirty_) = true;
}

void AgentCore::NoticeModel(const v1::TaskSpec& spec) {
  constexpr size_t kDiskModelsMax = 16;
  resident_model_ = spec.model_digest();
  const auto known = std::ranges::find(disk_models_, resident_model_);
  if (known != disk_models_.end()) {
    std::rotate(disk_models_.begin(), known, std::next(known));
    return;
  }
  disk_models_.insert(disk_models_.begin(), resident_model_);
  disk_models_.resize(std::min(disk_models_.size(), kDiskModelsMax));
  Do(action::KeepModel{resident_model_, spec.model().path()});
}

// The engine has nothing to do any more.
void AgentCore::EndRun(HeldTasks::iterator it) {
  kill_at_ = SteadyTime::InfiniteFuture();
  if (engine_ == Engine::kBusy) {
    engine_ = Engine::kIdle;
  }
  resident_model_ = it->second.spec.model_digest();
  tasks_dirty_ = true;
}

void AgentCore::On(const event::EngineFinished& finished) {
  const auto running = Running();
  if (running == held_.end() ||
      running->first != ToTaskId(finished.done.task_id())) {
    return;
  }
  EndRun(running);
  Held& held = running->second;
  if (held.cancelled) {
    Forget(running);
    return;
  }
  action::SpoolResult spool;
  spool.lease = {running->first, held.epoch};
  v1::ResultEnvelope& envelope = spool.envelope;
  envelope.set_task_id(finished.done.task_id());
  envelope.set_epoch(static_cast<uint64_t>(held.epoch.value()));
  envelope.set_worker_uuid(held.worker_uuid);
  envelope.set_session_id(held.session_id);
  envelope.set_content_key(held.spec.content_key());
  envelope.set_payload(finished.done.result().SerializeAsString());
  envelope.set_payload_sha256(Digest::Of(envelope.payload()).bytes());
  held.stage = Stage::kSpooling;
  // The partial sums stay: the last ones may not have left yet.
  held.progress.set_progress_seq(held.progress.progress_seq() + 1);
  held.progress.set_phase(v1::TASK_PHASE_COMMIT);
  held.progress.clear_fraction();
  held.progress.clear_text();
  Do(std::move(spool));
}

void AgentCore::On(const event::EngineRefused& refused) {
  const auto running = Running();
  if (running == held_.end() ||
      running->first != ToTaskId(refused.failed.task_id())) {
    return;
  }
  EndRun(running);
  if (running->second.cancelled) {
    Forget(running);
    return;
  }
  ReleaseWithFailure(running->second, running->first, v1::RELEASE_REASON_FAILED,
                     refused.failed.failure());
}

void AgentCore::On(const event::EngineExited& exited) {
  const auto running = Running();
  if (running != held_.end()) {
    Held& held = running->second;
    if (held.cancelled) {
      Forget(running);
    } else if (held.stalled) {
      const bool ran = held.progress.phase() == v1::TASK_PHASE_RUN;
      Release(
          held, running->first, v1::RELEASE_REASON_STALLED,
          MakeError(kEngineStalled,
                    absl::StrCat(ran ? "no progress for "
                                     : "no progress in loading the model for ",
                                 absl::FormatDuration(ran ? progress_deadline_
                                                          : kLoadDeadline),
                                 "; the engine was killed")));
    } else {
      Release(held, running->first, v1::RELEASE_REASON_FAILED, exited.why);
    }
  }
  const bool was_ready = engine_ != Engine::kStarting;
  engine_ = Engine::kDown;
  kill_at_ = SteadyTime::InfiniteFuture();
  resident_model_.clear();
  dirty_ = true;
  if (!leaving_.empty()) {
    return;
  }
  start_failures_ = was_ready ? 0 : start_failures_ + 1;
  // An engine that never worked and ended by itself says what is wrong.
  const bool hopeless = !ready_ && !exited.killed;
  if (hopeless || start_failures_ == kStartsTried) {
    BeginShutdown("the engine does not start", exited.why);
    return;
  }
  start_at_ = start_failures_ == 0
                  ? now_
                  : now_ + FullJitterBackoff(
                               {.first = kRestartFirst, .max = kRestartMax},
                               start_failures_, random_);
  Note(absl::StrCat("the engine ended: ", exited.why.message()));
}

void AgentCore::CheckEngineTimers() {
  if (now_ >= start_at_) {
    start_at_ = SteadyTime::InfiniteFuture();
    engine_ = Engine::kStarting;
    Do(action::StartEngine{});
  }
  if (now_ >= kill_at_) {
    Kill();
  }
  const auto running = Running();
  if (running != held_.end() && engine_ == Engine::kBusy &&
      !running->second.cancelled && now_ >= StalledAt(running->second)) {
    running->second.stalled = true;
    Kill();
  }
}

}  // namespace qsweep
