#include "common/job/expand_calibrations.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/configuration.h"
#include "common/job/corpus.h"
#include "common/job/expand_documents.h"
#include "common/job/quantizer.h"

namespace qsweep {
namespace {

absl::StatusOr<std::vector<int>> LanguagesOf(
    const v1::CalibrationRequest& request, const v1::Corpus& corpus) {
  const std::vector<std::string> wanted(request.languages().begin(),
                                        request.languages().end());
  auto languages = ResolveLanguages(corpus, wanted);
  if (languages.ok()) {
    return languages;
  }
  absl::Status status = languages.status();
  if (std::optional<ErrorInfo> info = GetErrorInfo(status)) {
    info->field = absl::StrCat("calibration.", info->field);
    SetErrorInfo(status, *info);
  }
  return status;
}

absl::StatusOr<ExpandedCalibration> TextsOf(
    const v1::CalibrationRequest& request, uint64_t seed,
    const v1::Corpus& corpus, const std::vector<int>& languages) {
  ExpandedCalibration calibration;
  std::vector<Digest> digests;
  for (const int index : languages) {
    const v1::CorpusLanguage& language = corpus.languages(index);
    QSWEEP_ASSIGN_OR_RETURN(const Digest artifact,
                            Digest::FromBytes(language.artifact_digest()));
    const std::set<std::string> chosen = SampleIds(
        {language.document_ids().begin(), language.document_ids().end()}, seed,
        request.samples());
    for (int d = 0; d < language.document_ids_size(); ++d) {
      if (!chosen.contains(language.document_ids(d))) {
        continue;
      }
      QSWEEP_ASSIGN_OR_RETURN(const Digest digest,
                              Digest::FromBytes(language.document_digests(d)));
      calibration.documents.push_back(
          {.language = static_cast<int>(calibration.languages.size()),
           .digest = digest,
           .bytes = d < language.document_bytes_size()
                        ? language.document_bytes(d)
                        : 0});
      digests.push_back(digest);
    }
    calibration.languages.push_back(
        {.language = language.language(), .artifact = artifact});
  }
  if (digests.empty()) {
    return MakeError(
        kNoDocuments,
        absl::StrCat("corpus ", corpus.name(), " has no text to calibrate on"),
        "calibration");
  }
  calibration.texts = CalibrationTexts(digests);
  return calibration;
}

// num_texts: of the first num_seeds seeds that choose different ones.
absl::Status CheckNumTexts(int64_t num_texts, size_t num_seeds) {
  if (num_texts <= kMostCalibrationTextsPerJob) {
    return absl::OkStatus();
  }
  return MakeError(
      kExpandsTooFar,
      absl::StrCat("calibration takes ", num_texts, " texts for ", num_seeds,
                   num_seeds == 1 ? " seed" : " seeds", ", a job at most ",
                   kMostCalibrationTextsPerJob),
      "calibration.samples",
      "Lower it, which is per language and seed, or take fewer languages or "
      "seeds.");
}

}  // namespace

absl::StatusOr<std::vector<ExpandedCalibration>> ExpandCalibrations(
    const v1::CalibrationRequest& request, const v1::Corpus& corpus,
    const std::vector<ExpandedEvaluation>& evaluations,
    std::vector<std::string>& notes) {
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<int> languages,
                          LanguagesOf(request, corpus));
  std::vector<ExpandedCalibration> calibrations;
  std::set<uint64_t> seen;
  std::set<Digest> texts;
  int64_t num_texts = 0;
  for (const uint64_t seed : request.seeds()) {
    QSWEEP_ASSIGN_OR_RETURN(ExpandedCalibration calibration,
                            TextsOf(request, seed, corpus, languages));
    if (seen.insert(calibration.texts).second) {
      for (const ExpandedCalibration::Document& document :
           calibration.documents) {
        texts.insert(document.digest);
      }
      num_texts += static_cast<int64_t>(calibration.documents.size());
      calibrations.push_back(std::move(calibration));
      QSWEEP_RETURN_IF_ERROR(CheckNumTexts(num_texts, calibrations.size()));
    }
  }
  if (calibrations.size() < static_cast<size_t>(request.seeds_size())) {
    notes.push_back(absl::StrCat("calibration: ", request.seeds_size(),
                                 " seeds choose ", calibrations.size(),
                                 calibrations.size() == 1 ? " set" : " sets",
                                 " of texts"));
  }
  std::set<Digest> scored;
  for (const ExpandedEvaluation& evaluation : evaluations) {
    for (const ExpandedDocument& document : evaluation.documents) {
      if (texts.contains(document.digest)) {
        scored.insert(document.digest);
      }
    }
  }
  if (!scored.empty()) {
    notes.push_back(absl::StrCat("calibration: ", scored.size(), " of ",
                                 texts.size(),
                                 " texts are scored, too: their losses look "
                                 "better than those of other texts"));
  }
  return calibrations;
}

void NoteExactCalibration(const ModelDescription& model,
                          const ExpandedModel& expanded,
                          std::vector<std::string>& notes) {
  // A path leads to one layer.
  absl::flat_hash_set<std::pair<uint64_t, uint64_t>> paths;  // of texts
  std::set<std::pair<uint64_t, int>> layers;                 // of texts
  double bytes = 0;
  for (const ExpandedConfiguration& configuration : expanded.configurations) {
    const std::vector<std::optional<Scheme>>& schemes =
        configuration.configuration.schemes;
    uint64_t known = 0;  // path, or the one that was just added
    bool added = false;
    for (size_t i = 0; i < schemes.size(); ++i) {
      if (!schemes[i] || schemes[i]->calibration != CalibrationMode::kExact) {
        continue;
      }
      const Scheme& scheme = *schemes[i];
      if (scheme.calibration_path != known) {
        known = scheme.calibration_path;
        added = paths.emplace(scheme.calibration_texts, known).second;
        layers.emplace(scheme.calibration_texts, model.tensors[i].layer);
      }
      // As files have codes.
      bytes += added ? static_cast<double>(model.tensors[i].num_elements()) *
                           (scheme.bits <= 4 ? 0.5 : 1)
                     : 0;
    }
  }
  if (!paths.empty()) {
    notes.push_back(absl::StrCat(
        "calibration: exact calibrates ", paths.size(), " layers of ",
        model.name, " on each worker, where fp would ", layers.size(),
        "; their codes take about ",
        static_cast<int64_t>(std::ceil(bytes / (1 << 20))), " MiB"));
  }
}

}  // namespace qsweep
