#include "coordinator/service/job_results.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "common/base/version.h"
#include "common/job/corpus.h"
#include "common/job/job_spec.h"
#include "common/job/quantizer.h"
#include "coordinator/analysis/analyze.h"
#include "coordinator/service/parallel_for.h"
#include "coordinator/service/results_conversion.h"

namespace qsweep {
namespace {

// Languages of a job in the order of its documents.
std::vector<std::string> LanguagesOf(const JobRows& rows) {
  std::vector<std::string> languages;
  for (const JobDocument& document : rows.documents) {
    if (std::ranges::find(languages, document.language) == languages.end()) {
      languages.push_back(document.language);
    }
  }
  return languages;
}

// The corpus code of the language that gaps are relative to: the one the spec
// names, else English, else the first.
std::string ReferenceOf(const JobRows& rows,
                        const std::vector<std::string>& languages) {
  const v1::JobSpec& spec = rows.spec;
  std::vector<std::string> named;
  if (!spec.reference().empty()) {
    named = {spec.reference()};
  } else {
    for (const char* english : {"eng", "en"}) {
      if (std::ranges::find(languages, english) != languages.end()) {
        return english;
      }
    }
    if (!spec.languages().empty()) {
      named = {spec.languages(0)};
    }
  }
  if (!named.empty()) {
    const absl::StatusOr<std::vector<int>> resolved =
        ResolveLanguages(rows.corpus, named);
    if (resolved.ok() && !resolved->empty()) {
      return rows.corpus.languages(resolved->front()).language();
    }
  }
  return languages.empty() ? "" : languages.front();
}

analysis::ConfigurationInput InputOf(const JobConfiguration& configuration) {
  analysis::ConfigurationInput input;
  input.digest = configuration.digest.hex();
  input.layer_set = configuration.layer_set;
  input.resolved = configuration.resolved;
  input.quantizer = configuration.quantizer;
  input.layer = configuration.single_layer;
  input.baseline = configuration.baseline;
  input.unprotected = configuration.unprotected;
  input.overhead_params = configuration.overhead_params;
  input.overhead_layers = configuration.overhead_layers;
  input.overhead_kept = configuration.overhead_kept;
  input.overhead_bytes = configuration.overhead_bytes;
  return input;
}

analysis::RowStatus StatusOf(v1::RowStatus status) {
  switch (status) {
    case v1::ROW_STATUS_ONE_TOKEN:
      return analysis::RowStatus::kOneToken;
    case v1::ROW_STATUS_TOO_LONG:
      return analysis::RowStatus::kTooLong;
    case v1::ROW_STATUS_EMPTY:
      return analysis::RowStatus::kEmpty;
    default:
      return analysis::RowStatus::kOk;
  }
}

analysis::Row RowOf(const v1::Measurement& values) {
  analysis::Row row;
  row.status = StatusOf(values.status());
  row.nll_sum = values.nll_sum();
  row.nll_fp_sum = values.nll_fp_sum();
  row.unigram_nll_sum = values.unigram_nll_sum();
  row.tokens = values.tokens();
  row.bytes = values.bytes();
  row.bytes_scored = values.bytes_scored();
  row.chars = values.chars();
  if (values.has_kl_sum()) {
    row.kl_sum = values.kl_sum();
  }
  if (values.has_top1()) {
    row.top1 = values.top1();
  }
  row.nonfinite = values.nonfinite();
  return row;
}

// A quantizer's text without the replicate, and its number.
struct Drawn {
  std::string quantizer;
  int replicate = 0;
};

Drawn DrawnOf(const std::string& text) {
  absl::StatusOr<Quantizer> quantizer = ParseQuantizer(text);
  if (!quantizer.ok() || quantizer->scheme.replicate == 0) {
    return {text, 0};
  }
  const int replicate = std::exchange(quantizer->scheme.replicate, 0);
  return {FormatQuantizer(*quantizer), replicate};
}

// The replicates of a quantizer, which share a panel.
struct Family {
  std::string quantizer;     // without the replicate
  std::string name;          // with it where it is the only one
  std::set<int> replicates;  // numbers
};

// All that the numbers depend on.
std::string CacheKey(const std::vector<analysis::PanelInput>& panels,
                     const analysis::Options& options) {
  uint64_t expected = 0;
  std::string noise;
  for (const analysis::PanelInput& panel : panels) {
    expected += panel.rows_expected;
    absl::StrAppend(&noise, panel.noise_floor, " ");
  }
  return absl::StrCat(DataDigest(panels), " ", expected, " ", noise,
                      static_cast<int>(options.ref_rule), " ",
                      options.confidence, " ", options.resamples, " ",
                      options.seed, " ", kVersion, " ", kRevision);
}

class PanelMaker {
 public:
  explicit PanelMaker(const JobRows& rows)
      : rows_(rows),
        languages_(LanguagesOf(rows)),
        reference_(ReferenceOf(rows, languages_)) {
    for (const JobConfiguration& configuration : rows.configurations) {
      drawn_.push_back(DrawnOf(configuration.quantizer));
    }
    // Rows come sorted; each (configuration, evaluation) is one run of them.
    for (size_t i = 0; i < rows.rows.size(); ++i) {
      const JobRows::Row& row = rows.rows[i];
      auto& run = runs_[{row.configuration, row.evaluation}];
      run.first = run.second == 0 ? i : run.first;
      run.second = i + 1;
    }
  }

  // Those of a model in the order of its configurations; a job that only has a
  // baseline has the panel "fp".
  std::vector<Family> FamiliesOf(int model_index) const {
    std::vector<Family> families;
    for (size_t c = 0; c < rows_.configurations.size(); ++c) {
      const JobConfiguration& configuration = rows_.configurations[c];
      if (configuration.model_index != model_index || configuration.baseline) {
        continue;
      }
      auto family =
          std::ranges::find(families, drawn_[c].quantizer, &Family::quantizer);
      if (family == families.end()) {
        family = families.insert(
            family, {drawn_[c].quantizer, configuration.quantizer, {}});
      }
      if (family->replicates.insert(drawn_[c].replicate).second &&
          family->replicates.size() > 1) {
        family->name = family->quantizer;
      }
    }
    if (families.empty()) {
      families.push_back({"fp", "fp", {0}});
    }
    return families;
  }

  analysis::PanelInput Make(int evaluation_index, const Family& family) const {
    const JobEvaluation& evaluation =
        rows_.evaluations[static_cast<size_t>(evaluation_index)];
    const auto& model =
        rows_.models[static_cast<size_t>(evaluation.model_index)];
    analysis::PanelInput panel;
    panel.model = model.name();
    const absl::StatusOr<Digest> digest = Digest::FromBytes(model.digest());
    panel.model_digest = digest.ok() ? digest->hex() : "";
    panel.quantizer = family.name;
    panel.replicates = {family.replicates.begin(), family.replicates.end()};
    panel.evaluation = evaluation.text;
    panel.compute =
        ComputeName(FromProto(rows_.spec.compute()).value_or(Compute::kFp32));
    panel.corpus = rows_.corpus.name();
    panel.layers = static_cast<int>(model.layers());
    panel.vocabulary_size = static_cast<int>(model.vocabulary_size());
    panel.prequantized = model.prequantized();
    if (!rows_.noise_floors.empty()) {
      panel.noise_floor =
          rows_.noise_floors[static_cast<size_t>(evaluation.model_index)];
    }
    panel.languages = languages_;
    panel.reference = LanguageIndex(reference_);
    size_t stored = 0;  // configurations, each replicate by itself
    std::map<std::string, size_t> places;  // by layer set
    for (size_t c = 0; c < rows_.configurations.size(); ++c) {
      const JobConfiguration& configuration = rows_.configurations[c];
      if (configuration.model_index == evaluation.model_index &&
          (configuration.baseline || drawn_[c].quantizer == family.quantizer)) {
        ++stored;
        AddConfiguration(c, evaluation_index, places, panel);
      }
    }
    const auto documents = std::ranges::count_if(
        rows_.documents, [&](const JobDocument& document) {
          return document.eval_index == evaluation.eval_index;
        });
    panel.rows_expected = stored * static_cast<uint64_t>(documents);
    return panel;
  }

 private:
  // A configuration with its rows: the next one of the panel, or a replicate of
  // one that is there.
  void AddConfiguration(size_t index, int evaluation,
                        std::map<std::string, size_t>& places,
                        analysis::PanelInput& panel) const {
    const JobConfiguration& configuration = rows_.configurations[index];
    const int number = drawn_[index].replicate;
    const auto found = places.find(configuration.resolved);
    size_t place = panel.configurations.size();
    if (!configuration.baseline && found != places.end() &&
        std::ranges::find(panel.configurations[found->second].replicates,
                          number, &analysis::Replicate::number) ==
            panel.configurations[found->second].replicates.end()) {
      place = found->second;
    } else {
      places[configuration.resolved] = place;
      panel.configurations.push_back(InputOf(configuration));
    }
    std::vector<analysis::Replicate>& replicates =
        panel.configurations[place].replicates;
    AddRows(static_cast<int>(index), evaluation, static_cast<int>(place),
            static_cast<int>(replicates.size()), panel);
    replicates.push_back({number, configuration.digest.hex()});
  }

  void AddRows(int configuration, int evaluation, int place, int replicate,
               analysis::PanelInput& panel) const {
    const auto run = runs_.find({configuration, evaluation});
    if (run == runs_.end()) {
      return;
    }
    for (size_t i = run->second.first; i < run->second.second; ++i) {
      const JobRows::Row& from = rows_.rows[i];
      const JobDocument& document =
          rows_.documents[static_cast<size_t>(from.document)];
      analysis::Row row = RowOf(from.values);
      row.configuration = place;
      row.replicate = replicate;
      row.language = LanguageIndex(document.language);
      row.unit = document.id;
      row.document_digest = document.digest.hex();
      panel.rows.push_back(std::move(row));
    }
  }

  int LanguageIndex(const std::string& language) const {
    const auto found = std::ranges::find(languages_, language);
    return found == languages_.end()
               ? -1
               : static_cast<int>(found - languages_.begin());
  }

  const JobRows& rows_;
  const std::vector<std::string> languages_;
  const std::string reference_;
  std::vector<Drawn> drawn_;  // parallel to the configurations
  // (configuration, evaluation) -> its rows, [first, second)
  std::map<std::pair<int, int>, std::pair<size_t, size_t>> runs_;
};

}  // namespace

std::vector<analysis::PanelInput> MakePanels(const JobRows& rows) {
  const PanelMaker maker(rows);
  std::vector<analysis::PanelInput> panels;
  for (size_t e = 0; e < rows.evaluations.size(); ++e) {
    for (const Family& family :
         maker.FamiliesOf(rows.evaluations[e].model_index)) {
      panels.push_back(maker.Make(static_cast<int>(e), family));
    }
  }
  return panels;
}

absl::StatusOr<v1::GetResultsResponse> ComputeResults(
    Reader& reader, AnalysisCache& cache, const v1::JobSummary& job,
    const v1::GetResultsRequest& request, const std::function<bool()>& stop) {
  const JobNumber number(static_cast<int64_t>(job.job_number()));
  QSWEEP_ASSIGN_OR_RETURN(const JobRows rows, reader.ReadJobRows(number, stop));
  QSWEEP_ASSIGN_OR_RETURN(const analysis::Options options,
                          ResultsOptions(request, rows.spec.seed()));
  const std::vector<analysis::PanelInput> panels = MakePanels(rows);
  const std::string key = CacheKey(panels, options);
  if (absl::StatusOr<std::optional<v1::GetResultsResponse>> found =
          cache.Find(number, key);
      found.ok() && found->has_value()) {
    *(*found)->mutable_job() = job;
    return **std::move(found);
  }
  std::vector<analysis::PanelResult> results;
  results.reserve(panels.size());
  const analysis::Work work = {.for_each = ParallelFor, .stop = stop};
  for (const analysis::PanelInput& panel : panels) {
    std::optional<analysis::PanelResult> result =
        analysis::AnalyzePanel(panel, options, work);
    if (!result) {
      return absl::CancelledError("nobody waits for the results any more");
    }
    results.push_back(*std::move(result));
  }
  v1::GetResultsResponse response = ResultsToProto(
      panels, results, options, ReferenceOf(rows, LanguagesOf(rows)));
  *response.mutable_job() = job;
  if (absl::Status saved = cache.Save(number, key, response); !saved.ok()) {
    LogWarning(absl::StrCat("results of job ", job.job_number(),
                            " were not kept: ", saved.message()));
  }
  return response;
}

// What is saved is asked for first: a job that begins and ends meanwhile is not
// among it.
absl::StatusOr<int64_t> DropResultsOfDeletedJobs(Reader& reader,
                                                 AnalysisCache& cache) {
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<JobNumber> saved, cache.Jobs());
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<JobNumber> jobs,
                          reader.ReadJobNumbers());
  int64_t dropped = 0;
  int64_t bytes = 0;
  for (const JobNumber job : saved) {
    if (!std::ranges::binary_search(jobs, job)) {
      QSWEEP_ASSIGN_OR_RETURN(const int64_t freed, cache.Drop(job));
      bytes += freed;
      ++dropped;
    }
  }
  LogInfo(absl::StrCat("the results of ", dropped,
                       " deleted jobs were dropped, those of ",
                       saved.size() - static_cast<size_t>(dropped), " kept"));
  return bytes;
}

}  // namespace qsweep
