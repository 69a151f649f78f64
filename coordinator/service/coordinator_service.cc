#include "coordinator/service/coordinator_service.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "coordinator/service/artifact_reactors.h"
#include "coordinator/service/corpus_reactor.h"
#include "coordinator/service/export_reactor.h"
#include "coordinator/service/forward.h"
#include "coordinator/service/job_results.h"
#include "coordinator/service/job_source.h"
#include "coordinator/service/watch_reactor.h"
#include "coordinator/store/schema.h"
#include "qsweep/v1/coordinator.grpc.pb.h"

namespace qsweep {
namespace {

using Context = grpc::CallbackServerContext;
using UnaryReactor = grpc::ServerUnaryReactor;

constexpr int kBackupsKept = 7;

absl::StatusOr<v1::BackupResponse> BackUp(Reader& reader,
                                          const v1::BackupRequest& request) {
  QSWEEP_ASSIGN_OR_RETURN(
      const BackupInfo info,
      reader.BackUp(request.keep() == 0 ? kBackupsKept
                                        : static_cast<int>(request.keep())));
  v1::BackupResponse response;
  response.set_path(info.path);
  response.set_bytes(static_cast<uint64_t>(info.bytes));
  response.mutable_removed()->Add(info.removed.begin(), info.removed.end());
  return response;
}

absl::StatusOr<v1::CheckDatabaseResponse> FindProblems(Reader& reader) {
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<std::string> problems,
                          reader.FindProblems());
  v1::CheckDatabaseResponse response;
  response.mutable_problems()->Add(problems.begin(), problems.end());
  return response;
}

// What was computed of deleted jobs goes when the last of them is deleted.
v1::CollectGarbageResponse CollectResults(Reader& reader, AnalysisCache& cache,
                                          bool dry_run,
                                          v1::CollectGarbageResponse reply) {
  const absl::StatusOr<int64_t> freed =
      dry_run ? 0 : DropResultsOfDeletedJobs(reader, cache);
  const absl::StatusOr<int64_t> held = cache.BytesHeld();
  if (!freed.ok()) {  // the jobs are gone: the call has done its work
    LogWarning(absl::StrCat("results of deleted jobs stay until the next: ",
                            freed.status().message()));
  } else if (held.ok()) {
    reply.set_results_freed_bytes(static_cast<uint64_t>(*freed));
    reply.set_results_bytes(static_cast<uint64_t>(*held));
  }
  return reply;
}

class CoordinatorServiceImpl : public v1::CoordinatorService::CallbackService {
 public:
  CoordinatorServiceImpl(Loop& loop, ReaderPool& readers, AnalysisCache& cache,
                         AnalysisThread& analysis,
                         const Authenticator& authenticator,
                         AuthorityDigest certificate_authority)
      : loop_(loop),
        readers_(readers),
        cache_(cache),
        analysis_(analysis),
        authenticator_(authenticator),
        certificate_authority_(std::move(certificate_authority)) {}

  UnaryReactor* GetStatus(Context* context, const v1::GetStatusRequest* request,
                          v1::GetStatusResponse* response) override {
    return Forward(context, "GetStatus", *request, response);
  }
  UnaryReactor* SubmitJob(Context* context, const v1::SubmitJobRequest* request,
                          v1::SubmitJobResponse* response) override;
  UnaryReactor* ListJobs(Context* context, const v1::ListJobsRequest* request,
                         v1::ListJobsResponse* response) override {
    return Forward(context, "ListJobs", *request, response);
  }
  UnaryReactor* GetJob(Context* context, const v1::GetJobRequest* request,
                       v1::GetJobResponse* response) override;
  UnaryReactor* CancelJob(Context* context, const v1::CancelJobRequest* request,
                          v1::CancelJobResponse* response) override {
    return Forward(context, "CancelJob", *request, response);
  }
  UnaryReactor* ControlJob(Context* context,
                           const v1::ControlJobRequest* request,
                           v1::ControlJobResponse* response) override;
  UnaryReactor* ExplainTask(Context* context,
                            const v1::ExplainTaskRequest* request,
                            v1::ExplainTaskResponse* response) override {
    return Forward(context, "ExplainTask", *request, response);
  }
  UnaryReactor* ControlWorker(Context* context,
                              const v1::ControlWorkerRequest* request,
                              v1::ControlWorkerResponse* response) override {
    return Forward(context, "ControlWorker", *request, response);
  }
  UnaryReactor* ListTasks(Context* context, const v1::ListTasksRequest* request,
                          v1::ListTasksResponse* response) override {
    return Forward(context, "ListTasks", *request, response);
  }
  UnaryReactor* ListWorkers(Context* context,
                            const v1::ListWorkersRequest* request,
                            v1::ListWorkersResponse* response) override {
    return Forward(context, "ListWorkers", *request, response);
  }
  grpc::ServerReadReactor<v1::AddCorpusRequest>* AddCorpus(
      Context* context, v1::AddCorpusResponse* response) override {
    return NewAddCorpusReactor(loop_, response,
                               authenticator_.CallerOf(*context, "AddCorpus"));
  }
  UnaryReactor* ListCorpora(Context* context,
                            const v1::ListCorporaRequest* request,
                            v1::ListCorporaResponse* response) override {
    return Forward(context, "ListCorpora", *request, response);
  }

  UnaryReactor* SampleTexts(Context* context,
                            const v1::SampleTextsRequest* request,
                            v1::SampleTextsResponse* response) override {
    return Read(context, "SampleTexts", response, [request](Reader& reader) {
      return SampleTextsOf(reader, *request);
    });
  }

  grpc::ServerWriteReactor<v1::WatchEvent>* WatchJob(
      Context* context, const v1::WatchJobRequest* request) override {
    return NewWatchReactor(loop_, *request,
                           authenticator_.CallerOf(*context, "WatchJob"));
  }
  grpc::ServerReadReactor<v1::ArtifactChunk>* PutArtifact(
      Context* context, v1::PutArtifactResponse* response) override {
    return NewPutArtifactReactor(
        loop_, response,
        authenticator_.CallerOf(*context, "PutArtifact").status());
  }
  grpc::ServerWriteReactor<v1::MeasurementBatch>* ExportMeasurements(
      Context* context, const v1::ExportMeasurementsRequest* request) override {
    return NewExportReactor(
        loop_, readers_, *request,
        authenticator_.CallerOf(*context, "ExportMeasurements").status());
  }

  UnaryReactor* GetResults(Context* context,
                           const v1::GetResultsRequest* request,
                           v1::GetResultsResponse* response) override;
  UnaryReactor* Query(Context* context, const v1::QueryRequest* request,
                      v1::QueryResponse* response) override {
    return Read(context, "Query", response,
                [this, context,
                 request](Reader& reader) -> absl::StatusOr<v1::QueryResponse> {
                  QSWEEP_RETURN_IF_ERROR(CheckResultsReady(*request));
                  return reader.Query(
                      *request, [context] { return context->IsCancelled(); });
                });
  }
  UnaryReactor* Backup(Context* context, const v1::BackupRequest* request,
                       v1::BackupResponse* response) override {
    return Read(context, "Backup", response,
                [request](Reader& reader) { return BackUp(reader, *request); });
  }
  UnaryReactor* CheckDatabase(Context* context, const v1::CheckDatabaseRequest*,
                              v1::CheckDatabaseResponse* response) override {
    return Read(context, "CheckDatabase", response, FindProblems);
  }

  UnaryReactor* CollectGarbage(Context* context,
                               const v1::CollectGarbageRequest* request,
                               v1::CollectGarbageResponse* response) override;

  UnaryReactor* Join(Context* context, const v1::JoinRequest* request,
                     v1::JoinResponse* response) override;
  UnaryReactor* CreateToken(Context* context,
                            const v1::CreateTokenRequest* request,
                            v1::CreateTokenResponse* response) override;
  UnaryReactor* ListTokens(Context* context,
                           const v1::ListTokensRequest* request,
                           v1::ListTokensResponse* response) override {
    return Forward(context, "ListTokens", *request, response);
  }
  UnaryReactor* RevokeToken(Context* context,
                            const v1::RevokeTokenRequest* request,
                            v1::RevokeTokenResponse* response) override {
    return Forward(context, "RevokeToken", *request, response);
  }
  UnaryReactor* RotateToken(Context* context,
                            const v1::RotateTokenRequest* request,
                            v1::RotateTokenResponse* response) override {
    return Forward(context, "RotateToken", *request, response);
  }

 private:
  absl::Status CheckResultsReady(const v1::QueryRequest& request) const;

  template <typename Request, typename Response>
  UnaryReactor* Forward(Context* context, absl::string_view method,
                        const Request& request, Response* response) {
    return ForwardToLoop(loop_, authenticator_, context, method, request,
                         response);
  }

  // Posts to a reader thread, or ends the call with why not.
  template <typename Response>
  void PostRead(ReadKind kind, const Reply<Response>& finish,
                std::function<void(Reader&)> job) {
    if (absl::Status posted = readers_.Post(kind, std::move(job));
        !posted.ok()) {
      finish(posted);
    }
  }

  // Runs `read` on a reader thread; what it returns ends the call. gRPC keeps
  // context, request and response until then.
  template <typename Response, typename Function>
  UnaryReactor* Read(Context* context, absl::string_view method,
                     Response* response, Function read) {
    UnaryReactor* reactor = context->DefaultReactor();
    const Reply<Response> finish = FinishWith(reactor, response);
    if (absl::Status status =
            authenticator_.CallerOf(*context, method).status();
        !status.ok()) {
      finish(status);
    } else {
      PostRead(ReadKind::kLong, finish,
               [finish, read, context](Reader& reader) {
                 if (context->IsCancelled()) {  // while it waited
                   finish(absl::CancelledError("the caller is gone"));
                 } else {
                   finish(read(reader));
                 }
               });
    }
    return reactor;
  }

  Loop& loop_;
  ReaderPool& readers_;
  AnalysisCache& cache_;
  AnalysisThread& analysis_;
  const Authenticator& authenticator_;
  const AuthorityDigest certificate_authority_;
};

UnaryReactor* CoordinatorServiceImpl::GetJob(Context* context,
                                             const v1::GetJobRequest* request,
                                             v1::GetJobResponse* response) {
  UnaryReactor* reactor = context->DefaultReactor();
  const Reply<v1::GetJobResponse> finish = FinishWith(reactor, response);
  if (absl::Status status =
          authenticator_.CallerOf(*context, "GetJob").status();
      !status.ok()) {
    finish(status);
    return reactor;
  }
  loop_.Post(*request, [this, finish](absl::StatusOr<v1::GetJobResponse> job) {
    if (!job.ok()) {
      finish(job.status());
      return;
    }
    PostRead(ReadKind::kShow, finish,
             [finish, job = *std::move(job)](Reader& reader) {
               finish(DescribeJob(reader, job));
             });
  });
  return reactor;
}

// A job that has ended is expanded again before the loop plans it.
UnaryReactor* CoordinatorServiceImpl::ControlJob(
    Context* context, const v1::ControlJobRequest* request,
    v1::ControlJobResponse* response) {
  if (request->action() != v1::JOB_ACTION_RETRY) {
    return Forward(context, "ControlJob", *request, response);
  }
  UnaryReactor* reactor = context->DefaultReactor();
  const Reply<v1::ControlJobResponse> finish = FinishWith(reactor, response);
  const absl::StatusOr<Caller> caller =
      authenticator_.CallerOf(*context, "ControlJob");
  if (!caller.ok()) {
    finish(caller.status());
    return reactor;
  }
  loop_.Post(request->job(), [this, request, finish, caller = *caller](
                                 absl::StatusOr<v1::JobSummary> job) {
    if (!job.ok()) {
      finish(job.status());
      return;
    }
    v1::ControlJobRequest retry = *request;
    retry.mutable_job()->set_text(absl::StrCat(job->job_number()));
    if (job->finished_at_us() == 0 || job->state() == v1::JOB_STATE_SUCCEEDED) {
      loop_.Post(caller, std::move(retry), finish);
      return;
    }
    PostRead(ReadKind::kQuick, finish,
             [this, finish, caller, retry = std::move(retry),
              job = *std::move(job)](Reader& reader) {
               loop_.Post(caller, retry, finish,
                          PrepareAgainAhead(reader, job));
             });
  });
  return reactor;
}

// The loop knows which job is meant; a reader thread does the rest, after the
// analysis thread when that is at the same job: what it leaves in the cache is
// the answer most times. gRPC keeps request and context until Finish.
UnaryReactor* CoordinatorServiceImpl::GetResults(
    Context* context, const v1::GetResultsRequest* request,
    v1::GetResultsResponse* response) {
  UnaryReactor* reactor = context->DefaultReactor();
  const Reply<v1::GetResultsResponse> finish = FinishWith(reactor, response);
  if (absl::Status status =
          authenticator_.CallerOf(*context, "GetResults").status();
      !status.ok()) {
    finish(status);
    return reactor;
  }
  loop_.Post(request->job(), [this, context, request,
                              finish](absl::StatusOr<v1::JobSummary> job) {
    if (!job.ok()) {
      finish(job.status());
      return;
    }
    const JobNumber number(static_cast<int64_t>(job->job_number()));
    const auto compute = [this, context, request, finish,
                          job = *std::move(job)](Reader& reader) {
      finish(ComputeResults(reader, cache_, job, *request,
                            [context] { return context->IsCancelled(); }));
    };
    analysis_.WhenDone(number, [this, finish, compute] {
      PostRead(ReadKind::kLong, finish, compute);
    });
  });
  return reactor;
}

UnaryReactor* CoordinatorServiceImpl::CollectGarbage(
    Context* context, const v1::CollectGarbageRequest* request,
    v1::CollectGarbageResponse* response) {
  UnaryReactor* reactor = context->DefaultReactor();
  const Reply<v1::CollectGarbageResponse> finish =
      FinishWith(reactor, response);
  absl::StatusOr<Caller> caller =
      authenticator_.CallerOf(*context, "CollectGarbage");
  if (!caller.ok()) {
    finish(caller.status());
    return reactor;
  }
  loop_.Post(*std::move(caller), *request,
             [this, finish, dry = request->dry_run()](
                 absl::StatusOr<v1::CollectGarbageResponse> reply) {
               if (!reply.ok() || reply->more()) {
                 finish(std::move(reply));
                 return;
               }
               PostRead(ReadKind::kQuick, finish,
                        [this, finish, dry,
                         reply = *std::move(reply)](Reader& reader) {
                          finish(CollectResults(reader, cache_, dry, reply));
                        });
             });
  return reactor;
}

// A view that lacks a job would be read as if that had no results.
absl::Status CoordinatorServiceImpl::CheckResultsReady(
    const v1::QueryRequest& request) const {
  if (!absl::StrContains(absl::AsciiStrToLower(request.sql()),
                         kResultsView.name)) {
    return absl::OkStatus();
  }
  std::string numbers;
  for (const JobNumber job : analysis_.Pending()) {
    absl::StrAppend(&numbers, numbers.empty() ? "" : ", ", job.value());
  }
  return numbers.empty() ? absl::OkStatus()
                         : MakeError(kResultsPending,
                                     absl::StrCat("results of job ", numbers,
                                                  " are still being computed"),
                                     "sql", "Try again in a few seconds.");
}

// Shares and weights go by owner, so a token's is not for its holder to say.
UnaryReactor* CoordinatorServiceImpl::SubmitJob(
    Context* context, const v1::SubmitJobRequest* request,
    v1::SubmitJobResponse* response) {
  UnaryReactor* reactor = context->DefaultReactor();
  const Reply<v1::SubmitJobResponse> finish = FinishWith(reactor, response);
  const absl::StatusOr<Principal> principal =
      authenticator_.Authorize(*context, "SubmitJob");
  if (!principal.ok()) {
    finish(principal.status());
    return reactor;
  }
  v1::SubmitJobRequest owned = *request;
  if (!principal->owner.empty()) {
    owned.set_owner(principal->owner);
  }
  PostRead(ReadKind::kQuick, finish,
           [this, finish, caller = principal->caller,
            request = std::move(owned)](Reader& reader) {
             loop_.Post(caller, request, finish, PrepareAhead(reader, request));
           });
  return reactor;
}

UnaryReactor* CoordinatorServiceImpl::Join(Context* context,
                                           const v1::JoinRequest* request,
                                           v1::JoinResponse* response) {
  UnaryReactor* reactor = context->DefaultReactor();
  const absl::StatusOr<Principal> principal =
      authenticator_.Authorize(*context, "Join");
  if (!principal.ok()) {
    reactor->Finish(ToGrpcStatus(principal.status()));
  } else {
    loop_.PostJoin(principal->token, *request, FinishWith(reactor, response));
  }
  return reactor;
}

UnaryReactor* CoordinatorServiceImpl::CreateToken(
    Context* context, const v1::CreateTokenRequest* request,
    v1::CreateTokenResponse* response) {
  UnaryReactor* reactor = context->DefaultReactor();
  const Reply<v1::CreateTokenResponse> finish = FinishWith(reactor, response);
  absl::StatusOr<Caller> caller =
      authenticator_.CallerOf(*context, "CreateToken");
  if (!caller.ok()) {
    finish(caller.status());
    return reactor;
  }
  const bool joins = request->kind() == v1::TOKEN_KIND_JOIN;
  const absl::StatusOr<Digest> authority = certificate_authority_();
  if (joins && !authority.ok()) {
    finish(authority.status());
    return reactor;
  }
  if (joins && authority->empty()) {
    finish(MakeError(kBadKeyFile,
                     "a join token names the coordinator's certificate, and "
                     "this one has none",
                     "kind",
                     "run 'qcoordinator init --dir DIR' and start it again, or "
                     "make a token for this machine with --direct"));
    return reactor;
  }
  loop_.Post(*std::move(caller), *request,
             [finish, authority = authority.value_or(Digest())](
                 absl::StatusOr<v1::CreateTokenResponse> created) {
               if (created.ok() && !authority.empty()) {
                 created->set_ca_sha256(authority.bytes());
               }
               finish(std::move(created));
             });
  return reactor;
}

}  // namespace

std::unique_ptr<grpc::Service> MakeCoordinatorService(
    Loop& loop, ReaderPool& readers, AnalysisCache& cache,
    AnalysisThread& analysis, const Authenticator& authenticator,
    AuthorityDigest certificate_authority) {
  return std::make_unique<CoordinatorServiceImpl>(
      loop, readers, cache, analysis, authenticator,
      std::move(certificate_authority));
}

}  // namespace qsweep
