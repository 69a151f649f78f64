#include "tests/support/fake_coordinator.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <mutex>

#include "absl/strings/str_cat.h"
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "common/base/digest.h"
#include "common/base/error_codes.h"
#include "common/base/ids.h"
#include "common/job/corpus.h"
#include "common/rpc/status_conversion.h"
#include "qsweep/v1/coordinator.grpc.pb.h"

namespace qsweep::testing {
namespace {

using Status = grpc::Status;
using Context = grpc::ServerContext;

class Service : public v1::CoordinatorService::Service {
 public:
  FakeCoordinator::Script script;
  FakeCoordinator::Received received;
  std::atomic<int> num_watches = 0;

  Status GetStatus(Context*, const v1::GetStatusRequest*,
                   v1::GetStatusResponse* response) override {
    response->set_version("9.9.9");
    response->set_revision("abc");
    response->set_uptime_ms(90'000);
    response->set_coordinator_epoch(2);
    response->set_workers_live(1);
    response->set_database_bytes(2048);
    response->set_wal_bytes(1024);
    response->add_warnings("the log is long");
    response->set_sqlite_version("3.40.1");
    return Status::OK;
  }

  Status SubmitJob(Context*, const v1::SubmitJobRequest* request,
                   v1::SubmitJobResponse* response) override {
    const std::lock_guard lock(mutex_);
    received.submits.push_back(*request);
    response->set_job_number(request->dry_run() ? 0 : 12);
    v1::JobPlan& plan = *response->mutable_plan();
    plan.set_configurations(4);
    plan.set_documents(6);
    plan.set_languages(2);
    plan.set_measurements(24);
    plan.set_measurements_reused(8);
    plan.set_tasks(2);
    plan.set_estimated_seconds(90);
    plan.add_notes("3 documents dropped");
    if (!request->dry_run()) {
      v1::JobSummary job = script.after_events;
      job.set_job_uuid(request->job_uuid());
      job.set_job_number(12);
      script.jobs.push_back(job);
    }
    return ToGrpcStatus(script.submit_error);
  }

  Status CreateToken(Context*, const v1::CreateTokenRequest* request,
                     v1::CreateTokenResponse* response) override {
    const std::lock_guard lock(mutex_);
    received.tokens.push_back(*request);
    response->mutable_token()->set_token_id(7);
    response->mutable_token()->set_kind(request->kind());
    response->mutable_token()->set_role(request->role());
    response->set_ca_sha256(script.ca_sha256);
    return Status::OK;
  }
  Status ListTokens(Context*, const v1::ListTokensRequest*,
                    v1::ListTokensResponse* response) override {
    const std::lock_guard lock(mutex_);
    *response->mutable_tokens() = {script.tokens.begin(), script.tokens.end()};
    return Status::OK;
  }
  Status RevokeToken(Context*, const v1::RevokeTokenRequest* request,
                     v1::RevokeTokenResponse* response) override {
    const std::lock_guard lock(mutex_);
    received.revoked.push_back(*request);
    for (const v1::Token& token : script.tokens) {
      if (token.token_id() == request->token_id()) {
        *response->add_revoked() = token;
      }
    }
    return Status::OK;
  }

  Status ListJobs(Context*, const v1::ListJobsRequest* request,
                  v1::ListJobsResponse* response) override {
    const std::lock_guard lock(mutex_);
    for (const v1::JobSummary& job : script.jobs) {
      if (response->jobs_size() < static_cast<int>(request->limit())) {
        *response->add_jobs() = job;
      }
    }
    response->set_total(script.jobs.size());
    return Status::OK;
  }

  Status GetJob(Context*, const v1::GetJobRequest* request,
                v1::GetJobResponse* response) override {
    const std::lock_guard lock(mutex_);
    const v1::JobSummary* job = Find(request->job().text());
    if (job == nullptr) {
      return ToGrpcStatus(NotFound(request->job().text()));
    }
    *response->mutable_summary() = *job;
    response->mutable_spec()->add_quantizers("rtn:bits=4,group=64");
    response->mutable_corpus()->set_name("udhr");
    return Status::OK;
  }

  Status CancelJob(Context*, const v1::CancelJobRequest* request,
                   v1::CancelJobResponse* response) override {
    const std::lock_guard lock(mutex_);
    received.cancels.push_back(*request);
    const v1::JobSummary* job = Find(request->job().text());
    if (job == nullptr) {
      return ToGrpcStatus(NotFound(request->job().text()));
    }
    *response->mutable_summary() = *job;
    response->mutable_summary()->set_state(v1::JOB_STATE_CANCELLED);
    return Status::OK;
  }

  Status WatchJob(Context* context, const v1::WatchJobRequest* request,
                  grpc::ServerWriter<v1::WatchEvent>* writer) override {
    std::vector<v1::WatchEvent> events;
    ++num_watches;
    {
      const std::lock_guard lock(mutex_);
      v1::JobSummary* job = Find(request->job().text());
      if (job == nullptr) {
        return ToGrpcStatus(NotFound(request->job().text()));
      }
      v1::WatchEvent snapshot;
      *snapshot.mutable_snapshot() = *job;
      writer->Write(snapshot);
      events = script.events;
      if (!script.watch_until_cancelled) {
        const std::string uuid = job->job_uuid();
        const uint64_t number = job->job_number();
        *job = script.after_events;
        job->set_job_uuid(uuid);
        job->set_job_number(number);
      }
    }
    for (const v1::WatchEvent& event : events) {
      writer->Write(event);
    }
    std::unique_lock lock(mutex_);
    while (script.watch_until_cancelled && !context->IsCancelled()) {
      cancelled_.wait_for(lock, std::chrono::milliseconds(10));
    }
    return Status::OK;
  }

  Status ListTasks(Context*, const v1::ListTasksRequest*,
                   v1::ListTasksResponse* response) override {
    for (const v1::TaskSummary& task : script.tasks) {
      *response->add_tasks() = task;
    }
    response->set_total(script.tasks.size());
    return Status::OK;
  }

  Status ListWorkers(Context*, const v1::ListWorkersRequest*,
                     v1::ListWorkersResponse* response) override {
    for (const v1::WorkerSummary& worker : script.workers) {
      *response->add_workers() = worker;
    }
    return Status::OK;
  }

  Status PutArtifact(Context*, grpc::ServerReader<v1::ArtifactChunk>* reader,
                     v1::PutArtifactResponse* response) override {
    std::string bytes;
    v1::ArtifactChunk chunk;
    while (reader->Read(&chunk)) {
      bytes += chunk.data();
    }
    response->set_digest(Digest::Of(bytes).bytes());
    const std::lock_guard lock(mutex_);
    response->set_existed(std::find(received.artifacts.begin(),
                                    received.artifacts.end(),
                                    bytes) != received.artifacts.end());
    received.artifacts.push_back(std::move(bytes));
    return Status::OK;
  }

  Status AddCorpus(Context*, grpc::ServerReader<v1::AddCorpusRequest>* reader,
                   v1::AddCorpusResponse*) override {
    v1::AddCorpusRequest part;
    v1::Corpus corpus;
    while (reader->Read(&part)) {
      AppendPart(part.corpus(), corpus);
    }
    const std::lock_guard lock(mutex_);
    received.corpora.push_back(std::move(corpus));
    return Status::OK;
  }

  Status ListCorpora(Context*, const v1::ListCorporaRequest*,
                     v1::ListCorporaResponse* response) override {
    const std::lock_guard lock(mutex_);
    for (const v1::Corpus& corpus : received.corpora) {
      *response->add_corpora() = corpus;
    }
    return Status::OK;
  }

  Status SampleTexts(Context*, const v1::SampleTextsRequest* request,
                     v1::SampleTextsResponse* response) override {
    const std::lock_guard lock(mutex_);
    received.samples.push_back(*request);
    *response = script.samples;
    return Status::OK;
  }

  Status Query(Context*, const v1::QueryRequest*,
               v1::QueryResponse* response) override {
    *response = script.query;
    return Status::OK;
  }

  Status GetResults(Context*, const v1::GetResultsRequest* request,
                    v1::GetResultsResponse* response) override {
    const std::lock_guard lock(mutex_);
    *response = script.results;
    received.results.push_back(*request);
    return Status::OK;
  }

  Status ExportMeasurements(
      Context*, const v1::ExportMeasurementsRequest*,
      grpc::ServerWriter<v1::MeasurementBatch>* writer) override {
    for (const v1::MeasurementRow& row : script.rows) {
      v1::MeasurementBatch batch;
      *batch.add_rows() = row;
      writer->Write(batch);
    }
    return Status::OK;
  }

 private:
  // By number, "last", name or UUID.
  v1::JobSummary* Find(const std::string& text) {
    for (v1::JobSummary& job : script.jobs) {
      const auto uuid = JobUuid::FromBytes(job.job_uuid());
      if (text == absl::StrCat(job.job_number()) || text == job.name() ||
          text == "last" || (uuid.ok() && uuid->text() == text)) {
        return &job;
      }
    }
    return nullptr;
  }

  static absl::Status NotFound(const std::string& text) {
    return MakeError(kJobNotFound, absl::StrCat("no job \"", text, "\""), text,
                     "qctl jobs list");
  }

  std::mutex mutex_;
  std::condition_variable cancelled_;  // never notified: gRPC cannot
};

}  // namespace

struct FakeCoordinator::Impl {
  Service service;
  std::unique_ptr<grpc::Server> server;
};

FakeCoordinator::FakeCoordinator(const std::string& dir)
    : impl_(std::make_unique<Impl>()) {
  const std::string address = absl::StrCat("unix:", dir, "/.sock");
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  builder.RegisterService(&impl_->service);
  impl_->server = builder.BuildAndStart();
  std::ofstream(dir + "/server") << address << "\n";
}

FakeCoordinator::~FakeCoordinator() {
  // Cancels watchers that would stay for ever.
  impl_->server->Shutdown(std::chrono::system_clock::now());
}

FakeCoordinator::Script& FakeCoordinator::script() {
  return impl_->service.script;
}

int FakeCoordinator::num_watches() const { return impl_->service.num_watches; }

const FakeCoordinator::Received& FakeCoordinator::received() const {
  return impl_->service.received;
}

}  // namespace qsweep::testing
