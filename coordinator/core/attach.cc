#include "coordinator/core/attach.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "coordinator/core/estimate.h"
#include "coordinator/core/worker_state_check.h"

namespace qsweep {
namespace {

// A hello, checked.
struct Greeting {
  WorkerUuid worker;
  BootId boot;
  bool new_process = false;  // not the process we knew under this worker_uuid
};

// Each hello under a new worker_uuid is a row for ever, and each step of the
// loop looks at all workers.
absl::Status CheckRoomForWorker(const State& state,
                                const std::string& credential,
                                const Settings& settings) {
  const auto live =
      std::ranges::count_if(state.workers(), [&credential](const auto& entry) {
        return entry.second.credential == credential &&
               entry.second.liveness != WorkerLiveness::kLost;
      });
  return live < settings.workers_per_credential
             ? absl::OkStatus()
             : MakeError(kOverloaded,
                         absl::StrCat(live,
                                      " workers are attached with this "
                                      "credential"),
                         "hello.worker_uuid",
                         "Join each worker with qctl tokens create, or try "
                         "again when some have left.");
}

absl::StatusOr<Greeting> CheckHello(const State& state,
                                    const std::string& credential,
                                    const v1::Hello& hello,
                                    const Settings& settings) {
  QSWEEP_RETURN_IF_ERROR(CommonProtocol(hello).status());
  Greeting greeting;
  const auto uuid = WorkerUuid::FromBytes(hello.worker_uuid());
  const auto boot = BootId::FromBytes(hello.boot_id());
  if (!uuid.ok() || !boot.ok() || uuid->empty()) {
    return MakeError(kBadValue, "worker_uuid and boot_id must be 16 bytes",
                     "hello.worker_uuid");
  }
  greeting.worker = *uuid;
  greeting.boot = *boot;
  const Worker* known = state.FindWorker(*uuid);
  if (known == nullptr) {
    QSWEEP_RETURN_IF_ERROR(CheckRoomForWorker(state, credential, settings));
    greeting.new_process = true;
    return greeting;
  }
  if (hello.boot_seq() < known->boot_seq) {
    return MakeError(kWorkerSuperseded, "a newer process has this worker_uuid");
  }
  if (known->liveness == WorkerLiveness::kLive &&
      known->credential != credential) {
    return MakeError(kNotAllowed,
                     "the worker_uuid is in use with another credential");
  }
  // After a restart of the coordinator the boot id is unknown: the same
  // boot_seq is the same process then. Not under another credential: a result
  // of what was granted to the old one would be refused.
  greeting.new_process = hello.boot_seq() > known->boot_seq ||
                         known->credential != credential ||
                         (!known->boot.empty() && known->boot != greeting.boot);
  return greeting;
}

std::map<TaskId, const v1::HeldTask*> HeldTasks(const v1::WorkerState& report) {
  std::map<TaskId, const v1::HeldTask*> held;
  for (const v1::HeldTask& task : report.held()) {
    // Of two epochs of one task the newer counts.
    const v1::HeldTask*& slot =
        held[TaskId(static_cast<int64_t>(task.task_id()))];
    if (slot == nullptr || task.epoch() > slot->epoch()) {
      slot = &task;
    }
  }
  return held;
}

bool IsListed(const std::map<TaskId, const v1::HeldTask*>& held,
              const Task& task) {
  const auto it = held.find(task.id);
  return it != held.end() &&
         it->second->epoch() == static_cast<uint64_t>(task.epoch().value());
}

// The worker has the result of an older grant, which will settle the task: it
// did not begin again, and did not give up.
bool HasResult(const std::map<TaskId, const v1::HeldTask*>& held,
               const Task& task) {
  const auto it = held.find(task.id);
  return it != held.end() &&
         it->second->progress().phase() == v1::TASK_PHASE_COMMIT;
}

std::optional<EndedLease> EndOfUnlisted(const Task& task,
                                        const v1::WorkerState& report,
                                        bool new_process, bool keeps_it) {
  if (report.goodbye()) {
    return EndedLease{.task = task.id,
                      .end = LeaseEnd::kPreempted,
                      .reason = report.reason()};
  }
  if (new_process) {
    return EndedLease{.task = task.id,
                      .end = LeaseEnd::kLost,
                      .reason = "the worker started again without it"};
  }
  const uint64_t sent_seq = task.lease->sent_seq;
  if (!keeps_it && sent_seq > 0 && report.ack_seq() >= sent_seq) {
    return EndedLease{.task = task.id,
                      .end = LeaseEnd::kLost,
                      .reason = "the worker gave it up"};
  }
  return std::nullopt;  // on its way: it is sent again
}

}  // namespace

absl::StatusOr<uint32_t> CommonProtocol(const v1::Hello& hello,
                                        ProtocolRange ours) {
  const uint32_t newest = std::min(hello.protocol_max(), ours.max);
  if (newest >= std::max(hello.protocol_min(), ours.min)) {
    return newest;
  }
  return MakeError(
      kProtocolVersion,
      absl::StrCat("the worker speaks protocol versions ", hello.protocol_min(),
                   " to ", hello.protocol_max(), ", the coordinator ", ours.min,
                   " to ", ours.max),
      "hello.protocol_max", "Install the same release on both machines.");
}

Decision<AttachReply> DecideWorkerState(
    const State& state, const std::string& credential,
    std::shared_ptr<const v1::WorkerState> report, const SessionId& new_session,
    const Settings& settings, const Now& now) {
  if (absl::Status sane = CheckWorkerState(*report); !sane.ok()) {
    return {.reply = std::move(sane)};
  }
  Decision<AttachReply> decision{.reply = AttachReply()};
  AttachReply& reply = *decision.reply;
  const SteadyTime deadline = now.steady + settings.lease_ttl;
  bool new_process = false;
  SessionId session = new_session;
  if (report->has_hello()) {
    const auto greeting =
        CheckHello(state, credential, report->hello(), settings);
    if (!greeting.ok()) {
      return {.reply = greeting.status()};
    }
    new_process = greeting->new_process;
    reply.worker = greeting->worker;
    decision.mutations.push_back(WorkerAttached{
        .worker = greeting->worker,
        .session = new_session,
        .boot = greeting->boot,
        .boot_seq = report->hello().boot_seq(),
        .credential = credential,
        .hello = std::make_shared<const v1::Hello>(report->hello()),
        .time = now.wall,
        .now = now.steady,
        .deadline = deadline});
  } else {
    const auto named = SessionId::FromBytes(report->session_id());
    const Worker* known =
        named.ok() ? state.FindWorkerBySession(*named) : nullptr;
    if (known == nullptr || known->credential != credential) {
      return {.reply = MakeError(kUnknownSession, "session not known", "",
                                 "Say hello again.")};
    }
    session = *named;
    reply.worker = known->uuid;
    if (report->beat_seq() <= known->beat_seq && known->state != nullptr) {
      return decision;  // an older message, overtaken or repeated
    }
  }
  decision.mutations.push_back(WorkerReported{.worker = reply.worker,
                                              .state = report,
                                              .now = now.steady,
                                              .deadline = deadline});
  if (report->goodbye()) {
    decision.mutations.push_back(WorkerLivenessChanged{
        .worker = reply.worker, .to = WorkerLiveness::kSuspect});
  }
  const Worker* worker = state.FindWorker(reply.worker);
  if (worker == nullptr) {
    return decision;
  }
  const auto held = HeldTasks(*report);
  for (const TaskId id : worker->leases) {
    const Task& task = state.task(id);
    if (IsListed(held, task)) {
      LeaseRenewed renewed{.task = id,
                           .epoch = task.epoch(),
                           .session = session,
                           .now = now.steady,
                           .deadline = deadline,
                           .progress = held.at(id)->progress(),
                           .run_deadline = task.lease->run_deadline,
                           .progress_limit = task.lease->progress_limit,
                           .commit_deadline = task.lease->commit_deadline};
      if (renewed.progress.phase() == v1::TASK_PHASE_RUN &&
          renewed.run_deadline == SteadyTime::InfiniteFuture()) {
        const Expected expected = ExpectedOn(state, task, *worker, settings);
        renewed.run_deadline = now.steady + RunLimit(expected, settings);
        renewed.progress_limit = ProgressLimit(expected, settings);
      }
      if (renewed.progress.phase() == v1::TASK_PHASE_COMMIT &&
          renewed.commit_deadline == SteadyTime::InfiniteFuture()) {
        renewed.commit_deadline = now.steady + settings.commit_deadline;
      }
      decision.mutations.push_back(std::move(renewed));
    } else if (auto ended = EndOfUnlisted(
                   task, *report, new_process,
                   report->has_hello() || HasResult(held, task))) {
      reply.ended.push_back(*std::move(ended));
    }
  }
  return decision;
}

v1::DesiredState MakeDesiredState(const State& state, const Worker& worker,
                                  const Settings& settings) {
  v1::DesiredState desired;
  const bool knows_session =
      worker.state != nullptr &&
      worker.state->session_id() == worker.session.bytes();
  if (!knows_session && worker.hello != nullptr) {
    v1::Welcome* welcome = desired.mutable_welcome();
    welcome->set_protocol(*CommonProtocol(*worker.hello));
    welcome->set_session_id(worker.session.bytes());
    const auto ms = [](absl::Duration duration) {
      return static_cast<uint64_t>(absl::ToInt64Milliseconds(duration));
    };
    welcome->set_heartbeat_ms(ms(settings.heartbeat));
    welcome->set_lease_ttl_ms(ms(settings.lease_ttl));
    welcome->set_progress_deadline_ms(ms(settings.progress_deadline));
    welcome->set_reconnect_backoff_max_ms(ms(settings.reconnect_backoff_max));
  }
  desired.set_coordinator_epoch(
      static_cast<uint64_t>(state.coordinator_epoch()));
  desired.set_beat_ack(worker.beat_seq);
  desired.set_state_seq(worker.state_seq + 1);
  desired.set_drain(worker.mode == WorkerMode::kDraining);
  if (desired.drain()) {
    // Said again it counts from the first time.
    desired.set_drain_deadline_ms(static_cast<uint64_t>(
        absl::ToInt64Milliseconds(worker.drain_deadline)));
  }
  const auto held = worker.state == nullptr
                        ? std::map<TaskId, const v1::HeldTask*>()
                        : HeldTasks(*worker.state);
  for (const TaskId id : worker.leases) {
    const Task& task = state.task(id);
    v1::DesiredLease* lease = desired.add_leases();
    lease->set_task_id(static_cast<uint64_t>(id.value()));
    lease->set_epoch(static_cast<uint64_t>(task.epoch().value()));
    lease->set_ttl_ms(
        static_cast<uint64_t>(absl::ToInt64Milliseconds(settings.lease_ttl)));
    if (!IsListed(held, task)) {
      *lease->mutable_spec() = state.MakeTaskSpec(task);
    }
  }
  return desired;
}

std::vector<Mutation> DecideDetach(const State& state,
                                   const SessionId& session) {
  const Worker* worker = state.FindWorkerBySession(session);
  if (worker == nullptr || worker->liveness != WorkerLiveness::kLive) {
    return {};
  }
  return {WorkerLivenessChanged{.worker = worker->uuid,
                                .to = WorkerLiveness::kSuspect}};
}

std::vector<Mutation> DecideWorkerTimeout(const State& state,
                                          const WorkerUuid& uuid,
                                          const Settings& settings,
                                          const Now& now) {
  const Worker& worker = *state.FindWorker(uuid);
  if (worker.liveness == WorkerLiveness::kLost) {
    return {};
  }
  std::vector<Mutation> mutations;
  const bool lost = worker.deadline <= now.steady;
  // The store keeps microseconds; the rest is in the next one.
  const absl::Duration attached =
      absl::Trunc(worker.seen_at - worker.counted_until, absl::Microseconds(1));
  if (attached >= settings.worker_time_step ||
      (lost && attached > absl::ZeroDuration())) {
    mutations.push_back(WorkerTimeAdded{
        .worker = uuid, .attached = attached, .time = now.wall});
  }
  if (lost) {
    mutations.push_back(
        WorkerLivenessChanged{.worker = uuid, .to = WorkerLiveness::kLost});
  }
  return mutations;
}

}  // namespace qsweep
