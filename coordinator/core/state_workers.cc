// What State makes of mutations about workers and tokens.
#include <memory>
#include <utility>

#include "common/base/check.h"
#include "coordinator/core/state.h"

namespace qsweep {

void State::On(const WorkerTimeAdded& m) {
  Worker& worker = workers_.at(m.worker);
  worker.attached += m.attached;
  worker.counted_until = worker.counted_until + m.attached;
  worker.last_seen = m.time;
}

void State::On(const WorkerAttached& m) {
  Worker& worker = workers_[m.worker];
  if (worker.liveness == WorkerLiveness::kLost) {
    worker.counted_until = m.now;
  }
  const bool same_process = worker.boot == m.boot && !m.boot.empty();
  worker.uuid = m.worker;
  worker.name = m.hello->name();
  worker.build_id = m.hello->build_id();
  worker.devices = {m.hello->devices().begin(), m.hello->devices().end()};
  worker.boot_seq = m.boot_seq;
  worker.credential = m.credential;
  worker.last_seen = m.time;
  worker.liveness = WorkerLiveness::kLive;
  worker.session = m.session;
  worker.boot = m.boot;
  worker.hello = m.hello;
  worker.state.reset();
  if (!same_process) {
    worker.attached_at = m.now;
    worker.loaded = Digest();
  }
  worker.seen_at = m.now;
  worker.deadline = m.deadline;
  worker.beat_seq = 0;
  worker.state_seq = 0;
  for (const TaskId id : worker.leases) {
    tasks_.at(id).lease->sent_seq = 0;  // of another session: not seen in this
  }
}

void State::On(const WorkerModeChanged& m) {
  Worker& worker = workers_.at(m.worker);
  worker.mode = m.mode;
  worker.mode_reason = m.reason;
  worker.drain_deadline = m.drain_deadline;
  if (m.mode == WorkerMode::kOpen) {
    worker.blamed = 0;
  }
}

void State::On(const WorkerForgotten& m) {
  const auto worker = workers_.find(m.worker);
  QSWEEP_CHECK(worker->second.leases.empty());
  workers_.erase(worker);
}

void State::On(const WorkerBlamed& m) { ++workers_.at(m.worker).blamed; }

void State::On(const WorkerReported& m) {
  Worker& worker = workers_.at(m.worker);
  worker.state = m.state;
  worker.beat_seq = m.state->beat_seq();
  worker.seen_at = m.now;
  worker.deadline = m.deadline;
  worker.liveness = WorkerLiveness::kLive;
}

void State::On(const WorkerLivenessChanged& m) {
  workers_.at(m.worker).liveness = m.to;
}

void State::On(const WorkerInformed& m) {
  Worker& worker = workers_.at(m.worker);
  worker.state_seq = m.state_seq;
  for (const TaskId id : worker.leases) {
    Lease& lease = *tasks_.at(id).lease;
    if (lease.sent_seq == 0) {
      lease.sent_seq = m.state_seq;
    }
  }
}

void State::On(const TokenAdded& m) {
  QSWEEP_CHECK(m.token.id >= next_token());
  if (m.token.joined_with.valid()) {
    ++tokens_.at(m.token.joined_with).uses;
  }
  QSWEEP_CHECK(token_of_secret_.emplace(m.token.secret, m.token.id).second);
  tokens_.emplace(m.token.id, m.token);
}

void State::On(const TokenRotated& m) {
  Token& token = tokens_.at(m.token);
  token_of_secret_.erase(token.secret);
  token.secret = m.secret;
  QSWEEP_CHECK(token_of_secret_.emplace(m.secret, m.token).second);
}

void State::On(const TokenRevoked& m) {
  tokens_.at(m.token).revoked_at = m.revoked_at;
}

void State::On(const AuditRecorded&) {}

}  // namespace qsweep
