#include "tests/support/sweep_batches.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace qsweep::testing {
namespace {

constexpr const char* kLanguages[] = {"eng", "fra"};
constexpr const char* kLayerSets[] = {"all", "none", "L0"};

absl::Time At(int64_t seconds) {
  return absl::FromUnixSeconds(1'700'000'000 + seconds);
}

std::string Text(int language, int document) {
  return absl::StrCat("Text ", document + 1, " in ", kLanguages[language], ".");
}

v1::LanguageCorpus Artifact(int language) {
  v1::LanguageCorpus corpus;
  corpus.set_language(kLanguages[language]);
  for (int i = 0; i < 2; ++i) {
    v1::Document* document = corpus.add_documents();
    document->set_id(absl::StrCat(i + 1));
    document->set_text(Text(language, i));
    document->set_digest(Digest::Of(Text(language, i)).bytes());
  }
  return corpus;
}

std::shared_ptr<const v1::TaskSpec> Prototype() {
  auto spec = std::make_shared<v1::TaskSpec>();
  spec->set_model_digest(SweepModel().bytes());
  spec->set_evaluation(kEvaluation);
  spec->set_compute(v1::COMPUTE_FP32);
  for (size_t i = 0; i < 3; ++i) {
    v1::ConfigurationSpec* configuration = spec->add_configurations();
    configuration->set_digest(SweepConfigurations()[i].bytes());
    configuration->set_quantizer(i == 0 ? "fp" : "rtn:bits=4");
    configuration->set_layer_set(kLayerSets[i]);
  }
  for (int i = 0; i < 2; ++i) {
    v1::TaskLanguage* language = spec->add_languages();
    language->set_language(kLanguages[i]);
    language->set_artifact_digest(Digest::Of(SweepArtifact(i)).bytes());
  }
  return spec;
}

JobAdded MakeJob(int64_t number) {
  JobAdded job;
  job.number = JobNumber(number);
  job.uuid = *JobUuid::FromBytes(
      Digest::Of(absl::StrCat("job", number)).bytes().substr(0, 16));
  auto spec = std::make_shared<v1::JobSpec>();
  spec->set_kind(v1::JOB_KIND_LAYER_SWEEP);
  spec->set_name(absl::StrCat("sweep-", number));
  (*spec->mutable_labels())["team"] = "a";
  spec->set_corpus("texts");
  spec->set_reference("eng");
  spec->set_compute(v1::COMPUTE_FP32);
  spec->mutable_policy()->set_priority(2);
  spec->set_seed(7);
  job.spec_digest = Digest::Of(spec->SerializeAsString());
  job.spec = spec;
  auto plan = std::make_shared<v1::JobPlan>();
  plan->set_configurations(3);
  plan->set_documents(4);
  plan->set_languages(2);
  plan->set_measurements(12);
  plan->set_tasks(2);
  job.plan = plan;
  job.owner = "ada";
  job.created_at = At(number);
  job.models = {SweepModel()};
  job.corpus = SweepCorpus();
  for (size_t i = 0; i < 3; ++i) {
    JobConfiguration configuration;
    configuration.digest = SweepConfigurations()[i];
    configuration.quantizer = i == 0 ? "fp" : "rtn:bits=4";
    configuration.layer_set = kLayerSets[i];
    configuration.resolved = kLayerSets[i];
    configuration.canonical = {configuration.quantizer, kLayerSets[i]};
    configuration.baseline = i == 0;
    configuration.unprotected = i == 1;
    if (i == 2) {
      configuration.single_layer = 0;
      configuration.overhead_layers = 0.5;
    }
    job.configurations.push_back(configuration);
  }
  job.evaluations = {{.text = kEvaluation}};
  for (int unit = 0; unit < 2; ++unit) {
    for (int language = 0; language < 2; ++language) {
      job.documents.push_back({.language = kLanguages[language],
                               .id = absl::StrCat(unit + 1),
                               .digest = Digest::Of(Text(language, unit))});
    }
  }
  return job;
}

MeasuredRow Row(int64_t task, size_t configuration, size_t document) {
  MeasuredRow row;
  row.configuration = SweepConfigurations()[configuration];
  row.document = SweepDocuments()[document];
  v1::Measurement& values = row.values;
  values.set_bytes(20);
  values.set_chars(20);
  // The last text has one token: a durable row without sums.
  if (document == 3) {
    values.set_status(v1::ROW_STATUS_ONE_TOKEN);
    return row;
  }
  values.set_status(v1::ROW_STATUS_OK);
  values.set_nll_sum(static_cast<double>(task) + 0.1 +
                     static_cast<double>(configuration));
  values.set_nll_fp_sum(static_cast<double>(task) + 0.1);
  values.set_unigram_nll_sum(40.25);
  values.set_tokens(6);
  values.set_bytes_scored(18);
  values.set_kl_sum(0.3 * static_cast<double>(configuration));
  values.set_top1(5);
  if (configuration == 2) {
    values.set_codes(Digest::Of("codes").bytes());
  }
  return row;
}

}  // namespace

Digest SweepModel() { return Digest::Of("model"); }

Digest SweepCorpus() { return Digest::Of("corpus"); }

std::vector<Digest> SweepConfigurations() {
  return {Digest::Of("baseline"), Digest::Of("none"), Digest::Of("L0")};
}

std::vector<Digest> SweepDocuments() {
  return {Digest::Of(Text(0, 0)), Digest::Of(Text(0, 1)),
          Digest::Of(Text(1, 0)), Digest::Of(Text(1, 1))};
}

std::string SweepArtifact(int language_index) {
  return Artifact(language_index).SerializeAsString();
}

WorkerUuid SweepWorker() {
  return *WorkerUuid::FromBytes(std::string(16, 'w'));
}

SessionId SweepSession() { return *SessionId::FromBytes(std::string(16, 's')); }

std::vector<Mutation> StartBatch(int64_t coordinator_epoch) {
  return {CoordinatorStarted{.epoch = coordinator_epoch}};
}

std::vector<Mutation> CorpusBatch() {
  std::vector<Mutation> batch;
  auto corpus = std::make_shared<v1::Corpus>();
  corpus->set_name("texts");
  corpus->set_digest(SweepCorpus().bytes());
  for (int i = 0; i < 2; ++i) {
    auto bytes = std::make_shared<const std::string>(SweepArtifact(i));
    batch.push_back(ArtifactAdded{Digest::Of(*bytes), bytes});
    v1::CorpusLanguage* language = corpus->add_languages();
    language->set_language(kLanguages[i]);
    language->set_artifact_digest(Digest::Of(*bytes).bytes());
    language->set_documents(2);
    const v1::LanguageCorpus artifact = Artifact(i);
    for (const v1::Document& document : artifact.documents()) {
      language->add_document_ids(document.id());
      language->add_document_digests(document.digest());
      language->add_document_bytes(document.text().size());
    }
  }
  batch.push_back(CorpusAdded{corpus});
  return batch;
}

std::vector<Mutation> SubmitBatch(int64_t number) {
  std::vector<Mutation> batch;
  auto model = std::make_shared<v1::ModelDescription>();
  model->set_digest(SweepModel().bytes());
  model->set_name("tiny");
  model->set_layers(2);
  batch.push_back(ModelAdded{SweepModel(), model});
  batch.push_back(MakeJob(number));
  batch.push_back(TaskGroupAdded{TaskGroupId(number), Prototype()});
  const std::vector<Digest> documents = SweepDocuments();
  for (uint32_t language = 0; language < 2; ++language) {
    TaskAdded task;
    task.id = TaskId(2 * number - 1 + language);
    task.group = TaskGroupId(number);
    task.content_key = Digest::Of(absl::StrCat("task", task.id.value()));
    task.documents = {{documents[2 * language], language},
                      {documents[2 * language + 1], language}};
    task.estimated_seconds = 12.5;
    batch.push_back(task);
    batch.push_back(JobTaskAdded{JobNumber(number), task.id, 6});
  }
  batch.push_back(
      JobStateChanged{JobNumber(number), v1::JOB_STATE_QUEUED, "", At(number)});
  return batch;
}

std::vector<Mutation> AttachBatch() {
  auto hello = std::make_shared<v1::Hello>();
  hello->set_name("box-1");
  hello->set_build_id("test");
  hello->add_devices()->set_name("cpu");
  WorkerAttached attached;
  attached.worker = SweepWorker();
  attached.session = SweepSession();
  attached.boot_seq = 3;
  attached.credential = "token-1";
  attached.hello = hello;
  attached.time = At(5);
  return {attached, WorkerTimeAdded{.worker = SweepWorker(),
                                    .attached = absl::Seconds(100),
                                    .time = At(6)}};
}

std::vector<Mutation> LeaseBatch(int64_t task, int64_t epoch) {
  LeaseGranted lease;
  lease.task = TaskId(task);
  lease.epoch = Epoch(epoch);
  lease.worker = SweepWorker();
  lease.session = SweepSession();
  lease.credential = "token-1";
  lease.granted_at = At(10 + task);
  return {lease};
}

std::vector<Mutation> ResultBatch(int64_t task, int64_t epoch) {
  ResultCommitted result;
  result.task = TaskId(task);
  result.epoch = Epoch(epoch);
  result.payload_digest = Digest::Of(absl::StrCat("payload", task));
  result.evaluation = kEvaluation;
  const size_t first = task % 2 == 1 ? 0 : 2;  // document of its language
  for (size_t configuration = 0; configuration < 3; ++configuration) {
    for (size_t document = first; document < first + 2; ++document) {
      result.rows.push_back(Row(task, configuration, document));
    }
  }
  result.speed = {.model = SweepModel(),
                  .operation = "aligned@1",
                  .device = "cpu",
                  .gflops = 40.0 + static_cast<double>(task),
                  .load_seconds = task == 1 ? 0.5 : 0,
                  .weight_bandwidth = task == 1 ? 2e9 : 0};
  result.report.set_engine("engine-1");
  result.report.set_device("cpu");
  v1::NoiseFloor& noise = *result.report.mutable_noise();
  noise.set_nll_per_token(1e-7 * static_cast<double>(task));
  noise.set_documents(2);
  noise.set_tokens(30);
  result.worker = SweepWorker();
  result.worker_name = "box-1";
  result.committed_at = At(20 + task);
  result.held = absl::Seconds(7);
  if (first == 2) {
    result.documents_skipped = {{JobNumber((task + 1) / 2), 1}};
  }
  return {result};
}

std::vector<Mutation> DuplicateBatch(int64_t task, int64_t epoch) {
  DuplicateRecorded duplicate;
  duplicate.task = TaskId(task);
  duplicate.epoch = Epoch(epoch);
  duplicate.payload_digest = Digest::Of("other payload");
  duplicate.evaluation = kEvaluation;
  duplicate.differing = {Row(task + 100, 1, 0)};
  duplicate.num_compared = 6;
  duplicate.engine = "engine-2";
  duplicate.worker = SweepWorker();
  duplicate.time = At(40);
  return {duplicate};
}

Mutation Event(int64_t job, uint64_t seq, uint64_t job_seq,
               const std::string& kind) {
  auto event = std::make_shared<v1::DurableEvent>();
  event->set_seq(seq);
  event->set_job_seq(job_seq);
  event->set_time_us(absl::ToUnixMicros(At(30)) + static_cast<int64_t>(seq));
  event->set_worker("box-1");
  event->set_kind(kind);
  event->set_from("leased");
  event->set_to("done");
  return EventAppended{JobNumber(job), event};
}

std::vector<std::vector<Mutation>> WholeSweep() {
  std::vector<std::vector<Mutation>> batches = {StartBatch(1), CorpusBatch(),
                                                SubmitBatch(1), AttachBatch()};
  for (int64_t task = 1; task <= 2; ++task) {
    batches.push_back(LeaseBatch(task, 1));
    std::vector<Mutation> result = ResultBatch(task, 1);
    result.push_back(Event(1, static_cast<uint64_t>(task),
                           static_cast<uint64_t>(task), "task_done"));
    batches.push_back(std::move(result));
  }
  batches.push_back({JobStateChanged{JobNumber(1), v1::JOB_STATE_SUCCEEDED,
                                     "all measured", At(50)}});
  return batches;
}

}  // namespace qsweep::testing
