#include "worker/engine/prepared_task.h"

#include <cstddef>
#include <optional>
#include <string>
#include <utility>

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
    if (configuration.baseline() && !baseline) {
      baseline = static_cast<int>(prepared.configurations.size());
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

absl::Status PrepareDocuments(const EngineTask& task,
                              const Checkpoint& checkpoint,
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
  for (const EngineLanguage& language : task.languages) {
    languages.emplace_back();
    for (const std::string& text : language.texts) {
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
                                         const ModelDescription& model) {
  if (!task.model_digest.empty() && task.model_digest != model.digest) {
    return Mismatch("model", task.model_digest, model.digest);
  }
  PreparedTask prepared;
  QSWEEP_RETURN_IF_ERROR(PrepareConfigurations(task, model, prepared));
  QSWEEP_RETURN_IF_ERROR(PrepareDocuments(task, checkpoint, prepared));
  return prepared;
}

}  // namespace qsweep
