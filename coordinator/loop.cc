#include "coordinator/loop.h"

#include <utility>
#include <vector>

#include "common/base/error_codes.h"
#include "coordinator/call_queue.h"
#include "coordinator/commit_gather.h"
#include "coordinator/core/access.h"
#include "coordinator/core/lists.h"
#include "coordinator/loop_access.h"
#include "coordinator/loop_calls.h"
#include "coordinator/loop_control.h"
#include "coordinator/loop_core.h"

namespace qsweep {
struct Loop::Impl {
  Impl(std::unique_ptr<Store> store, const Settings& settings,
       const Clock& clock_in, uint64_t seed)
      : clock(clock_in),
        queue(settings, clock_in),
        core(std::move(store), settings, clock_in, seed) {}

  // `run` gets the core and the request.
  template <typename Run, typename Request, typename Response>
  void Forward(Run run, Request request, Reply<Response> reply) {
    const size_t bytes = request.ByteSizeLong();
    Push(bytes,
         MakeCall<Response>(
             [run = std::move(run), request = std::move(request)](
                 LoopCore& loop_core) { return run(loop_core, request); },
             std::move(reply)));
  }

  // The same of a call that changes something, and whose it is.
  template <typename Run, typename Request, typename Response>
  void ForwardOf(Caller caller, Run run, Request request,
                 Reply<Response> reply) {
    const size_t bytes = request.ByteSizeLong();
    Push(bytes,
         MakeCallOf<Response>(
             std::move(caller),
             [run = std::move(run), request = std::move(request)](
                 LoopCore& loop_core) { return run(loop_core, request); },
             std::move(reply)));
  }

  // bytes: of what the call holds.
  void Push(size_t bytes, Call call) {
    call.bytes = bytes;
    queue.Push(std::move(call));
  }

  absl::Status Step(SteadyTime now, bool* idle) {
    std::vector<Call> calls = queue.Drain();
    if (idle != nullptr) {
      *idle = calls.empty();
    }
    const absl::Status status =
        core.Step(now, std::move(calls), queue.Crowded());
    queue.StepDone();
    return status;
  }

  const Clock& clock;
  CallQueue queue;  // any thread

  // Loop thread only.
  LoopCore core;
  SteadyTime started;
};

Loop::Loop(std::unique_ptr<Store> store, const Settings& settings,
           const Clock& clock, uint64_t seed)
    : impl_(std::make_unique<Impl>(std::move(store), settings, clock, seed)) {}

Loop::~Loop() { impl_->queue.Close(); }

void Loop::OnJobEnd(std::function<void(v1::JobSummary)> hook) {
  impl_->core.OnJobEnd(std::move(hook));
}

absl::Status Loop::Start() {
  impl_->started = impl_->clock.SteadyNow();
  return impl_->core.Start();
}

absl::Status Loop::Run() {
  absl::Status status;
  while (status.ok() && impl_->queue.Wait(impl_->core.NextDeadline() -
                                          impl_->clock.SteadyNow())) {
    status = impl_->Step(impl_->clock.SteadyNow(), nullptr);
  }
  End(status);
  return status;
}

void Loop::End(const absl::Status& status) {
  impl_->core.Close(status);
  impl_->queue.Close();
}

void Loop::Stop() { impl_->queue.Stop(); }

absl::Status Loop::Step(SteadyTime now, bool* idle) {
  return impl_->Step(now, idle);
}

SteadyTime Loop::NextDeadline() const { return impl_->core.NextDeadline(); }

const State& Loop::state() const { return impl_->core.state(); }

const TokenTable& Loop::tokens() const { return impl_->core.tokens(); }

bool Loop::Healthy() const { return impl_->queue.Healthy(); }

void Loop::Post(v1::GetStatusRequest request,
                Reply<v1::GetStatusResponse> reply) {
  impl_->Forward(
      [impl = impl_.get()](LoopCore& core, const v1::GetStatusRequest&) {
        return RunGetStatus(core, impl->started);
      },
      std::move(request), std::move(reply));
}

void Loop::Post(Caller caller, v1::SubmitJobRequest request,
                Reply<v1::SubmitJobResponse> reply,
                std::shared_ptr<const PreparedSubmit> prepared) {
  const size_t bytes = request.ByteSizeLong();
  impl_->Push(bytes, MakeSubmitCall(std::move(caller), std::move(request),
                                    std::move(reply), std::move(prepared)));
}

void Loop::Post(Caller caller, v1::CancelJobRequest request,
                Reply<v1::CancelJobResponse> reply) {
  impl_->ForwardOf(std::move(caller), RunCancel, std::move(request),
                   std::move(reply));
}

void Loop::Post(Caller caller, v1::ControlJobRequest request,
                Reply<v1::ControlJobResponse> reply,
                std::shared_ptr<const PreparedSubmit> prepared) {
  impl_->ForwardOf(
      std::move(caller),
      [prepared = std::move(prepared)](LoopCore& core,
                                       const v1::ControlJobRequest& r) {
        return RunControlJob(core, r, prepared);
      },
      std::move(request), std::move(reply));
}

void Loop::Post(v1::ExplainTaskRequest request,
                Reply<v1::ExplainTaskResponse> reply) {
  impl_->Forward(RunExplainTask, std::move(request), std::move(reply));
}

void Loop::Post(Caller caller, v1::ControlWorkerRequest request,
                Reply<v1::ControlWorkerResponse> reply) {
  impl_->ForwardOf(std::move(caller), RunControlWorker, std::move(request),
                   std::move(reply));
}

void Loop::Post(Caller caller, v1::CollectGarbageRequest request,
                Reply<v1::CollectGarbageResponse> reply) {
  impl_->ForwardOf(std::move(caller), RunCollectGarbage, std::move(request),
                   std::move(reply));
}

void Loop::Post(v1::ListJobsRequest request,
                Reply<v1::ListJobsResponse> reply) {
  impl_->Forward(
      [](LoopCore& core, const v1::ListJobsRequest& r) {
        return ListJobs(core.state(), r);
      },
      std::move(request), std::move(reply));
}

void Loop::Post(v1::GetJobRequest request, Reply<v1::GetJobResponse> reply) {
  impl_->Forward(RunGetJob, std::move(request), std::move(reply));
}

void Loop::Post(v1::ListTasksRequest request,
                Reply<v1::ListTasksResponse> reply) {
  impl_->Forward(
      [](LoopCore& core, const v1::ListTasksRequest& r) {
        return ListTasks(core.state(), r);
      },
      std::move(request), std::move(reply));
}

void Loop::Post(v1::ListWorkersRequest request,
                Reply<v1::ListWorkersResponse> reply) {
  impl_->Forward(
      [](LoopCore& core, const v1::ListWorkersRequest&) {
        return ListWorkers(core.state(), core.now());
      },
      std::move(request), std::move(reply));
}

void Loop::Post(Caller caller, v1::AddCorpusRequest request,
                Reply<v1::AddCorpusResponse> reply) {
  impl_->ForwardOf(std::move(caller), RunAddCorpus, std::move(request),
                   std::move(reply));
}

void Loop::Post(v1::ListCorporaRequest request,
                Reply<v1::ListCorporaResponse> reply) {
  impl_->Forward(RunListCorpora, std::move(request), std::move(reply));
}

void Loop::Post(Caller caller, v1::CreateTokenRequest request,
                Reply<v1::CreateTokenResponse> reply) {
  impl_->ForwardOf(
      caller,
      [caller](LoopCore& core, const v1::CreateTokenRequest& r) {
        return RunCreateToken(core, caller, r);
      },
      std::move(request), std::move(reply));
}

void Loop::Post(v1::ListTokensRequest request,
                Reply<v1::ListTokensResponse> reply) {
  impl_->Forward(
      [](LoopCore& core, const v1::ListTokensRequest&) {
        return ListTokens(core.state());
      },
      std::move(request), std::move(reply));
}

void Loop::Post(Caller caller, v1::RevokeTokenRequest request,
                Reply<v1::RevokeTokenResponse> reply) {
  impl_->ForwardOf(
      caller,
      [caller](LoopCore& core, const v1::RevokeTokenRequest& r) {
        return RunRevokeToken(core, caller, r);
      },
      std::move(request), std::move(reply));
}

void Loop::Post(Caller caller, v1::RotateTokenRequest request,
                Reply<v1::RotateTokenResponse> reply) {
  impl_->Forward(
      [caller = std::move(caller)](LoopCore& core,
                                   const v1::RotateTokenRequest& r) {
        return RunRotateToken(core, caller, r);
      },
      std::move(request), std::move(reply));
}

void Loop::PostJoin(TokenId join_token, v1::JoinRequest request,
                    Reply<v1::JoinResponse> reply) {
  impl_->Forward(
      [join_token](LoopCore& core, const v1::JoinRequest& r) {
        return RunJoin(core, join_token, r);
      },
      std::move(request), std::move(reply));
}

void Loop::PostAudit(AuditRecorded record) {
  const size_t bytes = record.actor.size() + record.action.size() +
                       record.subject.size() + record.detail.size();
  impl_->Push(bytes, {.run =
                          [record = std::move(record)](LoopCore& core) {
                            if (!core.disk_full()) {
                              AuditRecorded line = record;
                              line.time = core.now().wall;
                              core.Apply({std::move(line)});
                            }
                          },
                      .refuse = [](const absl::Status&) {}});
}

void Loop::Post(v1::JobSelector selector, Reply<v1::JobSummary> reply) {
  impl_->Forward(
      [](LoopCore& core,
         const v1::JobSelector& r) -> absl::StatusOr<v1::JobSummary> {
        const auto number = ResolveJob(core.state(), r.text());
        if (!number.ok()) {
          return number.status();
        }
        return MakeJobSummary(core.state().job(*number));
      },
      std::move(selector), std::move(reply));
}

void Loop::PostArtifact(const Digest& digest, std::string bytes,
                        Reply<v1::PutArtifactResponse> reply) {
  const bool same = Digest::Of(bytes) == digest;  // on the caller's thread
  auto shared = std::make_shared<const std::string>(std::move(bytes));
  impl_->Push(
      shared->size(),
      MakeCall<v1::PutArtifactResponse>(
          [digest, same,
           shared](LoopCore& core) -> absl::StatusOr<v1::PutArtifactResponse> {
            if (!same) {
              return MakeError(kArtifactMismatch,
                               "the bytes do not have the digest announced",
                               "digest");
            }
            return RunPutArtifact(core, digest, shared);
          },
          std::move(reply)));
}

void Loop::PostWatch(Caller caller, v1::WatchJobRequest request,
                     std::shared_ptr<WatchSink> sink) {
  const size_t bytes = request.ByteSizeLong();
  impl_->Push(bytes, MakeWatchCall(std::move(caller), std::move(request),
                                   std::move(sink)));
}

// The step that it brings asks all sinks.
void Loop::PostRoom() {
  impl_->queue.Push(
      {.run = [](LoopCore&) {}, .refuse = [](const absl::Status&) {}},
      /*always=*/true);
}

void Loop::Post(Caller caller, v1::CommitResultRequest request,
                Reply<v1::CommitResultResponse> reply) {
  if (request.results().empty()) {
    reply(v1::CommitResultResponse());
    return;
  }
  auto gather =
      std::make_shared<CommitGather>(request.results_size(), std::move(reply));
  auto shared =
      std::make_shared<const v1::CommitResultRequest>(std::move(request));
  for (int i = 0; i < shared->results_size(); ++i) {
    impl_->Push(
        shared->results(i).ByteSizeLong(),
        MakeCallOf<v1::CommitResultResponse::One>(
            caller,
            [caller, shared, i](LoopCore& core) {
              return RunCommit(core, caller, shared->results(i));
            },
            [gather, i](absl::StatusOr<v1::CommitResultResponse::One> one) {
              gather->Add(i, std::move(one));
            }));
  }
}

void Loop::Post(Caller caller, v1::ReleaseTaskRequest request,
                Reply<v1::ReleaseTaskResponse> reply) {
  impl_->ForwardOf(
      caller,
      [caller](LoopCore& core, const v1::ReleaseTaskRequest& r) {
        return RunRelease(core, caller, r);
      },
      std::move(request), std::move(reply));
}

void Loop::Post(Caller caller, v1::WorkerState state,
                Reply<v1::DesiredState> reply) {
  const size_t bytes = state.ByteSizeLong();
  impl_->Push(bytes, MakePollCall(std::move(caller), std::move(state),
                                  std::move(reply)));
}

void Loop::PostAttach(Caller caller, v1::WorkerState state,
                      std::shared_ptr<WorkerLink> link,
                      std::function<void()> taken) {
  const size_t bytes = state.ByteSizeLong();
  impl_->Push(bytes, MakeAttachCall(std::move(caller), std::move(state),
                                    std::move(link), std::move(taken)));
}

void Loop::PostDetach(std::shared_ptr<WorkerLink> link) {
  impl_->queue.Push(MakeDetachCall(std::move(link)), true);
}

}  // namespace qsweep
