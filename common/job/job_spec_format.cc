#include <map>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/job/job_spec.h"
#include "common/job/job_spec_names.h"
#include "common/job/requirements.h"

namespace qsweep {
namespace {

// Whether YAML and JSON readers take text for what it is without quotes.
bool IsPlain(absl::string_view text) {
  for (const char* word :
       {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}) {
    if (absl::EqualsIgnoreCase(text, word)) {
      return false;
    }
  }
  if (text.empty() || !absl::ascii_isalpha(text.front())) {
    return false;
  }
  for (const char c : text) {
    if (!absl::ascii_isalnum(c) &&
        absl::string_view("_./+@%-").find(c) == absl::string_view::npos) {
      return false;
    }
  }
  return true;
}

std::string Quote(absl::string_view text) {
  if (IsPlain(text)) {
    return std::string(text);
  }
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (absl::ascii_iscntrl(c)) {
      absl::StrAppendFormat(&quoted, "\\u%04x", static_cast<unsigned char>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

// Appends "key: value" for a value that is there.
void AddText(std::vector<std::string>& parts, absl::string_view key,
             absl::string_view value) {
  if (!value.empty()) {
    parts.push_back(absl::StrCat(key, ": ", Quote(value)));
  }
}

std::string FormatModel(const v1::ModelReference& model) {
  std::vector<std::string> parts;
  AddText(parts, "id", model.id());
  AddText(parts, "revision", model.revision());
  AddText(parts, "path", model.path());
  return absl::StrCat("{", absl::StrJoin(parts, ", "), "}");
}

std::string FormatPattern(const v1::LayerSetPattern& pattern) {
  switch (pattern.pattern_case()) {
    case v1::LayerSetPattern::kProtect:
      return absl::StrCat("{protect: ", Quote(pattern.protect()), "}");
    case v1::LayerSetPattern::kQuantize:
      return absl::StrCat("{quantize: ", Quote(pattern.quantize()), "}");
    default:
      return Quote(pattern.literal());
  }
}

std::string FormatEval(const v1::EvaluationRequest& eval) {
  std::vector<std::string> parts;
  AddText(parts, "eval", eval.eval());
  if (eval.samples() != 0) {
    parts.push_back(absl::StrCat("samples: ", eval.samples()));
  }
  if (eval.max_tokens() != 0) {
    parts.push_back(absl::StrCat("maxTokens: ", eval.max_tokens()));
  }
  return absl::StrCat("{", absl::StrJoin(parts, ", "), "}");
}

// Without the digest, which the coordinator adds: a spec's own digest must not
// change by it.
std::string FormatCalibration(const v1::CalibrationRequest& calibration) {
  std::vector<std::string> parts;
  AddText(parts, "corpus", calibration.corpus());
  if (!calibration.languages().empty()) {
    std::vector<std::string> languages;
    for (const std::string& language : calibration.languages()) {
      languages.push_back(Quote(language));
    }
    parts.push_back(
        absl::StrCat("languages: [", absl::StrJoin(languages, ", "), "]"));
  }
  parts.push_back(absl::StrCat("samples: ", calibration.samples()));
  parts.push_back(
      absl::StrCat("seeds: [", absl::StrJoin(calibration.seeds(), ", "), "]"));
  AddText(parts, "mode", calibration.mode());
  return absl::StrCat("{", absl::StrJoin(parts, ", "), "}");
}

// "key:" and an item a line; nothing for no items.
template <typename Items, typename Format>
void AppendList(std::string& text, absl::string_view key, const Items& items,
                Format format) {
  if (items.empty()) {
    return;
  }
  absl::StrAppend(&text, key, ":\n");
  for (const auto& item : items) {
    absl::StrAppend(&text, "  - ", format(item), "\n");
  }
}

void AppendText(std::string& text, absl::string_view key,
                absl::string_view value) {
  if (!value.empty()) {
    absl::StrAppend(&text, key, ": ", Quote(value), "\n");
  }
}

}  // namespace

std::string FormatJobSpecYaml(const v1::JobSpec& given) {
  v1::JobSpec spec = given;
  FillJobSpecDefaults(spec);
  std::string text = absl::StrCat("apiVersion: ", kSpecVersion, "\n");
  AppendText(text, "kind", JobKindName(spec.kind()));
  AppendText(text, "name", spec.name());
  if (!spec.labels().empty()) {
    absl::StrAppend(&text, "labels:\n");
    const std::map<std::string, std::string> sorted(spec.labels().begin(),
                                                    spec.labels().end());
    for (const auto& [key, value] : sorted) {
      absl::StrAppend(&text, "  ", Quote(key), ": ", Quote(value), "\n");
    }
  }
  if (spec.models_size() == 1) {
    absl::StrAppend(&text, "model: ", FormatModel(spec.models(0)), "\n");
  } else {
    AppendList(text, "models", spec.models(), FormatModel);
  }
  AppendList(text, "quantizers", spec.quantizers(), Quote);
  // Only where asked for: earlier specs keep their digest.
  if (spec.replicates() > 1) {
    absl::StrAppend(&text, "replicates: ", spec.replicates(), "\n");
  }
  AppendList(text, "layerSets", spec.layer_sets(), FormatPattern);
  AppendText(text, "layers", spec.layers());
  AppendText(text, "corpus", spec.corpus());
  if (spec.languages().empty()) {
    absl::StrAppend(&text, "languages: all\n");
  }
  AppendList(text, "languages", spec.languages(), Quote);
  AppendText(text, "reference", spec.reference());
  AppendList(text, "evals", spec.evals(), FormatEval);
  if (spec.has_calibration()) {
    absl::StrAppend(
        &text, "calibration: ", FormatCalibration(spec.calibration()), "\n");
  }
  const v1::JobPolicy& policy = spec.policy();
  absl::StrAppend(&text, "policy: {priority: ", policy.priority(),
                  ", maxRetries: ", policy.max_retries(),
                  ", maxFails: ", policy.max_fails(),
                  ", reuse: ", FindName(kReuseNames, policy.reuse()),
                  ", compute: ", FindName(kProtoComputeNames, spec.compute()));
  // Only where asked for: earlier specs keep their digest.
  if (const std::string require = FormatRequirements(policy.require());
      !require.empty()) {
    absl::StrAppend(&text, ", require: ", require);
  }
  if (policy.queue_timeout_ms() > 0) {
    absl::StrAppend(&text, ", queueTimeout: ", policy.queue_timeout_ms(), "ms");
  }
  absl::StrAppend(&text, "}\nseed: ", spec.seed(), "\n");
  return text;
}

Digest JobSpecDigest(const v1::JobSpec& spec) {
  return Digest::Of(FormatJobSpecYaml(spec));
}

}  // namespace qsweep
