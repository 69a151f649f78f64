#ifndef QSWEEP_COMMON_RPC_COORDINATOR_CLIENT_H_
#define QSWEEP_COMMON_RPC_COORDINATOR_CLIENT_H_

#include <functional>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "common/rpc/channel.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep {

struct CoordinatorClientOptions {
  absl::Duration timeout =
      absl::Seconds(10);  // of a unary call, repeats included
  // Repeats of UNAVAILABLE go on this long. Zero: answer at once when nobody
  // listens, which is what a person at a prompt wants.
  absl::Duration retry_for = absl::ZeroDuration();
};

// The coordinator's API as qctl sees it: a method per call, each safe to
// repeat.
//   CoordinatorClient client(endpoint);
//   QSWEEP_ASSIGN_OR_RETURN(v1::GetStatusResponse status,
//   client.GetStatus({}));
// Errors: what the coordinator said, with its QS code; QS4001 when it does not
// answer; QS6008, QS6010 when its certificate is not the pinned authority's or
// has expired; DEADLINE_EXCEEDED. Thread-safe.
class CoordinatorClient {
 public:
  explicit CoordinatorClient(const Endpoint& endpoint,
                             const CoordinatorClientOptions& options = {});
  ~CoordinatorClient();

  absl::StatusOr<v1::GetStatusResponse> GetStatus(
      const v1::GetStatusRequest& request);
  // 60 s: a submit may plan for a while.
  absl::StatusOr<v1::SubmitJobResponse> SubmitJob(
      const v1::SubmitJobRequest& request);
  absl::StatusOr<v1::ListJobsResponse> ListJobs(
      const v1::ListJobsRequest& request);
  absl::StatusOr<v1::GetJobResponse> GetJob(const v1::GetJobRequest& request);
  absl::StatusOr<v1::CancelJobResponse> CancelJob(
      const v1::CancelJobRequest& request);
  absl::StatusOr<v1::ListTasksResponse> ListTasks(
      const v1::ListTasksRequest& request);
  absl::StatusOr<v1::ControlJobResponse> ControlJob(
      const v1::ControlJobRequest& request);
  absl::StatusOr<v1::ExplainTaskResponse> ExplainTask(
      const v1::ExplainTaskRequest& request);
  absl::StatusOr<v1::ControlWorkerResponse> ControlWorker(
      const v1::ControlWorkerRequest& request);
  absl::StatusOr<v1::BackupResponse> Backup(const v1::BackupRequest& request);
  absl::StatusOr<v1::CheckDatabaseResponse> CheckDatabase(
      const v1::CheckDatabaseRequest& request);
  absl::StatusOr<v1::ListWorkersResponse> ListWorkers(
      const v1::ListWorkersRequest& request);
  absl::StatusOr<v1::AddCorpusResponse> AddCorpus(
      const v1::AddCorpusRequest& request);
  absl::StatusOr<v1::ListCorporaResponse> ListCorpora(
      const v1::ListCorporaRequest& request);
  absl::StatusOr<v1::SampleTextsResponse> SampleTexts(
      const v1::SampleTextsRequest& request);
  // The bootstrap runs in the coordinator, which gives up with the call.
  absl::StatusOr<v1::GetResultsResponse> GetResults(
      const v1::GetResultsRequest& request,
      absl::Duration timeout = absl::Minutes(2));
  // Waits a little longer than the request's own deadline.
  absl::StatusOr<v1::QueryResponse> Query(const v1::QueryRequest& request);
  // Of the endpoint's token, which must be a join token: see credential.h.
  absl::StatusOr<v1::JoinResponse> Join(const v1::JoinRequest& request);
  absl::StatusOr<v1::CreateTokenResponse> CreateToken(
      const v1::CreateTokenRequest& request);
  absl::StatusOr<v1::ListTokensResponse> ListTokens(
      const v1::ListTokensRequest& request);
  absl::StatusOr<v1::RevokeTokenResponse> RevokeToken(
      const v1::RevokeTokenRequest& request);

  absl::StatusOr<v1::RotateTokenResponse> RotateToken(
      const v1::RotateTokenRequest& request);
  absl::StatusOr<v1::CollectGarbageResponse> CollectGarbage(
      const v1::CollectGarbageRequest& request);

  // Sends bytes under the digest of them, in chunks of 256 KiB; existed: they
  // were there already.
  absl::StatusOr<v1::PutArtifactResponse> PutArtifact(absl::string_view bytes);

  // Calls on_event in this thread for each event, until the job has ended (OK),
  // on_event returns false (OK), timeout has passed (DEADLINE_EXCEEDED), or the
  // stream fails (UNAVAILABLE QS4001: call again with from_seq after the last
  // durable event).
  absl::Status WatchJob(const v1::WatchJobRequest& request,
                        absl::FunctionRef<bool(const v1::WatchEvent&)> on_event,
                        absl::Duration timeout = absl::InfiniteDuration());

  // Calls on_batch in this thread for each batch of rows, in identity order;
  // false ends it early (OK).
  absl::Status ExportMeasurements(
      const v1::ExportMeasurementsRequest& request,
      absl::FunctionRef<bool(const v1::MeasurementBatch&)> on_batch);

  const Endpoint& endpoint() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace qsweep

#endif  // QSWEEP_COMMON_RPC_COORDINATOR_CLIENT_H_
