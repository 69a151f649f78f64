#include "tests/e2e/local_cluster.h"

#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "common/base/random.h"
#include "common/job/corpus.h"

namespace qsweep::testing {
namespace {

constexpr char kBinaries[] = QSWEEP_BINARY_DIR "/bin/";
constexpr absl::Duration kStartTimeout = absl::Seconds(60);

v1::JobSelector Select(const std::string& job) {
  v1::JobSelector selector;
  selector.set_text(job);
  return selector;
}

}  // namespace

LocalCluster::LocalCluster(const Options& options) : options_(options) {}

void LocalCluster::StartCoordinator() {
  std::vector<std::string> argv = {
      absl::StrCat(kBinaries, "qcoordinator"),
      "serve",
      "--dir",
      coordinator_dir(),
      "--listen",
      endpoint().address,
      "--heartbeat",
      absl::FormatDuration(options_.heartbeat),
      "--lease-ttl",
      absl::FormatDuration(options_.lease_ttl),
      "--failover-ttl",
      absl::FormatDuration(options_.failover_ttl),
      "--progress-deadline",
      absl::FormatDuration(options_.progress_deadline),
      "--task-seconds",
      absl::StrCat(options_.task_seconds)};
  argv.insert(argv.end(), options_.coordinator_flags.begin(),
              options_.coordinator_flags.end());
  coordinator_ =
      ChildProcess::Start({.argv = std::move(argv),
                           .environment = options_.coordinator_environment,
                           .log_path = dir_ / "coordinator.log",
                           .network = options_.coordinator_network});
  // A new client for a new coordinator: the old one's channel backs off.
  ASSERT_TRUE(AwaitTrue(kStartTimeout, [this] {
    client_ = std::make_unique<CoordinatorClient>(
        endpoint(), CoordinatorClientOptions{.timeout = absl::Seconds(20)});
    return !coordinator_->running() || client_->GetStatus({}).ok();
  })) << Logs();
  ASSERT_TRUE(coordinator_->running()) << Logs();
}

std::string LocalCluster::BackUp() {
  const auto backup = client_->Backup({});
  EXPECT_TRUE(backup.ok()) << backup.status();
  return backup.ok() ? backup->path() : "";
}

void LocalCluster::Restore(const std::string& backup) {
  KillCoordinator();
  const auto restore = ChildProcess::Start(
      {.argv = {absl::StrCat(kBinaries, "qcoordinator"), "restore", "--dir",
                coordinator_dir(), "--from", backup},
       .log_path = dir_ / "coordinator.log"});
  ASSERT_EQ(restore->Wait(kStartTimeout), 0) << Logs();
  ASSERT_NO_FATAL_FAILURE(StartCoordinator());
}

void LocalCluster::StartWorker(const std::string& name, int threads) {
  std::vector<std::string> argv = {absl::StrCat(kBinaries, "qworker"),
                                   "--server",
                                   options_.worker_server.empty()
                                       ? endpoint().address
                                       : options_.worker_server,
                                   "--dir",
                                   dir_ / name,
                                   "--name",
                                   name,
                                   "--threads",
                                   absl::StrCat(threads),
                                   "--engine",
                                   options_.engine};
  argv.insert(argv.end(), options_.worker_flags.begin(),
              options_.worker_flags.end());
  workers_[name] =
      ChildProcess::Start({.argv = std::move(argv),
                           .environment = options_.worker_environment,
                           .log_path = dir_ / (name + ".log"),
                           .network = options_.worker_network});
}

void LocalCluster::KillWorker(const std::string& name) {
  workers_.at(name)->Kill();
}

bool LocalCluster::SignalEngine(const std::string& name, int number) {
  const std::vector<pid_t> engines = ChildrenOf(workers_.at(name)->pid());
  for (const pid_t engine : engines) {
    kill(engine, number);
  }
  return !engines.empty();
}

std::optional<int> LocalCluster::StopWorker(const std::string& name,
                                            absl::Duration timeout) {
  workers_.at(name)->Signal(SIGTERM);
  return workers_.at(name)->Wait(timeout);
}

void LocalCluster::AwaitWorkers(size_t count) {
  ASSERT_TRUE(AwaitTrue(kStartTimeout, [&] {
    const auto status = client_->GetStatus({});
    return status.ok() && status->workers_live() == count;
  })) << Logs();
}

void LocalCluster::AddCorpus(
    const std::string& name,
    const std::map<std::string, std::vector<std::string>>& texts) {
  std::vector<LanguageText> languages;
  for (const auto& [language, documents] : texts) {
    LanguageText& added = languages.emplace_back();
    added.corpus.set_language(language);
    for (size_t i = 0; i < documents.size(); ++i) {
      v1::Document& document = *added.corpus.add_documents();
      document.set_id(absl::StrCat(i));
      document.set_text(documents[i]);
    }
  }
  const auto corpus = MakeCorpus(name, std::move(languages), {});
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  for (const std::string& artifact : corpus->artifacts) {
    ASSERT_TRUE(client_->PutArtifact(artifact).ok()) << Logs();
  }
  v1::AddCorpusRequest request;
  *request.mutable_corpus() = corpus->corpus;
  const auto added = client_->AddCorpus(request);
  ASSERT_TRUE(added.ok()) << added.status();
}

std::string LocalCluster::Submit(const v1::JobSpec& spec,
                                 const v1::ModelDescription& model) {
  const JobUuid uuid = *JobUuid::FromBytes(SecureRandomBytes(JobUuid::kSize));
  v1::SubmitJobRequest request;
  request.set_job_uuid(uuid.bytes());
  *request.mutable_spec() = spec;
  *request.add_models() = model;
  const auto submitted = client_->SubmitJob(request);
  EXPECT_TRUE(submitted.ok()) << submitted.status();
  return absl::StrCat("job/", uuid.text());
}

v1::JobSummary LocalCluster::Job(const std::string& job) {
  v1::GetJobRequest request;
  *request.mutable_job() = Select(job);
  const auto response = client_->GetJob(request);
  EXPECT_TRUE(response.ok()) << response.status();
  return response.ok() ? response->summary() : v1::JobSummary();
}

std::vector<v1::TaskSummary> LocalCluster::Tasks(const std::string& job) {
  std::vector<v1::TaskSummary> tasks;
  for (;;) {
    v1::ListTasksRequest request;
    *request.mutable_job() = Select(job);
    request.set_limit(500);
    request.set_after_task_id(tasks.empty() ? 0 : tasks.back().task_id());
    const auto response = client_->ListTasks(request);
    EXPECT_TRUE(response.ok()) << response.status();
    if (!response.ok() || response->tasks().empty()) {
      return tasks;
    }
    tasks.insert(tasks.end(), response->tasks().begin(),
                 response->tasks().end());
  }
}

void LocalCluster::AwaitSuccess(const std::string& job,
                                absl::Duration timeout) {
  v1::JobSummary summary;
  const bool ended = AwaitTrue(timeout, [&] {
    summary = Job(job);
    return summary.finished_at_us() != 0;
  });
  ASSERT_TRUE(ended && summary.state() == v1::JOB_STATE_SUCCEEDED)
      << summary.ShortDebugString() << Logs();
}

std::vector<std::string> LocalCluster::Rows(const std::string& job) {
  v1::ExportMeasurementsRequest request;
  *request.mutable_job() = Select(job);
  std::vector<std::string> rows;
  const absl::Status status = client_->ExportMeasurements(
      request, [&](const v1::MeasurementBatch& batch) {
        for (v1::MeasurementRow row : batch.rows()) {
          row.clear_engine();
          row.clear_device();
          row.clear_task_id();
          row.clear_epoch();
          row.clear_worker();
          row.clear_created_at_us();
          // Positions in the task that happened to measure it.
          row.mutable_values()->clear_configuration_index();
          row.mutable_values()->clear_document_index();
          rows.push_back(row.SerializeAsString());
        }
        return true;
      });
  EXPECT_TRUE(status.ok()) << status;
  return rows;
}

int64_t LocalCluster::QueryInteger(const std::string& sql) {
  v1::QueryRequest request;
  request.set_sql(sql);
  const auto response = client_->Query(request);
  EXPECT_TRUE(response.ok()) << response.status();
  if (!response.ok() || response->rows_size() != 1) {
    return -1;
  }
  return response->rows(0).values(0).integer();
}

std::string LocalCluster::Logs() const {
  constexpr size_t kTail = 2000;
  std::string text;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(dir_.path(), error)) {
    if (entry.path().extension() != ".log") {
      continue;
    }
    std::ifstream file(entry.path());
    const std::string log((std::istreambuf_iterator<char>(file)),
                          std::istreambuf_iterator<char>());
    absl::StrAppend(&text, "\n--- ", entry.path().filename().string(), "\n",
                    log.substr(log.size() - std::min(log.size(), kTail)));
  }
  return text;
}

}  // namespace qsweep::testing
