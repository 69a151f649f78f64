#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/configuration.h"
#include "common/job/did_you_mean.h"
#include "common/job/job_spec.h"
#include "common/job/job_spec_names.h"
#include "common/job/layer_set.h"
#include "common/job/replicate.h"
#include "common/job/requirements.h"
#include "common/job/utf8.h"

namespace qsweep {
namespace {

constexpr size_t kLongestName = 100;    // bytes
constexpr size_t kLongestValue = 4096;  // paths, label values
constexpr int kMostModels = 64;
constexpr int kMostQuantizers = 256;
constexpr int kMostLayerSets = 10'000;
constexpr int kMostLanguages = 2'000;
constexpr int kMostEvals = 16;
constexpr int kMostLabels = 64;
constexpr int kMostSeeds = 100;
constexpr uint32_t kMostReplicates = 100;
constexpr int kMostLayers = 10'000;
constexpr int kHighestPriority = 1'000;
constexpr uint32_t kMostRetries = 1'000;

// The same error, about `field` of the spec.
absl::Status At(const absl::Status& status, const std::string& field) {
  absl::Status moved = status;
  if (std::optional<ErrorInfo> info = GetErrorInfo(status)) {
    info->field = field;
    SetErrorInfo(moved, *info);
  }
  return moved;
}

std::string Indexed(absl::string_view field, int index) {
  return absl::StrCat(field, "[", index, "]");
}

absl::Status CheckCount(absl::string_view field, int count, int most,
                        absl::string_view hint = "") {
  if (count == 0) {
    return MakeError(kMissingField, absl::StrCat("the spec has no ", field),
                     field, hint);
  }
  if (count > most) {
    return MakeError(
        kBadValue,
        absl::StrCat(field, " has ", count, " items, at most ", most), field);
  }
  return absl::OkStatus();
}

// A text that can be shown and stored: UTF-8, no control characters.
absl::Status CheckText(const std::string& text, size_t longest,
                       const std::string& field) {
  if (text.size() > longest || !IsValidUtf8(text) ||
      std::any_of(text.begin(), text.end(),
                  [](char c) { return absl::ascii_iscntrl(c); })) {
    return MakeError(kBadValue,
                     absl::StrCat(field, " must be at most ", longest,
                                  " bytes of UTF-8 without control characters"),
                     field);
  }
  return absl::OkStatus();
}

// A job's name is also a selector: it must not read as another one.
absl::Status CheckName(const std::string& name) {
  QSWEEP_RETURN_IF_ERROR(CheckText(name, kLongestName, "name"));
  if (name.empty()) {
    return absl::OkStatus();
  }
  const bool number = absl::string_view(name).find_first_not_of(
                          "0123456789-:") == absl::string_view::npos;
  if (number || name == "last" || name == "all" ||
      absl::StartsWith(name, "job/") || absl::ascii_isspace(name.front()) ||
      absl::ascii_isspace(name.back())) {
    return MakeError(
        kBadValue,
        absl::StrCat("\"", name, "\" cannot be told from a job selector"),
        "name",
        "Choose a name with a letter, other than last, "
        "all and job/...");
  }
  return absl::OkStatus();
}

absl::Status CheckLabels(const v1::JobSpec& spec) {
  if (spec.labels_size() > kMostLabels) {
    return MakeError(
        kBadValue, absl::StrCat("at most ", kMostLabels, " labels"), "labels");
  }
  for (const auto& [key, value] : spec.labels()) {
    const std::string field = absl::StrCat("labels.", key);
    QSWEEP_RETURN_IF_ERROR(CheckText(key, kLongestName, "labels"));
    QSWEEP_RETURN_IF_ERROR(CheckText(value, kLongestValue, field));
    if (key.empty() || value.empty()) {
      return MakeError(kBadValue, "a label needs a name and a value", field);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckModel(const v1::ModelReference& model,
                        const std::string& field) {
  if (model.id().empty() == model.path().empty()) {
    return MakeError(kBadValue, absl::StrCat(field, " needs a path"), field,
                     "Write {path: DIR}.");
  }
  QSWEEP_RETURN_IF_ERROR(CheckText(model.path(), kLongestValue, field));
  if (!model.id().empty()) {
    return MakeError(
        kBadValue,
        absl::StrCat("this version reads models from local paths, not by the "
                     "hub id \"",
                     model.id(), "\""),
        field, "Download it and write {path: DIR}.");
  }
  if (!absl::StartsWith(model.path(), "/")) {
    return MakeError(kBadValue,
                     absl::StrCat("the path \"", model.path(),
                                  "\" is not absolute: workers run elsewhere"),
                     field);
  }
  return absl::OkStatus();
}

absl::Status CheckModels(const v1::JobSpec& spec) {
  const bool several = spec.kind() == v1::JOB_KIND_CROSS_MODEL;
  const absl::string_view name = several ? "models" : "model";
  QSWEEP_RETURN_IF_ERROR(CheckCount(name, spec.models_size(), kMostModels,
                                    several
                                        ? "Write models: [{path: DIR}, ...]."
                                        : "Write model: {path: DIR}."));
  if (!several && spec.models_size() > 1) {
    return MakeError(kBadValue,
                     absl::StrCat("a ", JobKindName(spec.kind()),
                                  " has one model, not ", spec.models_size()),
                     "models", "Use kind: CrossModel.");
  }
  std::set<std::string> seen;
  for (int i = 0; i < spec.models_size(); ++i) {
    const std::string field = several ? Indexed("models", i) : "model";
    QSWEEP_RETURN_IF_ERROR(CheckModel(spec.models(i), field));
    if (!seen.insert(spec.models(i).path()).second) {
      return MakeError(kBadValue,
                       absl::StrCat(spec.models(i).path(), " is given twice"),
                       field);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckQuantizers(const v1::JobSpec& spec) {
  QSWEEP_RETURN_IF_ERROR(
      CheckCount("quantizers", spec.quantizers_size(), kMostQuantizers,
                 "Write quantizers: [\"rtn:bits=4,group=128\"]."));
  for (int i = 0; i < spec.quantizers_size(); ++i) {
    const auto quantizer = ParseQuantizer(spec.quantizers(i));
    if (!quantizer.ok()) {
      return At(quantizer.status(), Indexed("quantizers", i));
    }
    if (quantizer->scheme.method == Method::kCheckpoint &&
        !absl::StartsWith(quantizer->checkpoint_path, "/")) {
      return MakeError(
          kBadValue,
          absl::StrCat("the checkpoint's path \"", quantizer->checkpoint_path,
                       "\" is not absolute: workers run elsewhere"),
          Indexed("quantizers", i), "Write checkpoint:path=/DIR.");
    }
  }
  return absl::OkStatus();
}

// Each quantizer can be drawn so often.
absl::Status CheckReplicates(const v1::JobSpec& spec) {
  const uint32_t replicates = spec.replicates();
  if (replicates <= 1) {
    return absl::OkStatus();
  }
  if (replicates > kMostReplicates) {
    return MakeError(kBadValue,
                     absl::StrCat("at most ", kMostReplicates, " replicates"),
                     "replicates");
  }
  for (int i = 0; i < spec.quantizers_size(); ++i) {
    QSWEEP_ASSIGN_OR_RETURN(const Quantizer quantizer,
                            ParseQuantizer(spec.quantizers(i)));
    if (quantizer.scheme.replicate != 0) {
      return MakeError(
          kBadValue,
          absl::StrCat(spec.quantizers(i), " names a replicate, and ",
                       replicates, " are asked for"),
          Indexed("quantizers", i), "Leave one of the two out.");
    }
    const absl::Status last =
        ReplicateOf(quantizer, static_cast<int>(replicates) - 1).status();
    if (const std::optional<ErrorInfo> info = GetErrorInfo(last)) {
      return MakeError(kBadValue,
                       absl::StrCat(replicates, " replicates of ",
                                    spec.quantizers(i), ": ", last.message()),
                       "replicates", info->hint);
    }
  }
  return absl::OkStatus();
}

// Calibrated quantizers need texts, and texts a quantizer that reads them.
absl::Status CheckCalibration(const v1::JobSpec& spec) {
  std::string calibrated;  // the first such quantizer
  for (int i = 0; i < spec.quantizers_size(); ++i) {
    QSWEEP_ASSIGN_OR_RETURN(const Quantizer quantizer,
                            ParseQuantizer(spec.quantizers(i)));
    if (quantizer.scheme.calibrated() && calibrated.empty()) {
      calibrated = spec.quantizers(i);
    }
  }
  const v1::CalibrationRequest& calibration = spec.calibration();
  if (calibrated.empty()) {
    return !spec.has_calibration()
               ? absl::OkStatus()
               : MakeError(kBadValue, "no quantizer of the spec is calibrated",
                           "calibration", "Leave it out, or add gptq or awq.");
  }
  if (calibration.corpus().empty()) {
    return MakeError(
        kMissingField,
        absl::StrCat(calibrated, " is calibrated on texts, and none are named"),
        spec.has_calibration() ? "calibration.corpus" : "calibration",
        "Write calibration: {corpus: NAME}; `qctl corpora list` shows which "
        "there are.");
  }
  QSWEEP_RETURN_IF_ERROR(
      CheckText(calibration.corpus(), kLongestName, "calibration.corpus"));
  if (!calibration.mode().empty()) {
    QSWEEP_RETURN_IF_ERROR(At(ParseCalibrationMode(calibration.mode()).status(),
                              "calibration.mode"));
  }
  if (calibration.seeds_size() > kMostSeeds) {
    return MakeError(kBadValue, absl::StrCat("at most ", kMostSeeds, " seeds"),
                     "calibration.seeds");
  }
  if (calibration.languages_size() > kMostLanguages) {
    return MakeError(kBadValue,
                     absl::StrCat("at most ", kMostLanguages, " languages"),
                     "calibration.languages");
  }
  for (int i = 0; i < calibration.languages_size(); ++i) {
    QSWEEP_RETURN_IF_ERROR(CheckText(calibration.languages(i), kLongestName,
                                     Indexed("calibration.languages", i)));
  }
  return absl::OkStatus();
}

absl::Status CheckPattern(const v1::LayerSetPattern& pattern,
                          const std::string& field) {
  switch (pattern.pattern_case()) {
    case v1::LayerSetPattern::kLiteral:
      return At(LayerSet::Parse(pattern.literal()).status(), field);
    case v1::LayerSetPattern::kProtect: {
      const std::vector<std::string> known = {"each", "pairs", "triples"};
      if (std::find(known.begin(), known.end(), pattern.protect()) ==
          known.end()) {
        return MakeError(kBadSelector,
                         absl::StrCat("{protect: ", pattern.protect(),
                                      "} is neither each, pairs, triples nor a "
                                      "list of layer sets"),
                         field, DidYouMeanHint(pattern.protect(), known));
      }
      return absl::OkStatus();
    }
    case v1::LayerSetPattern::kQuantize:
      if (pattern.quantize() != "each") {
        return MakeError(kBadSelector,
                         absl::StrCat("{quantize: ", pattern.quantize(),
                                      "} is not {quantize: each}"),
                         field);
      }
      return absl::OkStatus();
    default:
      return MakeError(kBadSelector, "the layer set is empty", field);
  }
}

absl::Status CheckLayerSets(const v1::JobSpec& spec) {
  QSWEEP_RETURN_IF_ERROR(CheckCount(
      "layerSets", spec.layer_sets_size(), kMostLayerSets,
      "Write layerSets: [none, L0+L-1], or {protect: each} for every layer."));
  for (int i = 0; i < spec.layer_sets_size(); ++i) {
    QSWEEP_RETURN_IF_ERROR(
        CheckPattern(spec.layer_sets(i), Indexed("layerSets", i)));
  }
  return At(ParseLayerRange(spec.layers(), kMostLayers).status(), "layers");
}

absl::Status CheckLanguages(const v1::JobSpec& spec) {
  if (spec.corpus().empty()) {
    return MakeError(kMissingField, "the spec has no corpus", "corpus",
                     "Name one that `qctl corpora list` shows.");
  }
  QSWEEP_RETURN_IF_ERROR(CheckText(spec.corpus(), kLongestName, "corpus"));
  QSWEEP_RETURN_IF_ERROR(
      CheckText(spec.reference(), kLongestName, "reference"));
  if (spec.languages_size() > kMostLanguages) {
    return MakeError(kBadValue,
                     absl::StrCat("at most ", kMostLanguages, " languages"),
                     "languages");
  }
  std::set<std::string> seen;
  for (int i = 0; i < spec.languages_size(); ++i) {
    const std::string field = Indexed("languages", i);
    QSWEEP_RETURN_IF_ERROR(CheckText(spec.languages(i), kLongestName, field));
    if (spec.languages(i).empty() || !seen.insert(spec.languages(i)).second) {
      return MakeError(kBadValue,
                       absl::StrCat("language \"", spec.languages(i),
                                    "\" is empty or given twice"),
                       field);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckEvals(const v1::JobSpec& spec) {
  QSWEEP_RETURN_IF_ERROR(CheckCount("evals", spec.evals_size(), kMostEvals));
  std::set<std::pair<std::string, uint32_t>> seen;
  for (int i = 0; i < spec.evals_size(); ++i) {
    const v1::EvaluationRequest& eval = spec.evals(i);
    const std::string field = Indexed("evals", i);
    QSWEEP_RETURN_IF_ERROR(
        At(EvaluationText(eval.eval(), Digest(), 0).status(), field));
    if (eval.max_tokens() == 1 || eval.max_tokens() > 100'000'000) {
      return MakeError(kBadValue, "maxTokens must be 2 to 100000000", field);
    }
    if (!seen.insert({eval.eval(), eval.max_tokens()}).second) {
      return MakeError(
          kBadValue,
          absl::StrCat("evaluation ", eval.eval(), " is given twice"), field);
    }
  }
  return absl::OkStatus();
}

constexpr uint64_t kMostQueueTimeoutMs = uint64_t{366} * 24 * 3600 * 1000;

absl::Status CheckPolicy(const v1::JobSpec& spec) {
  const v1::JobPolicy& policy = spec.policy();
  if (policy.priority() < -kHighestPriority ||
      policy.priority() > kHighestPriority) {
    return MakeError(
        kBadValue,
        absl::StrCat("priority ", policy.priority(), " is not in -",
                     kHighestPriority, " to ", kHighestPriority),
        "policy.priority");
  }
  if (policy.max_retries() > kMostRetries) {
    return MakeError(kBadValue,
                     absl::StrCat("maxRetries is at most ", kMostRetries),
                     "policy.maxRetries");
  }
  QSWEEP_RETURN_IF_ERROR(CheckRequirements(policy.require()));
  if (policy.queue_timeout_ms() > kMostQueueTimeoutMs) {
    return MakeError(kBadValue, "queueTimeout is at most a year",
                     "policy.queueTimeout");
  }
  if (FindName(kReuseNames, policy.reuse()).empty()) {
    return MakeError(kBadValue, "this version does not know the reuse mode",
                     "policy.reuse");
  }
  if (!FromProto(spec.compute()).ok()) {
    return MakeError(kBadValue, "this version does not know the compute mode",
                     "policy.compute");
  }
  return absl::OkStatus();
}

absl::Status CheckKind(const v1::JobSpec& spec) {
  if (spec.kind() == v1::JOB_KIND_UNSPECIFIED) {
    return MakeError(kMissingField, "the spec has no kind", "kind");
  }
  if (spec.kind() == v1::JOB_KIND_MMLU || JobKindName(spec.kind()).empty()) {
    return MakeError(
        kUnsupportedKind,
        absl::StrCat("this version cannot run ",
                     spec.kind() == v1::JOB_KIND_MMLU ? "Mmlu jobs"
                                                      : "jobs of this kind"),
        "kind", "Use LayerSweep, CrossModel or Configs.");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateJobSpec(const v1::JobSpec& given) {
  v1::JobSpec spec = given;
  FillJobSpecDefaults(spec);
  QSWEEP_RETURN_IF_ERROR(CheckKind(spec));
  QSWEEP_RETURN_IF_ERROR(CheckName(spec.name()));
  QSWEEP_RETURN_IF_ERROR(CheckLabels(spec));
  QSWEEP_RETURN_IF_ERROR(CheckModels(spec));
  QSWEEP_RETURN_IF_ERROR(CheckQuantizers(spec));
  QSWEEP_RETURN_IF_ERROR(CheckReplicates(spec));
  QSWEEP_RETURN_IF_ERROR(CheckCalibration(spec));
  QSWEEP_RETURN_IF_ERROR(CheckLayerSets(spec));
  QSWEEP_RETURN_IF_ERROR(CheckLanguages(spec));
  QSWEEP_RETURN_IF_ERROR(CheckEvals(spec));
  return CheckPolicy(spec);
}

}  // namespace qsweep
