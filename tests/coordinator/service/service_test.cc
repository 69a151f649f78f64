// The coordinator over real gRPC: a whole server in this process, real clients.
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unistd.h>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/job/corpus.h"
#include "common/job/utf8.h"
#include "common/rpc/coordinator_client.h"
#include "coordinator/service/server.h"
#include "coordinator/service/watch_reactor.h"
#include "tests/support/error_matchers.h"
#include "tests/support/fake_worker.h"
#include "tests/support/small_sweep.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class ServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Start(absl::StrCat("unix:", directory_.path(), "/.sock"));
  }
  void Start(const std::string& listen) {
    ServerOptions options;
    options.directory = directory_.path();
    options.listen = {listen};
    auto server = Server::Start(options, Clock::Real());
    QSWEEP_ASSERT_OK(server);
    server_ = *std::move(server);
    endpoint_ = {.address = server_->addresses().front()};
    client_ = std::make_unique<CoordinatorClient>(endpoint_);
  }

  void AddCorpus() { AddSmallCorpus(*client_); }
  v1::JobSelector Job(const std::string& text = "1") {
    v1::JobSelector selector;
    selector.set_text(text);
    return selector;
  }
  v1::JobSummary Summary() {
    v1::GetJobRequest request;
    *request.mutable_job() = Job();
    const auto job = client_->GetJob(request);
    EXPECT_EQ(job.status(), absl::OkStatus());
    return job.ok() ? job->summary() : v1::JobSummary();
  }
  // Runs every task of the job.
  void Work(FakeWorker& worker) {
    worker.Attach();
    while (Summary().state() != v1::JOB_STATE_SUCCEEDED) {
      const v1::DesiredLease lease = worker.AwaitLease();
      ASSERT_NE(lease.task_id(), 0u);
      const auto reply = worker.Commit(lease);
      QSWEEP_ASSERT_OK(reply);
      ASSERT_EQ(reply->results(0).outcome(), v1::COMMIT_OUTCOME_OK)
          << reply->DebugString();
    }
  }
  std::vector<v1::MeasurementRow> Export() {
    v1::ExportMeasurementsRequest request;
    *request.mutable_job() = Job();
    std::vector<v1::MeasurementRow> rows;
    QSWEEP_EXPECT_OK(client_->ExportMeasurements(
        request, [&](const v1::MeasurementBatch& batch) {
          rows.insert(rows.end(), batch.rows().begin(), batch.rows().end());
          return true;
        }));
    return rows;
  }

  TempDir directory_;
  std::unique_ptr<Server> server_;
  Endpoint endpoint_;
  std::unique_ptr<CoordinatorClient> client_;
};

TEST_F(ServiceTest, RunsASweepFromSubmitToResults) {
  AddCorpus();
  const auto submitted = client_->SubmitJob(SmallSweepRequest());
  QSWEEP_ASSERT_OK(submitted);
  EXPECT_EQ(submitted->job_number(), 1u);
  EXPECT_EQ(submitted->plan().configurations(), 4u);  // fp, none, L0, L1
  EXPECT_EQ(submitted->plan().measurements(), 24u);

  FakeWorker worker(endpoint_, "box");
  Work(worker);
  EXPECT_EQ(Summary().measurements_done(), 24u);

  const std::vector<v1::MeasurementRow> rows = Export();
  ASSERT_EQ(rows.size(), 24u);
  std::set<std::string> layer_sets;
  for (const v1::MeasurementRow& row : rows) {
    layer_sets.insert(row.layer_set());
    EXPECT_EQ(row.worker(), "box");
    EXPECT_EQ(row.engine(), "fake");
    EXPECT_EQ(row.corpus(), "texts");
  }
  EXPECT_EQ(layer_sets, (std::set<std::string>{"all", "none", "L0", "L1"}));

  v1::GetResultsRequest request;
  *request.mutable_job() = Job("last");
  request.set_resamples(200);
  const auto results = client_->GetResults(request);
  QSWEEP_ASSERT_OK(results);
  EXPECT_EQ(results->reference(), "eng");
  EXPECT_EQ(results->job().job_number(), 1u);
  ASSERT_EQ(results->panels_size(), 1);
  const v1::ResultPanel& panel = results->panels(0);
  EXPECT_EQ(panel.model(), "tiny");
  EXPECT_EQ(panel.units(), 3u);
  ASSERT_EQ(panel.configurations_size(), 4);
  EXPECT_TRUE(panel.configurations(0).baseline());
  EXPECT_EQ(panel.configurations(1).resolved(), "none");
  EXPECT_NEAR(panel.configurations(1).cells(0).delta_nll().value(), 0.15, 1e-9);

  v1::QueryRequest query;
  query.set_sql("SELECT count(*), sum(tokens) FROM measurements_v1");
  const auto answer = client_->Query(query);
  QSWEEP_ASSERT_OK(answer);
  EXPECT_EQ(answer->rows(0).values(0).integer(), 24);
  EXPECT_EQ(answer->rows(0).values(1).integer(), 240);
}

TEST_F(ServiceTest, RunsNothing_WhenTheSameSweepIsSubmittedAgain) {
  AddCorpus();
  QSWEEP_ASSERT_OK(client_->SubmitJob(SmallSweepRequest()));
  FakeWorker worker(endpoint_, "box");
  Work(worker);
  const auto again = client_->SubmitJob(SmallSweepRequest());
  QSWEEP_ASSERT_OK(again);
  EXPECT_EQ(again->job_number(), 2u);
  EXPECT_EQ(again->plan().measurements_reused(), 24u);
  EXPECT_EQ(again->plan().tasks(), 0u);
}

TEST_F(ServiceTest, SendsErrorsWithTheirCodeFieldAndHint) {
  AddCorpus();
  v1::SubmitJobRequest request = SmallSweepRequest();
  request.mutable_spec()->mutable_layer_sets(0)->set_literal("L99");
  const auto refused = client_->SubmitJob(request);
  EXPECT_EQ(CodeOf(refused), "QS1011");
  EXPECT_EQ(FieldOf(refused), "layerSets[0]");
  EXPECT_FALSE(HintOf(refused).empty());

  v1::GetJobRequest get;
  *get.mutable_job() = Job("77");
  EXPECT_EQ(CodeOf(client_->GetJob(get)), "QS4020");
  v1::GetResultsRequest results;
  *results.mutable_job() = Job("77");
  EXPECT_EQ(CodeOf(client_->GetResults(results)), "QS4020");
  v1::ExportMeasurementsRequest rows;
  *rows.mutable_job() = Job("77");
  EXPECT_EQ(CodeOf(client_->ExportMeasurements(
                rows, [](const v1::MeasurementBatch&) { return true; })),
            "QS4020");
  v1::QueryRequest query;
  query.set_sql("DROP TABLE job");
  const auto answer = client_->Query(query);
  EXPECT_EQ(CodeOf(answer), "QS4010");
  EXPECT_EQ(FieldOf(answer), "sql");
  EXPECT_FALSE(HintOf(answer).empty());
}

TEST_F(ServiceTest, WatchesFromASequenceNumber) {
  AddCorpus();
  QSWEEP_ASSERT_OK(client_->SubmitJob(SmallSweepRequest()));
  FakeWorker worker(endpoint_, "box");
  Work(worker);

  std::vector<uint64_t> all;
  v1::WatchJobRequest request;
  *request.mutable_job() = Job();
  bool snapshot_first = false;
  QSWEEP_EXPECT_OK(client_->WatchJob(request, [&](const v1::WatchEvent& event) {
    if (event.has_durable()) {
      all.push_back(event.durable().seq());
    } else if (event.has_snapshot()) {
      snapshot_first = all.empty();
    }
    return true;
  }));
  EXPECT_TRUE(snapshot_first);
  ASSERT_GE(all.size(), 3u);

  std::vector<uint64_t> rest;
  request.set_from_seq(all[1]);
  QSWEEP_EXPECT_OK(client_->WatchJob(request, [&](const v1::WatchEvent& event) {
    if (event.has_durable()) {
      rest.push_back(event.durable().seq());
    }
    return true;
  }));
  EXPECT_EQ(rest, std::vector<uint64_t>(all.begin() + 2, all.end()));

  *request.mutable_job() = Job("nothing");
  EXPECT_EQ(CodeOf(client_->WatchJob(
                request, [](const v1::WatchEvent&) { return true; })),
            "QS4020");
}

// The loop sends no more than there is room for, and hears when there is some.
TEST_F(ServiceTest, SendsAllOldEvents_WhenTheyAreMoreThanItsBuffer) {
  AddCorpus();
  QSWEEP_ASSERT_OK(client_->SubmitJob(SmallSweepRequest()));
  for (int i = 0; i < kWatchEventsMax; ++i) {
    v1::ControlJobRequest control;
    *control.mutable_job() = Job();
    control.set_action(i % 2 == 0 ? v1::JOB_ACTION_PAUSE
                                  : v1::JOB_ACTION_RESUME);
    QSWEEP_ASSERT_OK(client_->ControlJob(control));
  }
  v1::CancelJobRequest cancel;
  *cancel.mutable_job() = Job();
  QSWEEP_ASSERT_OK(client_->CancelJob(cancel));
  v1::WatchJobRequest request;
  *request.mutable_job() = Job();
  int events = 0;
  QSWEEP_EXPECT_OK(client_->WatchJob(request, [&](const v1::WatchEvent& event) {
    events += event.has_durable();
    EXPECT_EQ(event.durable().job_seq(), static_cast<uint64_t>(events));
    return true;
  }));
  EXPECT_GT(events, kWatchEventsMax);
}

TEST_F(ServiceTest, GivesSamplesOfTheTexts) {
  AddCorpus();
  v1::SampleTextsRequest request;
  request.set_corpus("texts");
  request.add_languages("eng");
  const auto response = client_->SampleTexts(request);
  QSWEEP_ASSERT_OK(response);
  ASSERT_EQ(response->samples_size(), 1);
  EXPECT_EQ(response->samples(0).language(), "eng");
  EXPECT_THAT(response->samples(0).text(),
              StartsWith("Article 1 in eng.\nArticle 2"));
  request.add_languages("tlh");
  EXPECT_EQ(CodeOf(client_->SampleTexts(request)), "QS2101");
  request.set_corpus("other");
  EXPECT_EQ(CodeOf(client_->SampleTexts(request)), "QS2113");
}

// Whole characters, however many bytes they have.
TEST_F(ServiceTest, CutsSamplesBetweenCharacters) {
  std::vector<LanguageText> languages(1);
  languages[0].corpus.set_language("hin");
  for (const char* id : {"1", "2"}) {
    v1::Document& document = *languages[0].corpus.add_documents();
    document.set_id(id);
    std::string text(id);
    for (int i = 0; i < 1000; ++i) {
      text += "\u0915";
    }
    document.set_text(text);
  }
  AddCorpusData(*client_, *MakeCorpus("long", std::move(languages), {}));
  v1::SampleTextsRequest request;
  request.set_corpus("long");
  const auto response = client_->SampleTexts(request);
  QSWEEP_ASSERT_OK(response);
  const std::string& text = response->samples(0).text();
  EXPECT_TRUE(IsValidUtf8(text));
  EXPECT_GT(text.size(), 4090u);
  EXPECT_LE(text.size(), 4096u);
  EXPECT_THAT(text, HasSubstr("\n2"));
}

TEST_F(ServiceTest, ShowsAJobAndPlansItAgain_AsItIsStored) {
  AddCorpus();
  v1::SubmitJobRequest request = SmallSweepRequest();
  v1::TokenRate& rate = *request.add_token_rates();
  rate.set_language("eng");
  rate.set_bytes_per_token(2);
  request.mutable_spec()->add_languages("eng");
  request.mutable_spec()->mutable_calibration()->set_corpus("texts");
  request.mutable_spec()->set_quantizers(0, "gptq:bits=4,group=4");
  const auto submitted = client_->SubmitJob(request);
  QSWEEP_ASSERT_OK(submitted);
  v1::GetJobRequest get;
  *get.mutable_job() = Job();
  const auto job = client_->GetJob(get);
  QSWEEP_ASSERT_OK(job);
  EXPECT_EQ(job->summary().job_uuid(), request.job_uuid());
  EXPECT_EQ(job->spec().name(), "sweep");
  EXPECT_EQ(job->plan().SerializeAsString(),
            submitted->plan().SerializeAsString());
  ASSERT_EQ(job->models_size(), 1);
  EXPECT_EQ(job->models(0).digest(), request.models(0).digest());
  EXPECT_EQ(job->corpus().name(), "texts");
  ASSERT_EQ(job->corpus().languages_size(), 1);
  EXPECT_EQ(job->corpus().languages(0).language(), "eng");
  EXPECT_GT(job->last_seq(), 0u);

  v1::CancelJobRequest cancel;
  *cancel.mutable_job() = Job();
  QSWEEP_ASSERT_OK(client_->CancelJob(cancel));
  v1::ControlJobRequest retry;
  *retry.mutable_job() = Job();
  retry.set_action(v1::JOB_ACTION_RETRY);
  const auto retried = client_->ControlJob(retry);
  QSWEEP_ASSERT_OK(retried);
  EXPECT_EQ(retried->summary().state(), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(retried->summary().measurements_total(),
            job->summary().measurements_total());
  const auto planned = client_->GetJob(get);
  QSWEEP_ASSERT_OK(planned);
  ASSERT_EQ(planned->plan().token_rates_size(), 1);
  EXPECT_EQ(planned->plan().token_rates(0).bytes_per_token(), 2);
  *retry.mutable_job() = Job("77");
  EXPECT_EQ(CodeOf(client_->ControlJob(retry)), "QS4020");
}

TEST_F(ServiceTest, CarriesArtifactsBothWays) {
  const std::string bytes(3 << 20, 'x');
  const auto stored = client_->PutArtifact(bytes);
  QSWEEP_ASSERT_OK(stored);
  EXPECT_FALSE(stored->existed());
  EXPECT_TRUE(client_->PutArtifact(bytes)->existed());
  FakeWorker worker(endpoint_, "box");
  const auto fetched = worker.client().GetArtifact(Digest::Of(bytes));
  QSWEEP_ASSERT_OK(fetched);
  EXPECT_TRUE(*fetched == bytes);
  EXPECT_EQ(CodeOf(worker.client().GetArtifact(Digest::Of("none"))), "QS4041");
  QSWEEP_EXPECT_OK(client_->PutArtifact(""));
  EXPECT_EQ(*worker.client().GetArtifact(Digest::Of("")), "");
}

TEST_F(ServiceTest, RefusesAWorkerOfAnotherProtocol) {
  FakeWorker worker(endpoint_, "box");
  worker.hello().set_protocol_min(90);
  worker.hello().set_protocol_max(99);
  EXPECT_EQ(CodeOf(worker.AttachRefused()), "QS6003");
}

TEST_F(ServiceTest, RefusesEveryLieOfAWorker_AndStoresNothingOfIt) {
  AddCorpus();
  QSWEEP_ASSERT_OK(client_->SubmitJob(SmallSweepRequest()));
  FakeWorker worker(endpoint_, "box");
  worker.Attach();
  const v1::DesiredLease lease = worker.AwaitLease();
  const v1::ResultEnvelope honest = worker.Envelope(lease);
  const auto with_result =
      [&](const std::function<void(v1::TaskResult&)>& lie) {
        v1::TaskResult result;
        result.ParseFromString(honest.payload());
        lie(result);
        v1::ResultEnvelope envelope = honest;
        envelope.set_payload(result.SerializeAsString());
        envelope.set_payload_sha256(Digest::Of(envelope.payload()).bytes());
        return envelope;
      };
  std::map<std::string, v1::ResultEnvelope> lies = {
      {"an epoch that was not granted", honest},
      {"a digest of something else", honest},
      {"another task's content", honest},
      {"a task that does not exist", honest},
      {"rows that are not the task's", with_result([](v1::TaskResult& result) {
         result.mutable_rows(0)->set_document_index(1'000);
       })},
      {"a row of nothing", with_result([](v1::TaskResult& result) {
         result.mutable_rows()->RemoveLast();
       })},
      {"NaN", with_result([](v1::TaskResult& result) {
         result.mutable_rows(0)->set_nll_sum(std::nan(""));
       })},
      {"3 MiB", with_result([](v1::TaskResult& result) {
         result.mutable_report()->set_engine(std::string(3 << 20, 'x'));
       })}};
  lies["an epoch that was not granted"].set_epoch(7);
  lies["a digest of something else"].set_payload_sha256(
      Digest::Of("x").bytes());
  lies["another task's content"].set_content_key(Digest::Of("x").bytes());
  lies["a task that does not exist"].set_task_id(99);
  for (const auto& [name, lie] : lies) {
    SCOPED_TRACE(name);
    v1::CommitResultRequest request;
    *request.add_results() = lie;
    const auto reply = worker.client().CommitResult(request);
    QSWEEP_ASSERT_OK(reply);
    EXPECT_EQ(reply->results(0).outcome(), v1::COMMIT_OUTCOME_REJECTED);
    EXPECT_FALSE(reply->results(0).failure().detail().code().empty());
  }
  EXPECT_EQ(Summary().measurements_done(), 0u);
  v1::CommitResultRequest request;
  *request.add_results() = honest;
  const auto reply = worker.client().CommitResult(request);
  QSWEEP_ASSERT_OK(reply);
  EXPECT_EQ(reply->results(0).outcome(), v1::COMMIT_OUTCOME_OK);

  FakeWorker talker(endpoint_, "talker");
  talker.hello().set_name(std::string(3 << 20, 'x'));
  EXPECT_EQ(CodeOf(talker.AttachRefused()), "QS1004");
}

TEST_F(ServiceTest, TakesNoMessageAboveFourMebibytes_AndServesOn) {
  const std::string bytes(10 << 20, 'x');
  v1::SubmitJobRequest submit = SmallSweepRequest();
  submit.mutable_spec()->set_name(bytes);
  const auto answer = client_->SubmitJob(submit);  // not even sent
  EXPECT_EQ(CodeOf(answer), "QS1004");
  EXPECT_THAT(answer.status().message(), HasSubstr("4194304"));

  FakeWorker worker(endpoint_, "box");
  v1::CommitResultRequest commit;
  commit.add_results()->set_payload(bytes);
  const auto reply = worker.client().CommitResult(commit);
  EXPECT_TRUE(absl::IsResourceExhausted(reply.status())) << reply.status();
  EXPECT_THAT(reply.status().message(), HasSubstr("larger than max"));

  worker.hello().set_name(bytes);
  EXPECT_TRUE(absl::IsResourceExhausted(worker.AttachRefused()));
  QSWEEP_EXPECT_OK(client_->GetStatus({}));
}

// Its ids and digests come in parts: gRPC would refuse them in one message.
TEST_F(ServiceTest, TakesACorpusThatIsLargerThanAMessage) {
  constexpr int kDocuments = 150'000;
  const std::string texts = "texts";
  QSWEEP_ASSERT_OK(client_->PutArtifact(texts));
  v1::AddCorpusRequest request;
  v1::Corpus& corpus = *request.mutable_corpus();
  corpus.set_name("large");
  v1::CorpusLanguage& language = *corpus.add_languages();
  language.set_language("eng");
  language.set_artifact_digest(Digest::Of(texts).bytes());
  language.set_documents(kDocuments);
  language.set_bytes(kDocuments);
  for (int i = 0; i < kDocuments; ++i) {
    language.add_document_ids(absl::StrCat(i));
    language.add_document_digests(Digest::Of(absl::StrCat(i)).bytes());
    language.add_document_bytes(1);
  }
  corpus.set_digest(CorpusDigest(corpus).bytes());
  EXPECT_GT(request.ByteSizeLong(), 6u << 20);
  const auto added = client_->AddCorpus(request);
  QSWEEP_ASSERT_OK(added);
  EXPECT_FALSE(added->existed());
  EXPECT_TRUE(client_->AddCorpus(request)->existed());
  const auto listed = client_->ListCorpora({});
  QSWEEP_ASSERT_OK(listed);
  ASSERT_EQ(listed->corpora_size(), 1);
  EXPECT_EQ(listed->corpora(0).digest(), corpus.digest());

  for (int i = 0; i < 70; ++i) {  // MiB
    language.add_document_ids(std::string(1 << 20, 'x'));
  }
  const auto large = client_->AddCorpus(request);
  EXPECT_EQ(CodeOf(large), "QS1004");
  EXPECT_THAT(large.status().message(), HasSubstr("64 MiB"));
}

TEST_F(ServiceTest, GoesOnAfterARestart) {
  AddCorpus();
  QSWEEP_ASSERT_OK(client_->SubmitJob(SmallSweepRequest()));
  auto worker = std::make_unique<FakeWorker>(endpoint_, "box");
  const v1::DesiredState welcome = worker->Attach();
  const v1::DesiredLease lease = worker->AwaitLease();
  const std::string listen = endpoint_.address;
  QSWEEP_ASSERT_OK(server_->Stop());
  worker.reset();
  server_.reset();
  Start(listen);

  // The result of a lease from before the restart counts.
  FakeWorker same(endpoint_, "box");
  EXPECT_GT(same.Attach().coordinator_epoch(), welcome.coordinator_epoch());
  const auto reply = same.Commit(lease);
  QSWEEP_ASSERT_OK(reply);
  EXPECT_EQ(reply->results(0).outcome(), v1::COMMIT_OUTCOME_OK);
  EXPECT_EQ(same.Commit(lease)->results(0).outcome(),
            v1::COMMIT_OUTCOME_ALREADY_COMMITTED);
}

// grpc.health.v1.Health/Check by hand: its proto is not ours.
// HealthCheckResponse {status: SERVING} is the bytes 08 01.
std::string CheckHealthService(const Endpoint& endpoint) {
  grpc::GenericStub stub(grpc::CreateChannel(
      endpoint.address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(
      absl::ToChronoTime(Clock::Real().Now() + absl::Seconds(20)));
  const grpc::Slice empty;
  grpc::ByteBuffer request(&empty, 1);
  grpc::ByteBuffer response;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, "/grpc.health.v1.Health/Check", {}, &request,
                 &response,
                 [&](grpc::Status status) { done.set_value(status); });
  const grpc::Status status = done.get_future().get();
  EXPECT_TRUE(status.ok()) << status.error_message();
  grpc::Slice bytes;
  response.DumpToSingleSlice(&bytes).ok();
  return std::string(bytes.begin(), bytes.end());
}

TEST_F(ServiceTest, SaysThatItServes) {
  EXPECT_EQ(CheckHealthService(endpoint_), "\x08\x01");
  QSWEEP_EXPECT_OK(server_->CheckHealth());
  EXPECT_EQ(CheckHealthService(endpoint_), "\x08\x01");
}

TEST_F(ServiceTest, EndsStreams_WhenItStops) {
  AddCorpus();
  QSWEEP_ASSERT_OK(client_->SubmitJob(SmallSweepRequest()));
  FakeWorker worker(endpoint_, "box");
  worker.Attach();
  QSWEEP_EXPECT_OK(server_->CheckHealth());
  QSWEEP_EXPECT_OK(server_->Stop());
  EXPECT_EQ(CodeOf(client_->GetStatus({})), "QS4001");
}

TEST_F(ServiceTest, RefusesASecondCoordinator) {
  ServerOptions options;
  options.directory = directory_.path();
  options.listen = {absl::StrCat("unix:", directory_.path(), "/other.sock")};
  const auto second = Server::Start(options, Clock::Real());
  EXPECT_EQ(CodeOf(second), "QS4003");
  EXPECT_THAT(FieldOf(second), HasSubstr(directory_.path()));
  EXPECT_FALSE(HintOf(second).empty());
  // Another directory, but an address that is taken.
  TempDir other;
  options.directory = other.path();
  options.listen = {endpoint_.address};
  EXPECT_EQ(CodeOf(Server::Start(options, Clock::Real())), "QS4002");
  QSWEEP_EXPECT_OK(client_->GetStatus({}));
}

class TcpServiceTest : public ServiceTest {
 protected:
  void SetUp() override { Start("127.0.0.1:0"); }
};

TEST_F(TcpServiceTest, WantsTheToken) {
  EXPECT_EQ(CodeOf(client_->GetStatus({})), "QS6001");
  endpoint_.token = "wrong";
  CoordinatorClient wrong(endpoint_);
  EXPECT_EQ(CodeOf(wrong.GetStatus({})), "QS6001");
  FakeWorker stranger(endpoint_, "box");
  EXPECT_EQ(CodeOf(stranger.AttachRefused()), "QS6001");
  EXPECT_EQ(CodeOf(stranger.client().GetArtifact(Digest::Of("x"))), "QS6001");
  EXPECT_EQ(CodeOf(wrong.PutArtifact("x")), "QS6001");

  endpoint_.token = *ReadTokenFile(directory_ / "token");
  EXPECT_EQ(endpoint_.token, server_->token());
  struct stat info = {};
  ASSERT_EQ(stat((directory_ / "token").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  CoordinatorClient right(endpoint_);
  QSWEEP_EXPECT_OK(right.GetStatus({}));
  FakeWorker worker(endpoint_, "box");
  worker.Attach();
}

TEST_F(TcpServiceTest, RefusesAPortThatIsTaken) {
  TempDir other;
  ServerOptions options;
  options.directory = other.path();
  // The free socket before it is not blamed.
  options.listen = {absl::StrCat("unix:", other / "s"), endpoint_.address};
  const auto second = Server::Start(options, Clock::Real());
  EXPECT_EQ(CodeOf(second), "QS4002");
  EXPECT_EQ(second.status().message(),
            absl::StrCat("cannot listen on ", endpoint_.address));
  EXPECT_EQ(FieldOf(second), "--listen");
  EXPECT_FALSE(HintOf(second).empty());
}

TEST(ServerStart, RefusesWhatItCannotServeSafely) {
  TempDir directory;
  ServerOptions options;
  options.directory = directory.path();
  for (const char* listen : {"0.0.0.0:7680", "[::]:0", "example.org:7680"}) {
    options.listen = {listen};
    const auto server = Server::Start(options, Clock::Real());
    EXPECT_EQ(CodeOf(server), "QS6009") << listen;
    EXPECT_EQ(FieldOf(server), "--listen");
  }
  options.listen = {absl::StrCat("unix:", directory / "s")};
  options.settings.lease_ttl = options.settings.heartbeat;
  EXPECT_EQ(CodeOf(Server::Start(options, Clock::Real())), "QS1004");
  options.settings = {};
  options.directory = directory / "a/b/c";
  EXPECT_EQ(CodeOf(Server::Start(options, Clock::Real())), "QS7002");
}

TEST(ServerStart, ReplacesASocketThatNobodyAnswers_AndNothingElse) {
  TempDir directory;
  const std::string path = directory / "s";
  const int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): the socket API
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  ASSERT_EQ(bind(descriptor, generic, sizeof(address)), 0);
  close(descriptor);
  ServerOptions options;
  options.directory = directory / "data";
  options.listen = {absl::StrCat("unix:", path)};
  QSWEEP_EXPECT_OK(Server::Start(options, Clock::Real()));

  const std::string file = directory / "file";
  std::ofstream(file) << "keep me";
  options.listen = {absl::StrCat("unix:", file)};
  EXPECT_EQ(CodeOf(Server::Start(options, Clock::Real())), "QS4002");
  EXPECT_EQ(access(file.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace qsweep::testing
