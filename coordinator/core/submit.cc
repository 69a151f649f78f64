#include "coordinator/core/submit.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/job_spec.h"
#include "common/job/model_description_proto.h"
#include "coordinator/core/submit_planner.h"

namespace qsweep {
namespace {

// Of a language nothing is known of; sizes tasks only, as all rates do.
constexpr double kBytesPerToken = 3.5;
constexpr double kMostBytesPerToken = 1000;

// Bytes a token by model and language, as a submitter has measured them.
using TokenRates = absl::flat_hash_map<std::pair<size_t, std::string>, double>;

double BytesPerToken(const TokenRates& rates, size_t model,
                     const std::string& language) {
  const auto rate = rates.find({model, language});
  return rate != rates.end() ? rate->second : kBytesPerToken;
}

absl::StatusOr<TokenRates> ReadTokenRates(const v1::SubmitJobRequest& request) {
  TokenRates rates;
  for (int i = 0; i < request.token_rates_size(); ++i) {
    const v1::TokenRate& rate = request.token_rates(i);
    const double bytes = rate.bytes_per_token();
    if (rate.model() >= static_cast<uint32_t>(request.models_size()) ||
        !(bytes > 0 && bytes <= kMostBytesPerToken)) {
      return MakeError(
          kBadValue,
          absl::StrCat("a rate of ", bytes, " bytes a token of model ",
                       rate.model(), " of ", request.models_size()),
          absl::StrCat("token_rates[", i, "]"),
          "More than 0 and at most 1000, of a model of the request.");
    }
    rates[{rate.model(), rate.language()}] = bytes;
  }
  return rates;
}

// Of a text that is cut at `limit` tokens or skipped there; 0: there is none.
double TokensOf(uint64_t bytes, double bytes_per_token, int limit) {
  const double tokens = static_cast<double>(bytes) / bytes_per_token;
  return limit > 0 ? std::min<double>(tokens, limit) : tokens;
}

// Each text is cut to the model's context.
CalibrationTokenCounts TokenCountsOf(
    const std::vector<ExpandedCalibration>& calibrations, size_t model,
    int context, const TokenRates& rates) {
  CalibrationTokenCounts tokens;
  for (const ExpandedCalibration& calibration : calibrations) {
    std::vector<double> bytes_per_token;
    for (const ExpandedCalibration::Language& language :
         calibration.languages) {
      bytes_per_token.push_back(BytesPerToken(rates, model, language.language));
    }
    for (const ExpandedCalibration::Document& document :
         calibration.documents) {
      tokens[calibration.texts] += TokensOf(
          document.bytes,
          bytes_per_token[static_cast<size_t>(document.language)], context);
    }
  }
  return tokens;
}

// Of a document under the evaluation, as the engine has it.
int MostTokens(const ExpandedEvaluation& evaluation,
               const ModelDescription& model) {
  const int context = model.context_length;
  return evaluation.max_tokens > 0 && context > 0
             ? std::min(evaluation.max_tokens, context)
             : std::max(evaluation.max_tokens, context);
}

// Documents by unit, then language, so that a chunk has all languages; equal
// texts once.
// bytes_per_token: of each language.
std::vector<PlanDocument> PlanDocumentsOf(
    const ExpandedEvaluation& evaluation, const ModelDescription& model,
    const std::vector<double>& bytes_per_token) {
  const int limit = MostTokens(evaluation, model);
  absl::flat_hash_map<absl::string_view, int> unit_of_id;
  std::vector<PlanDocument> documents;
  for (const ExpandedDocument& document : evaluation.documents) {
    const int unit =
        unit_of_id.emplace(document.id, static_cast<int>(unit_of_id.size()))
            .first->second;
    documents.push_back(
        {.digest = document.digest,
         .language = document.language,
         .unit = unit,
         .tokens = TokensOf(
             document.bytes,
             bytes_per_token[static_cast<size_t>(document.language)], limit)});
  }
  std::ranges::stable_sort(documents, [](const auto& a, const auto& b) {
    return std::pair(a.unit, a.language) < std::pair(b.unit, b.language);
  });
  absl::flat_hash_set<Digest> seen;
  std::erase_if(documents, [&seen](const PlanDocument& document) {
    return !seen.insert(document.digest).second;
  });
  return documents;
}

// What a plan needs of a corpus: its languages.
std::shared_ptr<const v1::Corpus> WithoutDocuments(const v1::Corpus& corpus) {
  auto languages = std::make_shared<v1::Corpus>();
  languages->set_name(corpus.name());
  languages->set_digest(corpus.digest());
  for (const v1::CorpusLanguage& from : corpus.languages()) {
    v1::CorpusLanguage& language = *languages->add_languages();
    language.set_language(from.language());
    language.set_artifact_digest(from.artifact_digest());
  }
  return languages;
}

absl::Status ReadModels(const v1::SubmitJobRequest& request,
                        PreparedSubmit& prepared) {
  if (request.models_size() != request.spec().models_size()) {
    return MakeError(
        kMissingField,
        absl::StrCat(request.models_size(), " descriptions for ",
                     request.spec().models_size(), " models"),
        "models", "Give a local path, which qctl describes before it submits.");
  }
  for (int i = 0; i < request.models_size(); ++i) {
    absl::StatusOr<ModelDescription> model = FromProto(request.models(i));
    if (!model.ok()) {
      return WithFieldPrefix(model.status(), absl::StrCat("models[", i, "]."));
    }
    // Two paths: their configurations would be the same, twice in one job.
    const auto same = std::ranges::find(prepared.models, model->digest,
                                        &ModelDescription::digest);
    if (same != prepared.models.end()) {
      return MakeError(
          kBadValue,
          absl::StrCat(
              request.spec().models(i).path(), " is the model of ",
              request.spec()
                  .models(static_cast<int>(same - prepared.models.begin()))
                  .path()),
          absl::StrCat("models[", i, "]"), "Name each model once.");
    }
    prepared.models.push_back(*std::move(model));
    prepared.model_protos.push_back(
        std::make_shared<const v1::ModelDescription>(request.models(i)));
  }
  return absl::OkStatus();
}

}  // namespace

Digest SubmitDigest(const v1::SubmitJobRequest& request) {
  v1::JobSpec spec = request.spec();
  FillJobSpecDefaults(spec);
  DigestBuilder builder;
  builder.Update(JobSpecDigest(spec).bytes());
  for (const v1::ModelDescription& model : request.models()) {
    builder.Update(model.digest());
  }
  return builder.Finish();
}

absl::StatusOr<const Job*> FindSubmitted(const State& state,
                                         const v1::SubmitJobRequest& request) {
  const auto uuid = JobUuid::FromBytes(request.job_uuid());
  if (!uuid.ok() || uuid->empty()) {
    return MakeError(kBadValue, "job_uuid must be 16 bytes", "job_uuid");
  }
  const Job* job = state.FindJob(*uuid);
  if (job != nullptr && job->spec_digest != SubmitDigest(request)) {
    return MakeError(kJobConflict,
                     absl::StrCat("job ", uuid->text(),
                                  " was submitted with another spec as job ",
                                  job->number.value()),
                     "job_uuid", "Submit with a new UUID.");
  }
  return job;
}

absl::StatusOr<PreparedSubmit> PrepareSubmit(
    const v1::SubmitJobRequest& request,
    std::shared_ptr<const v1::Corpus> corpus,
    std::shared_ptr<const v1::Corpus> calibration_corpus) {
  PreparedSubmit prepared;
  QSWEEP_ASSIGN_OR_RETURN(prepared.uuid,
                          JobUuid::FromBytes(request.job_uuid()));
  prepared.spec_digest = SubmitDigest(request);
  prepared.owner = request.owner();
  prepared.dry_run = request.dry_run();
  v1::JobSpec spec = request.spec();
  FillJobSpecDefaults(spec);
  QSWEEP_RETURN_IF_ERROR(ValidateJobSpec(spec));
  QSWEEP_RETURN_IF_ERROR(ReadModels(request, prepared));
  QSWEEP_ASSIGN_OR_RETURN(
      prepared.expansion,
      ExpandJob(spec, prepared.models, *corpus, calibration_corpus.get()));
  if (calibration_corpus != nullptr) {
    // The name may mean another corpus when the plan is made again.
    spec.mutable_calibration()->set_corpus_digest(calibration_corpus->digest());
  }
  QSWEEP_ASSIGN_OR_RETURN(prepared.corpus_digest,
                          Digest::FromBytes(corpus->digest()));
  const Expansion& expansion = prepared.expansion;
  prepared.num_texts = expansion.num_documents();
  QSWEEP_ASSIGN_OR_RETURN(const TokenRates rates, ReadTokenRates(request));
  prepared.token_rates.assign(request.token_rates().begin(),
                              request.token_rates().end());
  for (size_t m = 0; m < expansion.models.size(); ++m) {
    std::vector<double> bytes_per_token;
    for (const int language : expansion.languages) {
      bytes_per_token.push_back(
          BytesPerToken(rates, m, corpus->languages(language).language()));
    }
    prepared.calibration_tokens.push_back(TokenCountsOf(
        expansion.calibrations, m, prepared.models[m].context_length, rates));
    for (size_t e = 0; e < expansion.evaluations.size(); ++e) {
      SubmitPanel panel{
          .model_index = static_cast<int>(m),
          .eval_index = static_cast<int>(e),
          .evaluation = expansion.models[m].evaluations[e],
          .documents = PlanDocumentsOf(expansion.evaluations[e],
                                       prepared.models[m], bytes_per_token)};
      for (const auto& expanded : expansion.models[m].configurations) {
        panel.configurations.push_back(expanded.configuration.digest);
      }
      prepared.panels.push_back(std::move(panel));
    }
  }
  prepared.spec = std::make_shared<const v1::JobSpec>(std::move(spec));
  prepared.corpus = WithoutDocuments(*corpus);
  return prepared;
}

Decision<v1::SubmitJobResponse> DecideSubmit(
    const State& state, const PreparedSubmit& prepared,
    const std::vector<PanelStatuses>& measured, const Settings& settings,
    const Now& now) {
  SubmitPlanner planner(state, prepared, settings);
  QSWEEP_CHECK(planner.at_once());
  for (size_t i = 0; i < planner.slices().size(); ++i) {
    planner.Plan(state, planner.slices()[i], measured[i]);
  }
  if (const absl::Status status = planner.Check(); !status.ok()) {
    return {.reply = status};
  }
  v1::SubmitJobResponse response;
  *response.mutable_plan() = planner.plan();
  if (prepared.dry_run) {
    return {.reply = std::move(response)};
  }
  response.set_job_number(static_cast<uint64_t>(state.next_job().value()));
  Draft draft(state, now);
  planner.Begin(draft);
  planner.AddTasks(draft);
  planner.Start(draft);
  return {.mutations = draft.Take(), .reply = std::move(response)};
}

}  // namespace qsweep
