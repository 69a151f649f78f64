#ifndef QSWEEP_COORDINATOR_LOOP_CALLS_H_
#define QSWEEP_COORDINATOR_LOOP_CALLS_H_

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "coordinator/core/access.h"
#include "coordinator/core/submit.h"
#include "coordinator/core/submit_planner.h"
#include "coordinator/loop.h"
#include "coordinator/loop_core.h"

namespace qsweep {

// What each request does on the loop thread: the few reads its decision needs,
// the decision, Apply. No more than that belongs here.
absl::StatusOr<v1::GetStatusResponse> RunGetStatus(LoopCore& core,
                                                   SteadyTime started);
// Nothing: the submit is large, `later` is called when its plan is on disk.
// ahead: as Loop::Post's.
absl::StatusOr<std::optional<v1::SubmitJobResponse>> RunSubmit(
    LoopCore& core, const v1::SubmitJobRequest& request,
    std::shared_ptr<const PreparedSubmit> ahead,
    const Reply<v1::SubmitJobResponse>& later);
Call MakeSubmitCall(Caller caller, v1::SubmitJobRequest request,
                    Reply<v1::SubmitJobResponse> reply,
                    std::shared_ptr<const PreparedSubmit> ahead);
// The answer to a submit of a job that is there.
absl::StatusOr<v1::SubmitJobResponse> AnswerRepeated(LoopCore& core,
                                                     const Job& job);
absl::StatusOr<v1::GetJobResponse> RunGetJob(LoopCore& core,
                                             const v1::GetJobRequest& request);
absl::StatusOr<v1::AddCorpusResponse> RunAddCorpus(
    LoopCore& core, const v1::AddCorpusRequest& request);
absl::StatusOr<v1::ListCorporaResponse> RunListCorpora(
    LoopCore& core, const v1::ListCorporaRequest& request);
absl::StatusOr<v1::PutArtifactResponse> RunPutArtifact(
    LoopCore& core, const Digest& digest,
    const std::shared_ptr<const std::string>& bytes);
absl::StatusOr<v1::CommitResultResponse::One> RunCommit(
    LoopCore& core, const Caller& caller, const v1::ResultEnvelope& envelope);
absl::StatusOr<v1::ReleaseTaskResponse> RunRelease(
    LoopCore& core, const Caller& caller,
    const v1::ReleaseTaskRequest& request);
Call MakeWatchCall(Caller caller, v1::WatchJobRequest request,
                   std::shared_ptr<WatchSink> sink);
// A report by long poll, and one on a stream. A hello is answered at once, a
// beat when there is news or a heartbeat has passed.
Call MakePollCall(Caller caller, v1::WorkerState state,
                  Reply<v1::DesiredState> reply);
// taken: as Loop::PostAttach's.
Call MakeAttachCall(Caller caller, v1::WorkerState state,
                    std::shared_ptr<WorkerLink> link,
                    std::function<void()> taken);
Call MakeDetachCall(std::shared_ptr<WorkerLink> link);

// Not OK: the caller's token has ended, or has got another secret, since it was
// let in. Each call that changes something asks when it runs: after the answer
// to a revocation nothing is done that waited with that token.
inline absl::Status CheckCaller(const LoopCore& core, const Caller& caller) {
  return CheckIdentity(core.state(), caller.identity, caller.secret,
                       core.now());
}

// UNAVAILABLE QS4004: the disk is full, and takes results only.
absl::Status CheckDiskHasRoom(const LoopCore& core);

// A job's own spec and models, to plan it again. Call LoopCore::Flush before,
// as for the two below.
absl::StatusOr<PreparedSubmit> PrepareStored(LoopCore& core, JobNumber job);
// What the store has of a submit's panels, as DecideSubmit takes it.
absl::StatusOr<std::vector<PanelStatuses>> ReadPanelStatuses(
    LoopCore& core, const PreparedSubmit& prepared);
// What the store has of one slice.
absl::StatusOr<PanelStatuses> ReadStatuses(LoopCore& core,
                                           const PreparedSubmit& prepared,
                                           const SubmitPlanner& planner,
                                           const PlanSlice& slice);

// Applies a decision and hands on its reply.
template <typename Response>
absl::StatusOr<Response> Carry(LoopCore& core, Decision<Response> decision) {
  core.Apply(std::move(decision.mutations));
  return std::move(decision.reply);
}

// A call that is answered with what `run` returns, once that is on disk.
template <typename Response>
Call MakeCall(std::function<absl::StatusOr<Response>(LoopCore&)> run,
              Reply<Response> reply) {
  auto shared = std::make_shared<const Reply<Response>>(std::move(reply));
  return {.run =
              [run = std::move(run), shared](LoopCore& core) {
                auto result =
                    std::make_shared<absl::StatusOr<Response>>(run(core));
                core.Answer([shared, result](const absl::Status& stored) {
                  (*shared)(stored.ok() ? std::move(*result)
                                        : absl::StatusOr<Response>(stored));
                });
              },
          .refuse = [shared](const absl::Status& why) { (*shared)(why); }};
}

// The same of a call that changes something: CheckCaller comes first.
template <typename Response>
Call MakeCallOf(Caller caller,
                std::function<absl::StatusOr<Response>(LoopCore&)> run,
                Reply<Response> reply) {
  return MakeCall<Response>(
      [caller = std::move(caller),
       run = std::move(run)](LoopCore& core) -> absl::StatusOr<Response> {
        if (absl::Status status = CheckCaller(core, caller); !status.ok()) {
          return status;
        }
        return run(core);
      },
      std::move(reply));
}

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_LOOP_CALLS_H_
