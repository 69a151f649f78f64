// The coordinator of a SmallWorld: what the loop does, one message a step.
#include <algorithm>
#include <type_traits>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "coordinator/core/attach.h"
#include "coordinator/core/commit.h"
#include "coordinator/core/lease.h"
#include "tests/sim/small_world.h"

namespace qsweep::sim {

void SmallWorld::Apply(Coordinator& c, const std::vector<Mutation>& mutations) {
  for (const Mutation& mutation : mutations) {
    if (const auto* result = std::get_if<ResultCommitted>(&mutation)) {
      for (const MeasuredRow& row : result->rows) {
        if (!c.measured
                 .emplace(std::pair(row.configuration, row.document),
                          row.values)
                 .second) {
          problems_.push_back(absl::StrCat("a measurement of task ",
                                           result->task.value(),
                                           " was written twice"));
        }
      }
    }
    c.state.Apply(mutation);
  }
}

void SmallWorld::Meet(const Message& message) {
  const std::shared_ptr<const Coordinator> before = coordinator_;
  Coordinator& c = Change();
  sent_ = 0;
  c.history = absl::HashOf(c.history, message.id,
                           absl::ToInt64Microseconds(now_.since_boot()));
  const auto meet = [&](const auto& body) {
    using T = std::decay_t<decltype(body)>;
    if constexpr (std::is_same_v<T, Report>) {
      MeetReport(c, message.worker, body);
    } else if constexpr (std::is_same_v<T, v1::ResultEnvelope>) {
      MeetResult(c, message.worker, body);
    } else if constexpr (std::is_same_v<T, v1::ReleaseTaskRequest>) {
      MeetRelease(c, message.worker, body);
    } else if constexpr (std::is_same_v<T, Hangup>) {
      const auto link = std::ranges::find_if(c.links, [&](const auto& entry) {
        return entry.second.worker == message.worker &&
               entry.second.stream == body.stream;
      });
      if (link != c.links.end()) {
        Apply(c, DecideDetach(c.state, link->second.session));
        c.links.erase(link);
      }
    }
  };
  std::visit(meet, message.body);
  TickCoordinator(c);
  GrantAndPush(c);
  Check(before->state, c.state);
}

void SmallWorld::MeetReport(Coordinator& c, int worker, const Report& report) {
  const SessionId session = *SessionId::FromBytes(
      Digest::Of(absl::StrCat("session ", c.history)).bytes().substr(0, 16));
  auto decision = DecideWorkerState(
      c.state, "", std::make_shared<const v1::WorkerState>(report.state),
      session, settings_, now());
  if (!decision.reply.ok()) {
    Send(worker, c.history, Closed{report.stream, decision.reply.status()});
    return;
  }
  const WorkerUuid uuid = decision.reply->worker;
  const Worker* known = c.state.FindWorker(uuid);
  const bool same_process =
      known != nullptr && known->boot.bytes() == report.state.hello().boot_id();
  Apply(c, decision.mutations);
  if (report.state.has_hello()) {
    const auto old = c.links.find(uuid);
    if (old != c.links.end() && old->second.stream != report.stream) {
      Send(old->second.worker, c.history,
           Closed{old->second.stream,
                  same_process ? absl::UnavailableError("attached again")
                               : MakeError(kWorkerSuperseded, "a newer one")});
    }
    c.links[uuid] = {.worker = worker,
                     .stream = report.stream,
                     .session = session,
                     .dirty = true,
                     .sent = {}};
  }
  for (const EndedLease& ended : decision.reply->ended) {
    if (c.state.task(ended.task).lease) {
      Apply(c, DecideLeaseEnd(c.state, ended.task, ended.end, ended.reason,
                              true, settings_, now()));
    }
  }
  const auto link = c.links.find(uuid);
  if (link != c.links.end() &&
      link->second.session == c.state.FindWorker(uuid)->session) {
    link->second.dirty = true;
  }
}

void SmallWorld::MeetResult(Coordinator& c, int worker,
                            const v1::ResultEnvelope& envelope) {
  const LeaseKey lease = {TaskId(static_cast<int64_t>(envelope.task_id())),
                          Epoch(static_cast<int64_t>(envelope.epoch()))};
  absl::StatusOr<v1::TaskResult> result = OpenEnvelope(c.state, "", envelope);
  if (!result.ok()) {
    problems_.push_back(
        absl::StrCat("a result was refused: ", result.status().ToString()));
    return;
  }
  const Task& task = c.state.task(lease.task);
  v1::CommitResultResponse::One one;
  if (task.state == v1::TASK_STATE_DONE) {  // its keys are in the store
    one.set_outcome(lease.epoch == task.history->result_epoch
                        ? v1::COMMIT_OUTCOME_ALREADY_COMMITTED
                        : v1::COMMIT_OUTCOME_SUPERSEDED);
  } else {
    const TaskKeys keys = KeysOfTask(c.state, task);
    std::vector<std::optional<StoredRow>> stored;
    for (const Digest& configuration : keys.configurations) {
      for (const Digest& document : keys.documents) {
        const auto it = c.measured.find({configuration, document});
        auto& row = stored.emplace_back();
        if (it != c.measured.end()) {
          row.emplace().values = it->second;
        }
      }
    }
    auto decision = DecideCommit(c.state, envelope, *std::move(result), keys,
                                 stored, {}, settings_, now());
    QSWEEP_CHECK(decision.reply.ok());
    Apply(c, decision.mutations);
    one = *std::move(decision.reply);
  }
  Send(worker, c.history, CommitAnswer{lease, std::move(one)});
}

void SmallWorld::MeetRelease(Coordinator& c, int worker,
                             const v1::ReleaseTaskRequest& request) {
  auto decision = DecideRelease(c.state, "", request, settings_, now());
  QSWEEP_CHECK(decision.reply.ok());
  Apply(c, decision.mutations);
  Send(worker, c.history,
       ReleaseAnswer{{TaskId(static_cast<int64_t>(request.task_id())),
                      Epoch(static_cast<int64_t>(request.epoch()))}});
}

void SmallWorld::TickCoordinator(Coordinator& c) {
  for (int64_t id = 1; id <= kTasks; ++id) {
    Apply(c, DecideTimeout(c.state, TaskId(id), settings_, now()));
  }
  std::vector<WorkerUuid> workers;
  for (const auto& [uuid, worker] : c.state.workers()) {
    workers.push_back(uuid);
  }
  for (const WorkerUuid& uuid : workers) {
    Apply(c, DecideWorkerTimeout(c.state, uuid, settings_, now()));
  }
}

void SmallWorld::GrantAndPush(Coordinator& c) {
  std::vector<WorkerUuid> reachable;
  for (const auto& [uuid, link] : c.links) {
    reachable.push_back(uuid);
  }
  while (!reachable.empty()) {
    std::erase_if(reachable, [&](const WorkerUuid& uuid) {
      auto decision = DecideLease(c.state, uuid, settings_, now());
      const bool granted = decision.reply.ok() && decision.reply->has_value();
      Apply(c, decision.mutations);
      return !granted;
    });
  }
  for (auto& [uuid, link] : c.links) {
    const Worker& worker = *c.state.FindWorker(uuid);
    Leases leases;
    for (const TaskId id : worker.leases) {
      leases.emplace_back(id, c.state.task(id).epoch());
    }
    if (worker.session != link.session ||
        (!link.dirty && leases == link.sent)) {
      continue;
    }
    v1::DesiredState desired = MakeDesiredState(c.state, worker, settings_);
    Apply(c,
          {WorkerInformed{.worker = uuid, .state_seq = desired.state_seq()}});
    link.sent = std::move(leases);
    link.dirty = false;
    Send(link.worker, c.history, Desired{link.stream, std::move(desired)});
  }
}

void SmallWorld::Check(const State& before, const State& after) {
  for (const std::string& problem : CheckInvariants(after)) {
    problems_.push_back(problem);
  }
  for (const auto& [id, task] : before.tasks()) {
    const Task& now_it = after.task(id);
    if (task.state == v1::TASK_STATE_DONE &&
        (now_it.state != v1::TASK_STATE_DONE ||
         now_it.history->result_digest != task.history->result_digest)) {
      problems_.push_back(
          absl::StrCat("task ", id.value(), " was done and is not any more"));
    }
    if (now_it.epoch() < task.epoch() ||
        now_it.state == v1::TASK_STATE_QUARANTINED) {
      problems_.push_back(
          absl::StrCat("task ", id.value(), " went back or was given up"));
    }
  }
  for (const auto& [uuid, worker] : after.workers()) {
    if (worker.leases.size() > 2) {
      problems_.push_back("a worker has more leases than credits");
    }
  }
}

}  // namespace qsweep::sim
