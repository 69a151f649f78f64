#include "coordinator/loop_calls.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"
#include "common/base/planted.h"
#include "common/base/status_macros.h"
#include "common/base/version.h"
#include "coordinator/core/access.h"
#include "coordinator/core/attach.h"
#include "coordinator/core/commit.h"
#include "coordinator/core/corpora.h"
#include "coordinator/core/lease.h"
#include "coordinator/core/lists.h"
#include "coordinator/store/wal_alarm.h"

namespace qsweep {
namespace {

void RenewedProgress(LoopCore& core, const std::vector<Mutation>& mutations) {
  for (const Mutation& mutation : mutations) {
    if (const auto* renewed = std::get_if<LeaseRenewed>(&mutation)) {
      core.watchers().OnProgress(core.state(),
                                 core.state().task(renewed->task));
    }
  }
}

// Applies a report; the session it belongs to.
absl::StatusOr<SessionId> RunWorkerState(
    LoopCore& core, const Caller& caller,
    const std::shared_ptr<const v1::WorkerState>& report,
    const std::shared_ptr<WorkerLink>& link) {
  QSWEEP_RETURN_IF_ERROR(CheckCaller(core, caller));
  const SessionId new_session = core.NewSession();
  auto decision = DecideWorkerState(core.state(), caller.identity, report,
                                    new_session, core.settings(), core.now());
  QSWEEP_RETURN_IF_ERROR(decision.reply.status());
  const AttachReply reply = *std::move(decision.reply);
  const Worker* known = core.state().FindWorker(reply.worker);
  // The same process, whose stream broke, has not been superseded.
  const bool same_process =
      known != nullptr && known->boot.bytes() == report->hello().boot_id();
  const std::vector<Mutation> applied = decision.mutations;
  core.Apply(std::move(decision.mutations));
  RenewedProgress(core, applied);
  if (report->has_hello()) {
    core.links().Open(new_session, reply.worker, link,
                      same_process
                          ? absl::UnavailableError("the worker attached again")
                          : MakeError(kWorkerSuperseded,
                                      "a newer process has this worker_uuid"));
  }
  for (const EndedLease& ended : reply.ended) {
    // An end before it may have cancelled the task with its job.
    if (core.state().task(ended.task).lease) {
      core.Apply(DecideLeaseEnd(core.state(), ended.task, ended.end,
                                ended.reason, true, core.settings(),
                                core.now()));
    }
  }
  const SessionId session = core.state().FindWorker(reply.worker)->session;
  core.links().MarkDirty(session);
  return session;
}

// Job::documents_skipped once `more` are stored. A row that another task
// brought may not have been counted for this job: then all are looked at.
absl::StatusOr<int64_t> CountSkipped(LoopCore& core, const Job& job,
                                     absl::string_view evaluation,
                                     const std::vector<SkippedKey>& more) {
  if (std::ranges::any_of(more, &SkippedKey::stored)) {
    return core.store().CountSkipped(job.number, evaluation, more);
  }
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t added,
      core.store().CountMoreSkipped(job.number, evaluation, more));
  return job.documents_skipped + added;
}

}  // namespace

absl::Status CheckDiskHasRoom(const LoopCore& core) {
  if (!core.disk_full()) {
    return absl::OkStatus();
  }
  absl::Status status = absl::UnavailableError(
      "the coordinator's disk is full; it takes results only");
  SetErrorInfo(status, {.code = kDiskFull.code,
                        .field = "",
                        .hint = "Free space on the coordinator's disk."});
  return status;
}

absl::StatusOr<v1::GetStatusResponse> RunGetStatus(LoopCore& core,
                                                   SteadyTime started) {
  QSWEEP_ASSIGN_OR_RETURN(const Store::Info info, core.store().GetInfo());
  v1::GetStatusResponse response;
  response.set_version(kVersion);
  response.set_revision(kRevision);
  response.set_uptime_ms(static_cast<uint64_t>(
      absl::ToInt64Milliseconds(core.now().steady - started)));
  response.set_sqlite_version(info.engine_version);
  response.set_database_bytes(static_cast<uint64_t>(info.database_bytes));
  response.set_wal_bytes(static_cast<uint64_t>(info.wal_bytes));
  if (auto warning = WalWarning(info.wal_bytes)) {
    response.add_warnings(*std::move(warning));
  }
  CountStatus(core.state(), response);
  return response;
}

absl::StatusOr<v1::GetJobResponse> RunGetJob(LoopCore& core,
                                             const v1::GetJobRequest& request) {
  QSWEEP_ASSIGN_OR_RETURN(const JobNumber number,
                          ResolveJob(core.state(), request.job().text()));
  v1::GetJobResponse response;
  *response.mutable_summary() = MakeJobSummary(core.state().job(number));
  response.set_last_seq(
      static_cast<uint64_t>(core.state().last_event().value()));
  return response;
}

absl::StatusOr<v1::AddCorpusResponse> RunAddCorpus(
    LoopCore& core, const v1::AddCorpusRequest& request) {
  QSWEEP_RETURN_IF_ERROR(core.Flush());
  QSWEEP_RETURN_IF_ERROR(CheckDiskHasRoom(core));
  std::vector<Digest> digests;
  for (const v1::CorpusLanguage& language : request.corpus().languages()) {
    const auto digest = Digest::FromBytes(language.artifact_digest());
    if (!digest.ok()) {
      return MakeError(kBadValue, "artifact_digest must be 32 bytes",
                       absl::StrCat("languages[", digests.size(), "]"));
    }
    digests.push_back(*digest);
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<bool> stored,
                          core.store().HasArtifacts(digests));
  return Carry(
      core, DecideAddCorpus(
                core.state(),
                std::make_shared<const v1::Corpus>(request.corpus()), stored));
}

absl::StatusOr<v1::ListCorporaResponse> RunListCorpora(
    LoopCore& core, const v1::ListCorporaRequest& request) {
  QSWEEP_RETURN_IF_ERROR(core.Flush());
  v1::ListCorporaResponse response;
  for (const auto& [name, digest] : core.state().corpora()) {
    if (request.name().empty() || request.name() == name) {
      QSWEEP_ASSIGN_OR_RETURN(const auto corpus,
                              core.store().ReadCorpus(digest));
      *response.add_corpora() = *corpus;
      response.mutable_corpora()->rbegin()->set_name(name);
    }
  }
  return response;
}

absl::StatusOr<v1::PutArtifactResponse> RunPutArtifact(
    LoopCore& core, const Digest& digest,
    const std::shared_ptr<const std::string>& bytes) {
  QSWEEP_RETURN_IF_ERROR(core.Flush());
  QSWEEP_RETURN_IF_ERROR(CheckDiskHasRoom(core));
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<bool> stored,
                          core.store().HasArtifacts(std::span(&digest, 1)));
  v1::PutArtifactResponse response;
  response.set_digest(digest.bytes());
  response.set_existed(stored.front());
  if (!stored.front()) {
    core.Apply({ArtifactAdded{.digest = digest, .bytes = bytes}});
  }
  return response;
}

absl::StatusOr<v1::CommitResultResponse::One> RunCommit(
    LoopCore& core, const Caller& caller, const v1::ResultEnvelope& envelope) {
  const State& state = core.state();
  absl::StatusOr<v1::TaskResult> result =
      OpenEnvelope(state, caller.identity, envelope);
  if (!result.ok()) {
    return RejectedResult(result.status());
  }
  const TaskId id(static_cast<int64_t>(envelope.task_id()));
  TaskKeys keys;
  if (state.task(id).state == v1::TASK_STATE_DONE) {
    QSWEEP_RETURN_IF_ERROR(core.Flush());
    QSWEEP_ASSIGN_OR_RETURN(
        const bool known, core.store().HasDuplicate(
                              id, Epoch(static_cast<int64_t>(envelope.epoch())),
                              *Digest::FromBytes(envelope.payload_sha256())));
    // It was compared before and its answer got lost. Some rows of the result
    // that counts may have been compared, too.
    if (known && !IsResultOf(state.task(id), envelope)) {
      v1::CommitResultResponse::One superseded;
      superseded.set_outcome(v1::COMMIT_OUTCOME_SUPERSEDED);
      return superseded;
    }
    QSWEEP_ASSIGN_OR_RETURN(const v1::TaskSpec spec,
                            core.store().ReadTaskSpec(id));
    keys = KeysOfSpec(spec);
  } else {
    keys = KeysOfTask(state, state.task(id));
    if (core.Touches(id, keys.configurations, keys.documents)) {
      QSWEEP_RETURN_IF_ERROR(core.Flush());
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(
      const auto stored,
      core.store().ReadMeasurements(keys.evaluation, keys.configurations,
                                    keys.documents));
  if (HasCodes(*result)) {
    QSWEEP_ASSIGN_OR_RETURN(keys.known_codes,
                            core.store().ReadCodes(keys.configurations));
    AddKnownCodes(core.batch(), keys);
  }
  std::map<JobNumber, int64_t> skipped;
  // Of a quarantined task, too: a late result makes it DONE.
  const bool counts = state.task(id).live() ||
                      state.task(id).state == v1::TASK_STATE_QUARANTINED;
  if (const std::vector<SkippedKey> more = SkippedKeys(*result, keys, stored);
      !more.empty() && counts) {
    // Other rows of the same documents may be on their way to the store.
    QSWEEP_RETURN_IF_ERROR(core.Flush());
    for (const JobNumber job : state.task(id).jobs) {
      QSWEEP_ASSIGN_OR_RETURN(
          skipped[job],
          CountSkipped(core, state.job(job), keys.evaluation, more));
    }
  }
  return Carry(core,
               DecideCommit(state, envelope, *std::move(result), keys, stored,
                            skipped, core.settings(), core.now()));
}

absl::StatusOr<v1::ReleaseTaskResponse> RunRelease(
    LoopCore& core, const Caller& caller,
    const v1::ReleaseTaskRequest& request) {
  return Carry(core, DecideRelease(core.state(), caller.identity, request,
                                   core.settings(), core.now()));
}

Call MakeWatchCall(Caller caller, v1::WatchJobRequest request,
                   std::shared_ptr<WatchSink> sink) {
  return {
      .run =
          [caller = std::move(caller), request = std::move(request),
           sink](LoopCore& core) {
            const auto number = ResolveJob(core.state(), request.job().text());
            // Not before its job is on disk, should it be of this batch.
            core.Answer([&core, caller, number, request,
                         sink](const absl::Status& stored) {
              // Not by a token that this batch has taken away.
              absl::Status status = stored.ok() ? number.status() : stored;
              status.Update(CheckCaller(core, caller));
              if (!status.ok()) {
                sink->Close(status);
                return;
              }
              core.watchers().Add(
                  *number, EventSeq(static_cast<int64_t>(request.from_seq())),
                  sink, caller);
            });
          },
      .refuse = [sink](const absl::Status& why) { sink->Close(why); }};
}

Call MakePollCall(Caller caller, v1::WorkerState state,
                  Reply<v1::DesiredState> reply) {
  auto report = std::make_shared<const v1::WorkerState>(std::move(state));
  auto shared =
      std::make_shared<const Reply<v1::DesiredState>>(std::move(reply));
  return {.run =
              [caller = std::move(caller), report, shared](LoopCore& core) {
                const absl::StatusOr<SessionId> session =
                    RunWorkerState(core, caller, report, nullptr);
                core.Answer([&core, report, shared,
                             session](const absl::Status& stored) {
                  if (!stored.ok() || !session.ok()) {
                    (*shared)(stored.ok() ? session.status() : stored);
                    return;
                  }
                  const SteadyTime now = core.now().steady;
                  core.links().Park(*session, report->beat_seq(), *shared,
                                    report->has_hello()
                                        ? now
                                        : now + core.settings().heartbeat);
                });
              },
          .refuse = [shared](const absl::Status& why) { (*shared)(why); }};
}

Call MakeAttachCall(Caller caller, v1::WorkerState state,
                    std::shared_ptr<WorkerLink> link,
                    std::function<void()> taken) {
  auto report = std::make_shared<const v1::WorkerState>(std::move(state));
  // A call may be run again.
  auto once = std::make_shared<std::function<void()>>(std::move(taken));
  const auto tell = [once] {
    if (const auto first = std::exchange(*once, nullptr)) {
      first();
    }
  };
  return {.run =
              [caller = std::move(caller), report, link, tell](LoopCore& core) {
                tell();
                if (core.links().IsClosed(link.get())) {
                  return;
                }
                const absl::Status status =
                    RunWorkerState(core, caller, report, link).status();
                core.Answer([&core, link, status](const absl::Status& stored) {
                  if (!stored.ok() || !status.ok()) {
                    core.links().Close(link, stored.ok() ? status : stored);
                  }
                });
              },
          .refuse =
              [report, link, tell](const absl::Status& why) {
                if (report->has_hello()) {  // a lost beat does no harm
                  link->Close(why);
                }
                tell();
              }};
}

Call MakeDetachCall(std::shared_ptr<WorkerLink> link) {
  return {.run =
              [link](LoopCore& core) {
                const SessionId session = core.links().Remove(link.get());
                const Worker* worker =
                    core.state().FindWorkerBySession(session);
                if (Planted(Bug::kRequeueOnStreamLoss) && worker != nullptr) {
                  for (const TaskId task : std::set(worker->leases)) {
                    core.Apply(DecideLeaseEnd(
                        core.state(), task, LeaseEnd::kLost, "stream lost",
                        true, core.settings(), core.now()));
                  }
                }
                core.Apply(DecideDetach(core.state(), session));
              },
          .refuse = [](const absl::Status&) {}};
}

}  // namespace qsweep
