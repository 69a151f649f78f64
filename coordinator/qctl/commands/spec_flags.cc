#include "coordinator/qctl/commands/spec_flags.h"

#include <filesystem>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/job_spec.h"
#include "common/job/requirements.h"

namespace qsweep::qctl {
namespace {

constexpr int64_t kMostPriority = 1000;
constexpr int64_t kMostCount = 1'000'000'000;
constexpr int64_t kLargestSeed = int64_t{1} << 53;  // exact in JSON

// A word that is a path of this machine is a path, whatever it looks like.
v1::ModelReference ModelOf(const Context& context, const std::string& text) {
  v1::ModelReference model = ParseModelReference(text);
  if (std::error_code error;  // unreadable counts as not there
      std::filesystem::exists(context.AbsolutePath(text), error)) {
    model.Clear();
    model.set_path(text);
  }
  return model;
}

// The integer flags of a spec.
absl::Status SetNumbers(const Arguments& arguments, v1::JobSpec& spec) {
  QSWEEP_ASSIGN_OR_RETURN(const int64_t seed,
                          arguments.GetInteger("seed", 0, 0, kLargestSeed));
  spec.set_seed(static_cast<uint64_t>(seed));
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t priority,
      arguments.GetInteger("priority", 0, -kMostPriority, kMostPriority));
  v1::JobPolicy& policy = *spec.mutable_policy();
  policy.set_priority(static_cast<int32_t>(priority));
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t max_retries,
      arguments.GetInteger("max-retries", 0, 1, kMostCount));
  policy.set_max_retries(static_cast<uint32_t>(max_retries));
  QSWEEP_ASSIGN_OR_RETURN(const int64_t max_fails,
                          arguments.GetInteger("max-fails", 0, 1, kMostCount));
  policy.set_max_fails(static_cast<uint32_t>(max_fails));
  if (arguments.Has("require")) {
    QSWEEP_ASSIGN_OR_RETURN(*policy.mutable_require(),
                            ParseRequirements(arguments.Get("require")));
  }
  QSWEEP_ASSIGN_OR_RETURN(
      const absl::Duration queue_timeout,
      arguments.GetDuration("queue-timeout", absl::ZeroDuration()));
  if (arguments.Has("queue-timeout") && queue_timeout < absl::Milliseconds(1)) {
    return MakeError(kBadValue, "a queue timeout is at least 1ms",
                     "--queue-timeout");
  }
  policy.set_queue_timeout_ms(
      static_cast<uint64_t>(absl::ToInt64Milliseconds(queue_timeout)));
  QSWEEP_ASSIGN_OR_RETURN(const int64_t replicates,
                          arguments.GetInteger("replicates", 1, 1, kMostCount));
  spec.set_replicates(static_cast<uint32_t>(replicates));
  QSWEEP_ASSIGN_OR_RETURN(const int64_t samples,
                          arguments.GetInteger("samples", 0, 1, kMostCount));
  QSWEEP_ASSIGN_OR_RETURN(const int64_t max_tokens,
                          arguments.GetInteger("max-tokens", 0, 2, kMostCount));
  std::vector<std::string> evals = arguments.GetList("eval");
  if (evals.empty()) {
    evals.emplace_back("aligned");
  }
  for (const std::string& eval : evals) {
    v1::EvaluationRequest& request = *spec.add_evals();
    request.set_eval(eval);
    request.set_samples(static_cast<uint32_t>(samples));
    request.set_max_tokens(static_cast<uint32_t>(max_tokens));
  }
  return absl::OkStatus();
}

// The coordinator would say the same in the words of a spec file.
absl::Status CheckRequired(const Arguments& arguments) {
  if (!arguments.Has("model") && !arguments.Has("models")) {
    return MakeError(kMissingField, "no model is given", "--model",
                     "--model PATH: a folder, or a .gguf file");
  }
  if (!arguments.Has("corpus")) {
    return MakeError(kMissingField, "no corpus is given", "--corpus",
                     "qctl corpora list shows which there are");
  }
  if (!arguments.Has("quantizer")) {
    return MakeError(kMissingField, "no quantizer is given", "--quantizer",
                     "for example --quantizer rtn:bits=4,group=64");
  }
  return absl::OkStatus();
}

void SetLayerSets(const Arguments& arguments, v1::JobSpec& spec) {
  for (const std::string& text : arguments.GetList("protect")) {
    v1::LayerSetPattern& pattern = *spec.add_layer_sets();
    if (text == "each" || text == "pairs" || text == "triples") {
      pattern.set_protect(text);
    } else {
      pattern.set_literal(text);
    }
  }
  for (const std::string& text : arguments.GetList("quantize")) {
    spec.add_layer_sets()->set_quantize(text);
  }
}

// Where calibrated quantizers have their texts from.
absl::Status SetCalibration(const Arguments& arguments, v1::JobSpec& spec) {
  for (const char* flag : {"calibration-languages", "calibration-samples"}) {
    if (arguments.Has(flag) && !arguments.Has("calibration")) {
      return MakeError(kMissingField,
                       absl::StrCat("--", flag, " needs a corpus"),
                       "--calibration", "--calibration NAME");
    }
  }
  if (!arguments.Has("calibration")) {
    return absl::OkStatus();
  }
  v1::CalibrationRequest& calibration = *spec.mutable_calibration();
  calibration.set_corpus(arguments.Get("calibration"));
  for (const std::string& language :
       arguments.GetList("calibration-languages")) {
    calibration.add_languages(language);
  }
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t samples,
      arguments.GetInteger("calibration-samples", 0, 1, kMostCount));
  calibration.set_samples(static_cast<uint32_t>(samples));
  return absl::OkStatus();
}

absl::Status SetNames(const Arguments& arguments, v1::JobSpec& spec) {
  spec.set_name(arguments.Get("name"));
  for (const std::string& label : arguments.GetAll("label")) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(label, absl::MaxSplits('=', 1));
    if (parts.first.empty() || !absl::StrContains(label, '=')) {
      return MakeError(kBadValue, absl::StrCat("\"", label, "\" is no label"),
                       "--label", "write it like paper=acl27");
    }
    (*spec.mutable_labels())[parts.first] = parts.second;
  }
  const std::string reuse = arguments.Get("reuse");
  spec.mutable_policy()->set_reuse(reuse == "never"     ? v1::REUSE_NEVER
                                   : reuse == "require" ? v1::REUSE_REQUIRE
                                                        : v1::REUSE_AUTO);
  const std::string compute = arguments.Get("compute");
  QSWEEP_ASSIGN_OR_RETURN(const Compute parsed,
                          ParseCompute(compute.empty() ? "fp32" : compute));
  spec.set_compute(ToProto(parsed));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::JobSpec> SpecFromFlags(const Context& context,
                                          v1::JobKind kind) {
  const Arguments& arguments = context.arguments();
  QSWEEP_RETURN_IF_ERROR(CheckRequired(arguments));
  v1::JobSpec spec;
  spec.set_kind(kind);
  for (const char* flag : {"model", "models"}) {
    for (const std::string& text : arguments.GetList(flag)) {
      *spec.add_models() = ModelOf(context, text);
    }
  }
  for (const std::string& quantizer : arguments.GetAll("quantizer")) {
    spec.add_quantizers(quantizer);
  }
  for (const std::string& language : arguments.GetList("languages")) {
    spec.add_languages(language);
  }
  spec.set_layers(arguments.Get("layers"));
  spec.set_corpus(arguments.Get("corpus"));
  spec.set_reference(arguments.Get("reference"));
  SetLayerSets(arguments, spec);
  QSWEEP_RETURN_IF_ERROR(SetCalibration(arguments, spec));
  QSWEEP_RETURN_IF_ERROR(SetNumbers(arguments, spec));
  QSWEEP_RETURN_IF_ERROR(SetNames(arguments, spec));
  FillJobSpecDefaults(spec);
  return spec;
}

std::vector<Flag> SpecFlags(bool many_models) {
  std::vector<Flag> flags = {
      {"model", 0, "PATH",
       "folder with config.json or one .gguf, or a .gguf file", many_models},
      {"corpus", 0, "NAME", "texts, see qctl corpora list"},
      {"languages", 0, "A,B,...", "of the corpus (default: all)", true},
      {"reference", 0, "LANG", "language that gaps are relative to"},
      {"quantizer", 0, "Q", "like rtn:bits=4,group=64", true},
      {"replicates", 0, "K", "draws of each quantizer's rounding (default: 1)"},
      {"protect", 0, "WHAT", "each, pairs, triples, or a layer set like L0+L9",
       true},
      {"quantize", 0, "each", "quantize one layer, protect the others", true},
      {"layers", 0, "RANGE", "layers that patterns try: all or 0-7"},
      {"eval", 0, "E", "aligned (default) or hf-text", true},
      {"samples", 0, "N", "units per language, chosen by a seeded hash"},
      {"max-tokens", 0, "N", "skip longer documents"},
      {"calibration", 0, "CORPUS", "texts that gptq and awq learn from"},
      {"calibration-languages", 0, "A,B,...", "of them (default: all)", true},
      {"calibration-samples", 0, "N", "texts per language (default: all)"},
      {"compute",
       0,
       "C",
       "precision of products",
       false,
       {"fp32", "bf16", "fp16"}},
      {"seed", 0, "N", "of the sample and the bootstrap"},
      {"reuse",
       0,
       "WHEN",
       "rows measured before",
       false,
       {"auto", "never", "require"}},
      {"name", 0, "NAME", "to find the job by"},
      {"label", 0, "K=V", "kept with the job", true},
      {"priority", 0, "N", "higher runs first"},
      {"max-retries", 0, "N", "failed attempts per task"},
      {"max-fails", 0, "N", "failed tasks before the job fails"},
      {"require", 0, "WHAT", "of workers: gpu=T4,vram>=14GiB,compute>=7.5"},
      {"queue-timeout", 0, "DUR",
       "cancel when no worker takes a task for DUR"}};
  if (many_models) {
    flags.insert(flags.begin() + 1,
                 {"models", 0, "A,B,...", "the same as --model A --model B"});
  }
  return flags;
}

}  // namespace qsweep::qctl
