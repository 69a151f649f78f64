#include "worker/engine/prepared_task.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

absl::Status Mismatch(absl::string_view what, const Digest& wanted,
                      const Digest& got) {
  return MakeError(
      kModelDigestMismatch,
      absl::StrCat("The ", what, " here is ", got.hex().substr(0, 12),
                   ", the task was made for ", wanted.hex().substr(0, 12), "."),
      "", "Give this worker the model the job was submitted with.");
}

absl::Status CheckStop(const std::stop_token& stop) {
  return stop.stop_requested() ? absl::CancelledError("The run was cancelled.")
                               : absl::OkStatus();
}

absl::Status PrepareConfigurations(const EngineTask& task,
                                   const ModelDescription& model,
                                   PreparedTask& prepared) {
  std::optional<int> baseline;
  for (const EngineConfiguration& wanted : task.configurations) {
    QSWEEP_ASSIGN_OR_RETURN(Configuration configuration,
                            ParseConfiguration(model, wanted.quantizer,
                                               wanted.layer_set, task.compute));
    if (!wanted.digest.empty() && configuration.digest != wanted.digest) {
      return Mismatch(absl::StrCat("configuration ", wanted.quantizer, " ",
                                   wanted.layer_set),
                      wanted.digest, configuration.digest);
    }
    if (configuration.baseline()) {
      baseline =
          baseline.value_or(static_cast<int>(prepared.configurations.size()));
    } else {
      QSWEEP_ASSIGN_OR_RETURN(Quantizer quantizer,
                              ParseQuantizer(wanted.quantizer));
      prepared.quantizers.push_back(std::move(quantizer));
    }
    prepared.configurations.push_back(std::move(configuration));
  }
  if (!baseline) {
    baseline = static_cast<int>(prepared.configurations.size());
    prepared.configurations.push_back(MakeBaseline(model, task.compute));
  }
  prepared.baseline = *baseline;
  return absl::OkStatus();
}

// What a calibration reads: as the model would be given it, cut to its context.
absl::Status PrepareCalibrations(const EngineTask& task,
                                 const Checkpoint& checkpoint,
                                 const std::stop_token& stop,
                                 PreparedTask& prepared) {
  std::set<uint64_t> known;
  for (const EngineCalibration& calibration : task.calibrations) {
    CalibrationTokens tokens;
    std::vector<Digest> digests;
    for (const EngineDocument& document : calibration.documents) {
      QSWEEP_RETURN_IF_ERROR(CheckStop(stop));
      const auto language = static_cast<size_t>(document.language);
      const auto text = static_cast<size_t>(document.text);
      if (language >= task.languages.size() ||
          text >= task.languages[language].texts.size()) {
        return absl::InvalidArgumentError(
            "a calibration text of the task is not in its corpus");
      }
      const std::string& bytes = task.languages[language].texts[text];
      digests.push_back(Digest::Of(bytes));
      std::vector<int32_t> ids =
          checkpoint.tokenizer().EncodeWithSpecial(bytes);
      const int context = checkpoint.config().context_length;
      if (context > 0 && ids.size() > static_cast<size_t>(context)) {
        ids.resize(static_cast<size_t>(context));
      }
      if (!ids.empty()) {
        tokens.documents.push_back(std::move(ids));
      }
    }
    tokens.texts = CalibrationTexts(digests);
    known.insert(tokens.texts);
    prepared.calibrations.push_back(std::move(tokens));
  }
  for (const Configuration& configuration : prepared.configurations) {
    for (const std::optional<Scheme>& scheme : configuration.schemes) {
      if (scheme && scheme->calibrated() &&
          !known.contains(scheme->calibration_texts)) {
        return MakeError(kArtifactMismatch,
                         absl::StrCat("The calibration texts of ",
                                      configuration.quantizer_text,
                                      " did not come with the task."));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status PrepareDocuments(const EngineTask& task,
                              const Checkpoint& checkpoint,
                              const std::stop_token& stop,
                              PreparedTask& prepared) {
  QSWEEP_ASSIGN_OR_RETURN(const Evaluation evaluation,
                          ParseEvaluation(task.evaluation));
  const Tokenizer& tokenizer = checkpoint.tokenizer();
  if (evaluation.tokenizer_digest != tokenizer.digest()) {
    return Mismatch("tokenizer", evaluation.tokenizer_digest,
                    tokenizer.digest());
  }
  std::vector<std::vector<TokenizedDocument>> languages;
  std::vector<std::vector<double>> unigrams;
  std::vector<bool> scored(task.languages.size());  // not for calibration only
  for (const EngineDocument& document : task.documents) {
    if (static_cast<size_t>(document.language) < scored.size()) {
      scored[static_cast<size_t>(document.language)] = true;
    }
  }
  for (size_t l = 0; l < task.languages.size(); ++l) {
    const EngineLanguage& language = task.languages[l];
    languages.emplace_back();
    if (!scored[l]) {
      unigrams.emplace_back();
      continue;
    }
    for (const std::string& text : language.texts) {
      QSWEEP_RETURN_IF_ERROR(CheckStop(stop));
      QSWEEP_ASSIGN_OR_RETURN(
          TokenizedDocument document,
          TokenizeDocument(tokenizer, evaluation,
                           checkpoint.config().context_length, text));
      languages.back().push_back(std::move(document));
    }
    unigrams.push_back(UnigramNll(languages.back()));
  }
  for (const EngineDocument& wanted : task.documents) {
    const auto language = static_cast<size_t>(wanted.language);
    const auto text = static_cast<size_t>(wanted.text);
    if (language >= languages.size() || text >= languages[language].size()) {
      return absl::InvalidArgumentError(
          "a document of the task is not in its corpus");
    }
    prepared.documents.push_back(languages[language][text]);
    prepared.unigram_nll.push_back(unigrams[language][text]);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PreparedTask> PrepareTask(const EngineTask& task,
                                         const Checkpoint& checkpoint,
                                         const ModelDescription& model,
                                         const std::stop_token& stop) {
  if (!task.model_digest.empty() && task.model_digest != model.digest) {
    return Mismatch("model", task.model_digest, model.digest);
  }
  PreparedTask prepared;
  QSWEEP_RETURN_IF_ERROR(PrepareConfigurations(task, model, prepared));
  QSWEEP_RETURN_IF_ERROR(PrepareCalibrations(task, checkpoint, stop, prepared));
  QSWEEP_RETURN_IF_ERROR(PrepareDocuments(task, checkpoint, stop, prepared));
  return prepared;
}

}  // namespace qsweep
