#include "common/job/expand.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/corpus.h"
#include "common/job/expand_calibrations.h"
#include "common/job/expand_documents.h"
#include "common/job/expand_patterns.h"
#include "common/job/job_spec.h"
#include "common/job/layer_set.h"
#include "common/job/replicate.h"

namespace qsweep {
namespace {

constexpr size_t kMostMergeNotes = 5;

// The same error, about `field` of the spec.
absl::Status At(const absl::Status& status, const std::string& field) {
  absl::Status moved = status;
  if (std::optional<ErrorInfo> info = GetErrorInfo(status)) {
    info->field = field;
    SetErrorInfo(moved, *info);
  }
  return moved;
}

// The layer sets of a spec on one model; `field` names where each comes from.
struct WantedSet {
  LayerSet set;
  std::string field;
};

absl::StatusOr<std::vector<WantedSet>> WantedSets(const v1::JobSpec& spec,
                                                  const std::vector<int>& tried,
                                                  int num_layers) {
  std::vector<WantedSet> wanted;
  if (spec.kind() == v1::JOB_KIND_LAYER_SWEEP) {
    wanted.push_back({LayerSet(), "layerSets"});  // none
  }
  for (int i = 0; i < spec.layer_sets_size(); ++i) {
    const std::string field = absl::StrCat("layerSets[", i, "]");
    for (const std::string& text :
         LayerSetTexts(spec.layer_sets(i), tried, num_layers)) {
      auto set = LayerSet::Parse(text);
      if (!set.ok()) {
        return At(set.status(), field);
      }
      wanted.push_back({*std::move(set), field});
    }
  }
  return wanted;
}

// Layer sets in the spec, before any is made: patterns grow fast.
absl::Status CheckCount(const v1::JobSpec& spec, int64_t num_quantizers,
                        int64_t num_tried) {
  int64_t count = 1;
  for (const v1::LayerSetPattern& pattern : spec.layer_sets()) {
    count += CountLayerSets(pattern, num_tried);
  }
  count = 1 + count * num_quantizers;
  if (count > kMostConfigurationsPerJob) {
    return MakeError(kExpandsTooFar,
                     absl::StrCat("the spec expands to ", count,
                                  " configurations of one model, at most ",
                                  kMostConfigurationsPerJob),
                     "layerSets",
                     "Try fewer layers with `layers`, or pairs, not triples.");
  }
  return absl::OkStatus();
}

// Collects the configurations of one model, each digest once.
class Collector {
 public:
  Collector(const ModelDescription& model, ExpandedModel& out) : out_(out) {
    model_name_ = model.name;
  }

  void Add(Configuration configuration, const std::string& written) {
    const auto [found, added] =
        position_.emplace(configuration.digest, out_.configurations.size());
    if (added) {
      out_.configurations.push_back({std::move(configuration), written});
      return;
    }
    ExpandedConfiguration& kept = out_.configurations[found->second];
    ExpandedConfiguration other = {std::move(configuration), written};
    if (Rank(other) > Rank(kept)) {
      std::swap(kept, other);
    }
    // Written twice, or "none" beside the one that is always there.
    if (kept.written_layer_set == other.written_layer_set) {
      return;
    }
    std::string note =
        kept.configuration.baseline()
            ? absl::StrCat(other.written_layer_set,
                           " protects all that is in scope on ", model_name_,
                           ": it is the baseline")
            : absl::StrCat(other.written_layer_set,
                           " is the same configuration as ",
                           kept.written_layer_set, " on ", model_name_);
    // Other quantizers repeat it.
    if (!seen_.insert(note).second) {
      return;
    }
    ++num_merged_;
    if (merged_.size() < kMostMergeNotes) {
      merged_.push_back(std::move(note));
    }
  }

  void AppendNotes(std::vector<std::string>& notes) const {
    notes.insert(notes.end(), merged_.begin(), merged_.end());
    if (num_merged_ > merged_.size()) {
      notes.push_back(absl::StrCat(num_merged_ - merged_.size(),
                                   " more layer sets mean the same as others"));
    }
  }

 private:
  // Which way of writing a configuration stays: a quantizer's panel needs its
  // "none", which another one's "L0-29:int8" may equal, then its single layers.
  static int Rank(const ExpandedConfiguration& expanded) {
    const Configuration& configuration = expanded.configuration;
    return configuration.unprotected
               ? (configuration.layer_set_text == "none" ? 3 : 2)
               : (configuration.single_layer ? 1 : 0);
  }

  ExpandedModel& out_;
  std::string model_name_;
  absl::flat_hash_map<Digest, size_t> position_;
  std::set<std::string> seen_;  // notes
  std::vector<std::string> merged_;
  size_t num_merged_ = 0;
};

// The quantizers of a spec, each drawn as often as it asks, each calibrated one
// with the texts of each seed; `field` names where it comes from.
struct WantedQuantizer {
  Quantizer quantizer;
  std::string field;
};

absl::StatusOr<std::vector<WantedQuantizer>> WantedQuantizers(
    const v1::JobSpec& spec,
    const std::vector<ExpandedCalibration>& calibrations) {
  std::vector<WantedQuantizer> wanted;
  for (int q = 0; q < spec.quantizers_size(); ++q) {
    const std::string field = absl::StrCat("quantizers[", q, "]");
    auto quantizer = ParseQuantizer(spec.quantizers(q));
    if (!quantizer.ok()) {
      return At(quantizer.status(), field);
    }
    if (!quantizer->scheme.calibrated()) {
      // The one it names, or the first ones.
      const auto first = static_cast<uint32_t>(quantizer->scheme.replicate);
      for (uint32_t r = 0; r < spec.replicates(); ++r) {
        QSWEEP_ASSIGN_OR_RETURN(
            Quantizer drawn,
            ReplicateOf(*quantizer, static_cast<int>(first + r)));
        wanted.push_back({std::move(drawn), field});
      }
      continue;
    }
    if (!spec.calibration().mode().empty()) {
      QSWEEP_ASSIGN_OR_RETURN(quantizer->scheme.calibration,
                              ParseCalibrationMode(spec.calibration().mode()));
    }
    const uint64_t written = quantizer->scheme.calibration_texts;
    bool found = false;
    for (const ExpandedCalibration& calibration : calibrations) {
      if (written == 0 || written == calibration.texts) {
        found = true;
        quantizer->scheme.calibration_texts = calibration.texts;
        wanted.push_back({*quantizer, field});
      }
    }
    if (!found) {
      return MakeError(
          kBadValue,
          absl::StrCat("texts=", ShortDigestText(written),
                       " are not those that `calibration` chooses"),
          field, "Leave texts out.");
    }
  }
  return wanted;
}

absl::StatusOr<ExpandedModel> ExpandModel(
    const v1::JobSpec& spec, const ModelDescription& model,
    const std::vector<WantedQuantizer>& quantizers,
    std::vector<std::string>& notes) {
  QSWEEP_ASSIGN_OR_RETURN(const Compute compute, FromProto(spec.compute()));
  const auto tried = ParseLayerRange(spec.layers(), model.layers);
  if (!tried.ok()) {
    return At(tried.status(), "layers");
  }
  QSWEEP_RETURN_IF_ERROR(CheckCount(spec,
                                    static_cast<int64_t>(quantizers.size()),
                                    static_cast<int64_t>(tried->size())));
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<WantedSet> wanted,
                          WantedSets(spec, *tried, model.layers));
  ExpandedModel expanded;
  Collector collector(model, expanded);
  collector.Add(MakeBaseline(model, compute), "all");
  for (const auto& [quantizer, field] : quantizers) {
    for (const WantedSet& next : wanted) {
      auto configuration =
          MakeConfiguration(model, quantizer, next.set, compute);
      if (!configuration.ok()) {
        const auto info = GetErrorInfo(configuration.status());
        const bool about_quantizer =
            info && (info->code == kNothingToQuantize.code ||
                     info->field == "replicate" || info->field == "digest");
        return At(configuration.status(), about_quantizer ? field : next.field);
      }
      collector.Add(*std::move(configuration), next.set.text());
    }
  }
  collector.AppendNotes(notes);
  NoteExactCalibration(model, expanded, notes);
  for (int e = 0; e < spec.evals_size(); ++e) {
    const v1::EvaluationRequest& eval = spec.evals(e);
    auto text = EvaluationText(eval.eval(), model.tokenizer_digest,
                               static_cast<int>(eval.max_tokens()));
    if (!text.ok()) {
      return At(text.status(), absl::StrCat("evals[", e, "]"));
    }
    expanded.evaluations.push_back(*std::move(text));
  }
  return expanded;
}

}  // namespace

int64_t Expansion::num_configurations() const {
  int64_t count = 0;
  for (const ExpandedModel& model : models) {
    count += static_cast<int64_t>(model.configurations.size());
  }
  return count;
}

int64_t Expansion::num_documents() const {
  absl::flat_hash_set<std::pair<int, absl::string_view>> distinct;
  for (const ExpandedEvaluation& evaluation : evaluations) {
    for (const ExpandedDocument& document : evaluation.documents) {
      distinct.emplace(document.language, document.id);
    }
  }
  return static_cast<int64_t>(distinct.size());
}

int64_t Expansion::num_measurements() const {
  int64_t documents = 0;
  for (const ExpandedEvaluation& evaluation : evaluations) {
    documents += static_cast<int64_t>(evaluation.documents.size());
  }
  return num_configurations() * documents;
}

absl::StatusOr<Expansion> ExpandJob(const v1::JobSpec& given,
                                    std::span<const ModelDescription> models,
                                    const v1::Corpus& corpus,
                                    const v1::Corpus* calibration_corpus) {
  QSWEEP_RETURN_IF_ERROR(ValidateJobSpec(given));
  v1::JobSpec spec = given;
  FillJobSpecDefaults(spec);
  if (models.size() != static_cast<size_t>(spec.models_size())) {
    return MakeError(kBadValue,
                     absl::StrCat(models.size(), " models are described, ",
                                  spec.models_size(), " are in the spec"),
                     "models");
  }
  Expansion expansion;
  QSWEEP_ASSIGN_OR_RETURN(ChosenLanguages chosen,
                          ChooseLanguages(spec, corpus, expansion.notes));
  expansion.languages = std::move(chosen.languages);
  expansion.reference = std::move(chosen.reference);
  for (int e = 0; e < spec.evals_size(); ++e) {
    QSWEEP_ASSIGN_OR_RETURN(
        ExpandedEvaluation evaluation,
        SelectDocuments(spec.evals(e), absl::StrCat("evals[", e, "]"),
                        spec.seed(), corpus, expansion.languages,
                        expansion.notes));
    expansion.evaluations.push_back(std::move(evaluation));
  }
  if (calibration_corpus != nullptr) {
    QSWEEP_ASSIGN_OR_RETURN(
        expansion.calibrations,
        ExpandCalibrations(spec.calibration(), *calibration_corpus,
                           expansion.evaluations, expansion.notes));
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<WantedQuantizer> quantizers,
                          WantedQuantizers(spec, expansion.calibrations));
  for (const ModelDescription& model : models) {
    QSWEEP_ASSIGN_OR_RETURN(
        ExpandedModel expanded,
        ExpandModel(spec, model, quantizers, expansion.notes));
    expansion.models.push_back(std::move(expanded));
  }
  if (expansion.num_measurements() > kMostMeasurementsPerJob) {
    return MakeError(
        kExpandsTooFar,
        absl::StrCat("the spec expands to ", expansion.num_measurements(),
                     " measurements, at most ", kMostMeasurementsPerJob),
        "",
        "Take fewer languages or samples, or submit several "
        "jobs: shared measurements run once.");
  }
  return expansion;
}

}  // namespace qsweep
