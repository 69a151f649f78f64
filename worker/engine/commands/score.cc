#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "common/base/digest.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/configuration.h"
#include "worker/engine/commands/commands.h"
#include "worker/engine/commands/stderr_sink.h"
#include "worker/engine/commands/texts.h"
#include "worker/engine/engine.h"
#include "worker/engine/ready_checkpoints.h"

namespace qsweep {
namespace {

const char* StatusName(RowStatus status) {
  switch (status) {
    case RowStatus::kOk:
      return "ok";
    case RowStatus::kOneToken:
      return "one_token";
    case RowStatus::kTooLong:
      return "too_long";
    case RowStatus::kEmpty:
      return "empty";
  }
  return "";
}

const ErrorCode& CodeOf(RowStatus status) {
  switch (status) {
    case RowStatus::kTooLong:
      return kDocumentTooLong;
    case RowStatus::kEmpty:
      return kEmptyDocument;
    default:
      return kOneTokenDocument;
  }
}

using Json = nlohmann::ordered_json;

// What all rows of one run have in common.
struct RowContext {
  std::string model;
  std::string configuration;
  std::string layer_set;
  std::string quantizer;
  std::string compute;
  std::string evaluation;
  std::string engine;
};

Json RowJson(const RowContext& context, const EngineTask& task,
             const EngineRow& row) {
  const EngineDocument& document =
      task.documents[static_cast<size_t>(row.document)];
  const EngineLanguage& language =
      task.languages[static_cast<size_t>(document.language)];
  Json json;
  json["language"] = language.language;
  json["document"] = document.text;
  json["model"] = context.model;
  json["configuration"] = context.configuration;
  json["layer_set"] = context.layer_set;
  json["quantizer"] = context.quantizer;
  json["compute"] = context.compute;
  json["evaluation"] = context.evaluation;
  json["document_digest"] =
      Digest::Of(language.texts[static_cast<size_t>(document.text)]).hex();
  json["status"] = StatusName(row.status);
  const bool ok = row.status == RowStatus::kOk;
  const auto add = [&](const char* name, auto value) {
    json[name] = ok ? Json(value) : Json(nullptr);
  };
  add("nll_sum", row.nll_sum);
  add("nll_fp_sum", row.nll_fp_sum);
  add("unigram_nll_sum", row.unigram_nll_sum);
  add("tokens", row.tokens);
  json["bytes"] = row.bytes;
  add("bytes_scored", row.bytes_scored);
  json["chars"] = row.chars;
  add("kl_sum", row.kl_sum);
  add("top1", row.top1);
  add("nonfinite", row.nonfinite);
  if (!row.codes.empty()) {
    json["codes"] = row.codes.hex();
  }
  json["engine"] = context.engine;
  return json;
}

absl::StatusOr<EngineTask> MakeTask(const ScoreFlags& flags,
                                    const EngineConfiguration& wanted,
                                    const ModelDescription& model) {
  EngineTask task;
  task.model_path = flags.model;
  task.naive = flags.naive;
  QSWEEP_ASSIGN_OR_RETURN(task.compute, ParseCompute(flags.compute));
  QSWEEP_ASSIGN_OR_RETURN(
      task.evaluation, EvaluationText(flags.evaluation, model.tokenizer_digest,
                                      flags.max_tokens));
  task.configurations.push_back(wanted);
  QSWEEP_ASSIGN_OR_RETURN(task.languages, ReadTexts(flags.texts, "--texts"));
  for (size_t language = 0; language < task.languages.size(); ++language) {
    for (size_t text = 0; text < task.languages[language].texts.size();
         ++text) {
      task.documents.push_back({.language = static_cast<int>(language),
                                .text = static_cast<int>(text)});
    }
  }
  if (task.documents.empty()) {
    return BadTexts(flags.texts, "--texts", "holds no text");
  }
  QSWEEP_RETURN_IF_ERROR(AddCalibration(flags.calibration, task));
  QSWEEP_ASSIGN_OR_RETURN(task.configurations[0].quantizer,
                          CompleteQuantizer(task.configurations[0].quantizer,
                                            model, ModelCacheDir()));
  return task;
}

}  // namespace

absl::Status RunScore(const ScoreFlags& flags, const Print& print) {
  QSWEEP_ASSIGN_OR_RETURN(const EngineConfiguration asked,
                          ConfigurationOfFlags(flags.quantizer, flags.protect));
  QSWEEP_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                          Engine::Create({.device = flags.engine.device,
                                          .threads = flags.engine.threads,
                                          .memory = flags.engine.memory,
                                          .cache_dir = ModelCacheDir(),
                                          .state_dir = StateDir()}));
  QSWEEP_ASSIGN_OR_RETURN(const ModelDescription* const model,
                          engine->Describe(flags.model));
  QSWEEP_ASSIGN_OR_RETURN(const EngineTask task,
                          MakeTask(flags, asked, *model));
  const EngineConfiguration& wanted = task.configurations[0];
  QSWEEP_ASSIGN_OR_RETURN(const Configuration configuration,
                          ParseConfiguration(*model, wanted.quantizer,
                                             wanted.layer_set, task.compute));
  const RowContext context = {.model = model->digest.hex(),
                              .configuration = configuration.digest.hex(),
                              .layer_set = configuration.layer_set_text,
                              .quantizer = configuration.quantizer_text,
                              .compute = ComputeName(task.compute),
                              .evaluation = task.evaluation,
                              .engine = engine->info().fingerprint};
  StderrSink sink;
  QSWEEP_ASSIGN_OR_RETURN(const EngineResult result,
                          engine->Run(task, sink, std::stop_token()));
  Json all = Json::array();
  const ErrorCode* skipped = nullptr;
  int num_skipped = 0;
  for (const EngineRow& row : result.rows) {
    Json json = RowJson(context, task, row);
    if (flags.output == "json") {
      all.push_back(std::move(json));
    } else {
      print(absl::StrCat(json.dump(), "\n"));
    }
    if (row.status != RowStatus::kOk) {
      skipped = skipped == nullptr ? &CodeOf(row.status) : skipped;
      ++num_skipped;
    }
  }
  if (flags.output == "json") {
    print(absl::StrCat(all.dump(1), "\n"));
  }
  if (skipped != nullptr) {
    return MakeError(
        *skipped,
        absl::StrCat(num_skipped, " of ", result.rows.size(),
                     " documents have no sums; see 'status'. ", skipped->title),
        flags.texts,
        "Use the other rows, or take these documents out of the file.");
  }
  return absl::OkStatus();
}

}  // namespace qsweep
