#include "tests/bench/workload.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/random.h"
#include "common/base/status_macros.h"
#include "common/job/corpus.h"
#include "common/job/job_spec.h"
#include "common/job/model_description_proto.h"
#include "tests/support/model_descriptions.h"

namespace qsweep::bench {
namespace {

constexpr char kLanguage[] = "eng";
constexpr testing::LlamaShape kShape = {.layers = 6,
                                        .hidden = 576,
                                        .key_value = 192,
                                        .feed_forward = 1536,
                                        .vocabulary = 49152};

ModelDescription Model() {
  return testing::LlamaDescription("bench-llama", kShape);
}

// All of one length: each task is planned to take as long as the others.
std::string Text(const std::string& corpus, int64_t number) {
  return absl::StrFormat("%8s text %08d", corpus, number);
}

CorpusData MakeTexts(const std::string& name, int64_t documents) {
  std::vector<LanguageText> languages(1);
  languages[0].corpus.set_language(kLanguage);
  for (int64_t i = 0; i < documents; ++i) {
    v1::Document& document = *languages[0].corpus.add_documents();
    document.set_id(absl::StrCat(i));
    document.set_text(Text(name, i));
  }
  auto corpus = MakeCorpus(name, std::move(languages), {});
  QSWEEP_CHECK(corpus.ok());
  return *std::move(corpus);
}

v1::JobSpec Spec(Sweep sweep, const std::string& corpus) {
  v1::JobSpec spec;
  spec.set_name("bench");
  spec.add_models()->set_path("/models/bench-llama");
  spec.add_quantizers("rtn:bits=4,group=64");
  spec.set_corpus(corpus);
  spec.set_reference(kLanguage);
  if (sweep == Sweep::kLayers) {
    spec.set_kind(v1::JOB_KIND_LAYER_SWEEP);
    spec.set_layers("all");
  } else {
    spec.set_kind(v1::JOB_KIND_CONFIGS);
    spec.add_layer_sets()->set_literal("none");
  }
  FillJobSpecDefaults(spec);
  return spec;
}

}  // namespace

int64_t RowsPerTask(Sweep sweep) {
  return sweep == Sweep::kLayers ? kShape.layers + 2 : 2;
}

double TaskSecondsFor(Sweep sweep) {
  // As coordinator/core/plan.h estimates it: of the layers, what differs from
  // the prefixes of other configurations.
  constexpr double kLayerElements = 2 * kShape.hidden * kShape.hidden +
                                    2 * kShape.key_value * kShape.hidden +
                                    3 * kShape.feed_forward * kShape.hidden;
  constexpr double kHeadElements = kShape.hidden * kShape.vocabulary;
  const double layers = kShape.layers;
  const double evaluations = sweep == Sweep::kLayers
                                 ? 2 * layers + layers * (layers + 1) / 2 - 1
                                 : 2 * layers;
  const double flops =
      2 * (kLayerElements * evaluations +
           kHeadElements * static_cast<double>(RowsPerTask(sweep)));
  const double tokens = static_cast<double>(Text("texts", 0).size()) / 3.5;
  // A task is planned to last between half of the setting and twice of it.
  return 0.7 * flops * tokens / (kGflops * 1e9);
}

absl::Status AddCorpus(CoordinatorClient& client, const std::string& name,
                       int64_t documents) {
  CorpusData texts = MakeTexts(name, documents);
  for (const std::string& artifact : texts.artifacts) {
    QSWEEP_RETURN_IF_ERROR(client.PutArtifact(artifact).status());
  }
  v1::AddCorpusRequest request;
  *request.mutable_corpus() = std::move(texts.corpus);
  return client.AddCorpus(request).status();
}

absl::StatusOr<Submitted> SubmitTasks(CoordinatorClient& client, Sweep sweep,
                                      const std::string& corpus,
                                      int64_t documents, v1::Reuse reuse) {
  const JobUuid uuid = *JobUuid::FromBytes(SecureRandomBytes(JobUuid::kSize));
  v1::SubmitJobRequest request;
  request.set_job_uuid(uuid.bytes());
  request.set_owner("bench");
  *request.mutable_spec() = Spec(sweep, corpus);
  request.mutable_spec()->mutable_policy()->set_reuse(reuse);
  *request.add_models() = ToProto(Model());
  const SteadyTime began = Clock::Real().SteadyNow();
  QSWEEP_ASSIGN_OR_RETURN(const v1::SubmitJobResponse response,
                          client.SubmitJob(request));
  const absl::Duration took = Clock::Real().SteadyNow() - began;
  Submitted submitted = {
      .job = absl::StrCat("job/", uuid.text()),
      .tasks = static_cast<int64_t>(response.plan().tasks()),
      .measurements = static_cast<int64_t>(response.plan().measurements()),
      .seconds = absl::ToDoubleSeconds(took)};
  if (submitted.tasks != documents ||
      submitted.measurements != documents * RowsPerTask(sweep)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the job was planned as ", submitted.tasks, " tasks with ",
                     submitted.measurements, " measurements, not ", documents,
                     " with ", documents * RowsPerTask(sweep)));
  }
  return submitted;
}

v1::TaskResult MakeResult(const v1::TaskSpec& spec) {
  v1::TaskResult result;
  for (int c = 0; c < spec.configurations_size(); ++c) {
    for (int d = 0; d < spec.documents_size(); ++d) {
      const std::string& document = spec.documents(d).digest();
      const std::string& configuration = spec.configurations(c).digest();
      v1::Measurement& row = *result.add_rows();
      row.set_configuration_index(static_cast<uint32_t>(c));
      row.set_document_index(static_cast<uint32_t>(d));
      row.set_status(v1::ROW_STATUS_OK);
      row.set_tokens(7);
      row.set_bytes(20);
      row.set_bytes_scored(19);
      row.set_chars(20);
      row.set_nll_fp_sum(20 + static_cast<unsigned char>(document[0]) / 256.0);
      row.set_nll_sum(row.nll_fp_sum() +
                      static_cast<unsigned char>(configuration[0]) / 256.0);
      row.set_unigram_nll_sum(70);
      row.set_kl_sum(row.nll_sum() - row.nll_fp_sum());
      row.set_top1(6);
    }
  }
  result.mutable_report()->set_engine("bench engine");
  result.mutable_report()->set_device("cpu");
  return result;
}

}  // namespace qsweep::bench
