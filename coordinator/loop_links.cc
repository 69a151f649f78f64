#include "coordinator/loop_links.h"

#include <algorithm>

#include "common/base/error_codes.h"
#include "coordinator/core/attach.h"

namespace qsweep {
namespace {

// A coordinator that goes away in good order is mostly being restarted.
constexpr uint64_t kRetryAfterMs = 1000;

}  // namespace

void Links::Open(const SessionId& session, const WorkerUuid& worker,
                 std::shared_ptr<WorkerLink> link, const absl::Status& why) {
  for (auto it = sessions_.begin(); it != sessions_.end();) {
    Session& old = it->second;
    const bool replaced =
        old.worker == worker || (link != nullptr && old.link == link);
    if (!replaced) {
      ++it;
      continue;
    }
    if (old.parked) {
      old.parked(why);
    }
    if (old.link != nullptr) {
      session_of_link_.erase(old.link.get());
      if (old.link != link) {
        Close(old.link, why);
      }
    }
    it = sessions_.erase(it);
  }
  if (link != nullptr) {
    session_of_link_[link.get()] = session;
  }
  sessions_[session] =
      Session{.worker = worker, .link = std::move(link), .dirty = true};
}

void Links::MarkDirty(const SessionId& session) {
  if (const auto it = sessions_.find(session); it != sessions_.end()) {
    it->second.dirty = true;
  }
}

void Links::Park(const SessionId& session, uint64_t beat,
                 Reply<v1::DesiredState> reply, SteadyTime until) {
  const auto it = sessions_.find(session);
  if (it == sessions_.end() || it->second.link != nullptr) {
    // A session on a stream is told things there, and nothing would ever answer
    // the poll.
    reply(MakeError(kUnknownSession,
                    it == sessions_.end() ? "session not known"
                                          : "the session is on a stream",
                    "", "Say hello again."));
    return;
  }
  if (it->second.parked) {
    if (beat < it->second.parked_beat) {  // one overtook the other
      std::swap(it->second.parked, reply);
      std::swap(it->second.parked_beat, beat);
    }
    it->second.parked(absl::AbortedError("a newer poll waits"));
  }
  it->second.parked = std::move(reply);
  it->second.parked_beat = beat;
  it->second.parked_until = until;
}

void Links::Close(const std::shared_ptr<WorkerLink>& link,
                  const absl::Status& why) {
  if (closed_.insert(link.get()).second) {
    link->Close(why);
  }
}

void Links::CloseOf(const State& state, const std::string& credential,
                    const absl::Status& why) {
  for (auto& [id, session] : sessions_) {
    const Worker* worker = state.FindWorker(session.worker);
    if (worker == nullptr || worker->credential != credential) {
      continue;
    }
    if (session.link != nullptr) {
      Close(session.link, why);
    }
    if (session.parked) {
      std::exchange(session.parked, nullptr)(why);
    }
  }
}

SessionId Links::Remove(const WorkerLink* link) {
  closed_.erase(link);
  const auto it = session_of_link_.find(link);
  if (it == session_of_link_.end()) {
    return SessionId();
  }
  const SessionId session = it->second;
  session_of_link_.erase(it);
  sessions_.erase(session);
  return session;
}

std::vector<WorkerUuid> Links::Reachable() const {
  std::vector<WorkerUuid> workers;
  for (const auto& [id, session] : sessions_) {
    const bool streams =
        session.link != nullptr && !IsClosed(session.link.get());
    if (streams || session.parked) {
      workers.push_back(session.worker);
    }
  }
  // Session ids are random; decisions must not depend on their order.
  std::ranges::sort(workers);
  return workers;
}

Links::LeaseList Links::LeasesOf(const State& state, const Worker& worker) {
  LeaseList leases;
  for (const TaskId id : worker.leases) {
    leases.emplace_back(id, state.task(id).epoch());
  }
  return leases;
}

std::vector<Mutation> Links::Push(const State& state, const Settings& settings,
                                  SteadyTime now) {
  std::vector<Mutation> mutations;
  for (auto& [id, session] : sessions_) {
    const Worker* worker = state.FindWorker(session.worker);
    if (worker == nullptr || worker->session != id ||
        (session.link == nullptr ? !session.parked
                                 : IsClosed(session.link.get()))) {
      continue;
    }
    LeaseList leases = LeasesOf(state, *worker);
    const bool changed = leases != session.sent;
    const bool due =
        session.link != nullptr ? session.dirty : session.parked_until <= now;
    if (!changed && !due) {
      continue;
    }
    v1::DesiredState desired = MakeDesiredState(state, *worker, settings);
    mutations.push_back(WorkerInformed{.worker = session.worker,
                                       .state_seq = desired.state_seq()});
    session.sent = std::move(leases);
    session.dirty = false;
    if (session.link != nullptr) {
      session.link->Send(std::move(desired));
    } else {
      std::exchange(session.parked, nullptr)(std::move(desired));
    }
  }
  return mutations;
}

SteadyTime Links::NextDeadline() const {
  SteadyTime next = SteadyTime::InfiniteFuture();
  for (const auto& [id, session] : sessions_) {
    if (session.parked) {
      next = std::min(next, session.parked_until);
    }
  }
  return next;
}

void Links::CloseAll(const State& state, const Settings& settings,
                     bool going_away, const absl::Status& why) {
  for (auto& [id, session] : sessions_) {
    const Worker* worker = state.FindWorker(session.worker);
    if (session.link != nullptr) {
      if (going_away && worker != nullptr && !IsClosed(session.link.get())) {
        v1::DesiredState desired = MakeDesiredState(state, *worker, settings);
        desired.set_going_away(true);
        desired.set_retry_after_ms(kRetryAfterMs);
        session.link->Send(std::move(desired));
      }
      Close(session.link, why);
    }
    if (session.parked) {
      session.parked(why);
    }
  }
  sessions_.clear();
  session_of_link_.clear();
}

}  // namespace qsweep
