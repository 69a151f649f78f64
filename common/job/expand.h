#ifndef QSWEEP_COMMON_JOB_EXPAND_H_
#define QSWEEP_COMMON_JOB_EXPAND_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "common/base/digest.h"
#include "common/job/configuration.h"
#include "common/job/model_description.h"
#include "qsweep/v1/job.pb.h"

namespace qsweep {

// Limits of one job; above them QS1051.
inline constexpr int64_t kMostConfigurationsPerJob = 20'000;
inline constexpr int64_t kMostMeasurementsPerJob = 2'000'000;
// Of all seeds together: their list, 40 bytes for each text, goes into every
// task group and lease whose configurations need it.
inline constexpr int64_t kMostCalibrationTextsPerJob = 10'000;

struct ExpandedConfiguration {
  Configuration configuration;
  std::string written_layer_set;  // as the spec has it: "L0+L75%"
};

struct ExpandedModel {
  // Baseline first, then by quantizer, replicate and layer set in the order of
  // the spec;
  // no digest twice.
  std::vector<ExpandedConfiguration> configurations;
  std::vector<std::string>
      evaluations;  // EvaluationText, parallel to spec.evals
};

// One document of one language. Documents of equal text share a digest, and
// with it their measurements.
struct ExpandedDocument {
  int language = 0;  // into Expansion::languages
  std::string id;
  Digest digest;
  uint64_t bytes = 0;  // of its text
};

struct ExpandedEvaluation {
  int max_tokens = 0;                       // 0: the model's context
  std::vector<ExpandedDocument> documents;  // by language, then in id order
};

// The texts of one seed. A value that says where they are, too.
struct ExpandedCalibration {
  struct Language {
    std::string language;  // corpus code
    Digest artifact;       // of the LanguageCorpus
  };
  struct Document {
    int language = 0;  // into `languages`
    Digest digest;
    uint64_t bytes = 0;  // of its text
  };

  uint64_t texts = 0;  // Scheme::calibration_texts
  std::vector<Language> languages;
  std::vector<Document> documents;  // by language, then in the corpus's order
};

// All that a job measures: every configuration and evaluation of every model on
// every document of that evaluation. A value.
struct Expansion {
  std::vector<ExpandedModel> models;              // parallel to spec.models
  std::vector<ExpandedEvaluation> evaluations;    // parallel to spec.evals
  std::vector<ExpandedCalibration> calibrations;  // no texts twice
  std::vector<int> languages;      // positions in corpus.languages, ascending
  std::string reference;           // corpus code of the language gaps refer to
  std::vector<std::string> notes;  // "3 documents dropped: ..."

  int64_t num_configurations() const;  // over all models
  int64_t num_documents() const;       // distinct (language, id)
  int64_t num_measurements() const;    // configurations x documents, summed
};

// Expands a spec on its models (parallel to spec.models) and corpus (its name
// resolved). Pure and deterministic: the same arguments give the same value on
// every machine, and neither the order of spec.languages nor of documents
// changes which units are measured.
// Documents: the ids present in every chosen language; hf-text on a corpus
// whose languages share no id takes all. With samples, those whose SHA-256 of
// seed and id is smallest. Layer sweeps get "none" first; every job gets the
// baseline. INVALID_ARGUMENT: as ValidateJobSpec; QS1011, QS1012, QS1050 with
// the field of the layer set or quantizer; QS1051; QS2101, QS2103; QS2107
// nothing left; QS1004 a corpus that does not say how long its documents are.
// Calibrated quantizers give a configuration for each seed of
// spec.calibration, whose corpus is calibration_corpus; null without one.
absl::StatusOr<Expansion> ExpandJob(
    const v1::JobSpec& spec, std::span<const ModelDescription> models,
    const v1::Corpus& corpus, const v1::Corpus* calibration_corpus = nullptr);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_EXPAND_H_
