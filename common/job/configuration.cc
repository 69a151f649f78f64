#include "common/job/configuration.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/did_you_mean.h"
#include "common/job/quantizer_names.h"
#include "common/job/replicate.h"

namespace qsweep {
namespace {

using Choice = ResolvedLayerSet::Choice;

constexpr double kKeptBits = 16;  // per weight of a tensor left in half floats

bool NameHas(const TensorDescription& tensor, absl::string_view part) {
  return absl::StrContains(tensor.name, part);
}

// Bits per weight that quantizing by scheme takes; vectors are one row.
double EffectiveBits(const Scheme& scheme, const TensorDescription& tensor) {
  const int64_t columns = tensor.shape.back();
  return scheme.EffectiveBits(tensor.num_elements() / columns, columns);
}

// The shares of one configuration; schemes are set already.
Overhead MeasureOverhead(const ModelDescription& model,
                         const Quantizer& quantizer,
                         const ResolvedLayerSet& resolved,
                         const std::vector<std::optional<Scheme>>& schemes) {
  // A ready checkpoint replaces all, but has other bits of linear layers alone.
  const Scope scope = quantizer.scheme.method == Method::kCheckpoint
                          ? Scope::kLinear
                          : quantizer.scope;
  double total = 0;
  double protected_params = 0;
  double kept = 0;
  double extra_bits = 0;
  double unprotected_bits = 0;
  double rounded = 0;  // weights of tensors whose largest are kept
  double rounded_bits = 0;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const TensorDescription& tensor = model.tensors[i];
    const double elements = static_cast<double>(tensor.num_elements());
    total += elements;
    const bool in_scope = InScope(scope, tensor);
    if (!schemes[i] || !in_scope) {
      kept += elements;
    }
    if (!in_scope) {
      unprotected_bits += elements * kKeptBits;
      continue;
    }
    const double bits = EffectiveBits(quantizer.scheme, tensor);
    unprotected_bits += elements * bits;
    if (!schemes[i]) {
      protected_params += elements;
      extra_bits += elements * (kKeptBits - bits);
    } else {
      const double own_bits = EffectiveBits(*schemes[i], tensor);
      extra_bits += elements * (own_bits - bits);
      if (schemes[i]->kept_millionths != 0) {
        rounded += elements;
        rounded_bits += elements * own_bits;
      }
    }
  }
  if (rounded > 0) {
    const double kept_here = std::min(
        static_cast<double>(NumKept(model, resolved.kept_millionths)), rounded);
    protected_params += kept_here;
    kept += kept_here;
    extra_bits += kept_here * (kKeptBits - rounded_bits / rounded);
  }
  return {.params = protected_params / total,
          .layers = static_cast<double>(resolved.layers.size()) / model.layers,
          .kept = kept / total,
          .bytes = extra_bits / unprotected_bits};
}

// What a layer set comes to once scope and scheme are applied: equal schemes
// give equal answers, however the set is written.
struct Shape {
  bool unprotected = true;
  std::optional<int> single_layer;
};

Shape ShapeOf(const ModelDescription& model, const Quantizer& quantizer,
              const std::vector<std::optional<Scheme>>& schemes) {
  Shape shape;
  std::set<int> kept;       // layers with a tensor in scope that is kept
  std::set<int> quantized;  // layers with one that is quantized
  bool other_bits = false;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    if (!InScope(quantizer.scope, model.tensors[i])) {
      continue;
    }
    (schemes[i] ? quantized : kept).insert(model.tensors[i].layer);
    other_bits = other_bits || (schemes[i] && *schemes[i] != quantizer.scheme);
  }
  shape.unprotected = kept.empty() && !other_bits;
  // Below 0: outside the layers.
  if (kept.size() == 1 && *kept.begin() >= 0 && !other_bits &&
      !quantized.contains(*kept.begin())) {
    shape.single_layer = *kept.begin();
  }
  return shape;
}

// Evaluations and the version of what their numbers mean: bumped only when
// numbers are meant to change.
struct KnownEvaluation {
  const char* name;
  int version;
};
constexpr KnownEvaluation kEvaluations[] = {{"aligned", 1}, {"hf-text", 1}};

absl::Status CheckMethodTakes(const Scheme& scheme,
                              const TensorDescription& tensor) {
  if (scheme.method == Method::kGptq && !IsGptqBits(scheme.bits)) {
    return MakeError(kUnsupportedBits,
                     absl::StrCat("int", scheme.bits, " for ", tensor.name,
                                  " under gptq, which has 2, 3, 4 and 8 bits"),
                     "layers", "Use one of these, or rtn.");
  }
  if (scheme.method == Method::kCheckpoint && scheme.bits != kAsStored) {
    return MakeError(kUnsupportedBits,
                     absl::StrCat("int", scheme.bits, " for ", tensor.name,
                                  " of a checkpoint, which is as it is stored"),
                     "layers",
                     "Protect these layers, or name a checkpoint "
                     "with these bits.");
  }
  if (scheme.method == Method::kCheckpoint && scheme.checkpoint == 0) {
    return MakeError(kMissingField, "the checkpoint's digest is not known",
                     "digest", "Submit with qctl, which looks at its files.");
  }
  if (scheme.calibrated() && scheme.kept_millionths != 0) {
    return MakeError(
        kKeptOfCalibrated,
        absl::StrCat(KeptShareText(scheme.kept_millionths), " under ",
                     NameOf(kMethodNames, scheme.method),
                     ", whose rounding of a weight makes up for others"),
        "layers", "Use rtn, nf4 or hqq, or protect layers.");
  }
  if (scheme.calibrated() && scheme.calibration_texts == 0) {
    return MakeError(kMissingField,
                     "gptq and awq are calibrated on texts, and none are "
                     "given",
                     "calibration",
                     "Add calibration: {corpus: NAME} to the spec, or "
                     "--calibration to the command.");
  }
  if (scheme.method == Method::kNf4 && scheme.bits != 4) {
    return MakeError(kUnsupportedBits,
                     absl::StrCat("int", scheme.bits, " for ", tensor.name,
                                  " under nf4, which has 4 bits"),
                     "layers", "Protect these layers, or use rtn or hqq.");
  }
  if (scheme.method == Method::kAwq && scheme.group > 0 &&
      tensor.shape.back() % scheme.group != 0) {
    return MakeError(
        kBadGroup,
        absl::StrCat("group=", scheme.group, " does not divide the ",
                     tensor.shape.back(), " columns of ", tensor.name),
        "group", "awq needs groups of equal size: 64, or 32.");
  }
  if (scheme.method == Method::kHqq &&
      tensor.num_elements() % scheme.group != 0) {
    return MakeError(
        kBadGroup,
        absl::StrCat("group=", scheme.group, " does not divide the ",
                     tensor.num_elements(), " weights of ", tensor.name),
        "group", "hqq needs groups of equal size.");
  }
  return absl::OkStatus();
}

// Whether some tensor has a boundary where the replicate moves the first one;
// else it would be the same rounding under another digest.
absl::Status CheckShiftsBoundary(
    const ModelDescription& model, const Scheme& scheme,
    const std::vector<std::optional<Scheme>>& schemes) {
  const int64_t first = scheme.group - GroupOffset(scheme);
  int64_t longest = 0;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const TensorDescription& tensor = model.tensors[i];
    if (schemes[i]) {
      longest = std::max(longest, scheme.method == Method::kRtn
                                      ? tensor.shape.back()
                                      : tensor.num_elements());
    }
  }
  if (scheme.replicate == 0 || first < longest) {
    return absl::OkStatus();
  }
  return MakeError(
      kBadValue,
      absl::StrCat("replicate=", scheme.replicate, " of group=", scheme.group,
                   " moves the first boundary to ", first,
                   " weights, and no row is longer than ", longest),
      "replicate", "Use smaller groups, or leave replicate out.");
}

// A tensor's line of a canonical text.
std::string TensorLine(const TensorDescription& tensor,
                       const std::optional<Scheme>& scheme) {
  return absl::StrCat(tensor.layer, " ", ComponentName(tensor.component),
                      tensor.bias ? " bias " : " weight ",
                      scheme ? scheme->CanonicalText() : "fp", "\n");
}

// Tells the schemes of each layer what is before it: a chain of digests, each
// of the one before and a line per tensor between.
void SetCalibrationPaths(const ModelDescription& model,
                         std::vector<std::optional<Scheme>>& schemes) {
  std::string before = "qsweep-calibration-path 1\n";
  std::vector<std::vector<size_t>> of_layer(static_cast<size_t>(model.layers));
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const TensorDescription& tensor = model.tensors[i];
    if (tensor.layer >= 0) {
      of_layer[static_cast<size_t>(tensor.layer)].push_back(i);
    } else if (tensor.component == Component::kEmbedToken ||
               tensor.component == Component::kEmbedPosition) {
      before += TensorLine(tensor, schemes[i]);
    }
  }
  for (const std::vector<size_t>& tensors : of_layer) {
    const Digest path = Digest::Of(before);
    before = path.hex() + "\n";
    for (const size_t i : tensors) {
      if (schemes[i]) {
        schemes[i]->calibration_path = ShortDigest(path);
      }
      before += TensorLine(model.tensors[i], schemes[i]);
    }
  }
}

}  // namespace

bool Configuration::baseline() const {
  return std::none_of(schemes.begin(), schemes.end(),
                      [](const auto& scheme) { return scheme.has_value(); });
}

bool InScope(Scope scope, const TensorDescription& tensor) {
  const bool weight = IsWeightNamed(tensor);
  switch (scope) {
    case Scope::kLinear:
      return IsLinear(tensor.component) && !tensor.bias;
    case Scope::kP5Weights:
      return weight;
    case Scope::kP5All:
      return true;
    case Scope::kP5Final:  // in OPT every block has a final_layer_norm
      return weight && !NameHas(tensor, "ln_f") &&
             !NameHas(tensor, "final_layer_norm");
    case Scope::kGpu: {
      const std::string lower = absl::AsciiStrToLower(tensor.name);
      return weight && !absl::StrContains(lower, "ln") &&
             !absl::StrContains(lower, "norm") &&
             !absl::StrContains(lower, "bias");
    }
    case Scope::kGpu001:  // takes Qwen3's q_norm and k_norm
      return weight && NameHas(tensor, "model.layers.") &&
             !NameHas(tensor, "bias") && !NameHas(tensor, "layernorm");
    case Scope::kFairnessCli:
      return weight && !NameHas(tensor, "ln_f");
  }
  return false;
}

absl::StatusOr<Configuration> MakeConfiguration(const ModelDescription& model,
                                                const Quantizer& quantizer,
                                                const LayerSet& layer_set,
                                                Compute compute) {
  QSWEEP_ASSIGN_OR_RETURN(ResolvedLayerSet resolved,
                          ResolveLayerSet(layer_set, model));
  Configuration configuration;
  configuration.compute = compute;
  configuration.schemes.resize(model.tensors.size());
  bool scope_empty = true;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    if (!InScope(quantizer.scope, model.tensors[i])) {
      continue;
    }
    scope_empty = false;
    const ResolvedLayerSet::TensorChoice& choice = resolved.tensors[i];
    if (choice.choice == Choice::kProtected) {
      continue;
    }
    Scheme scheme = quantizer.scheme;
    if (choice.choice == Choice::kBits) {
      scheme.bits = choice.bits;
    }
    if (IsWeightNamed(model.tensors[i])) {
      scheme.kept_millionths = resolved.kept_millionths;
    }
    QSWEEP_RETURN_IF_ERROR(CheckMethodTakes(scheme, model.tensors[i]));
    configuration.schemes[i] = scheme;
  }
  if (scope_empty) {
    return MakeError(
        kNothingToQuantize,
        absl::StrCat("scope ", ScopeName(quantizer.scope), " has no tensor of ",
                     model.name.empty() ? "the model" : model.name, " (",
                     model.family, ")"),
        "", "Use scope=linear.");
  }
  if (configuration.baseline()) {
    return MakeBaseline(model, compute);
  }
  configuration.quantizer_text = FormatQuantizer(quantizer);
  configuration.layer_set_text = std::move(resolved.text);
  QSWEEP_RETURN_IF_ERROR(
      CheckShiftsBoundary(model, quantizer.scheme, configuration.schemes));
  const Shape shape = ShapeOf(model, quantizer, configuration.schemes);
  configuration.unprotected = shape.unprotected;
  configuration.single_layer = shape.single_layer;
  configuration.overhead =
      MeasureOverhead(model, quantizer, resolved, configuration.schemes);
  if (quantizer.scheme.calibration == CalibrationMode::kExact) {
    SetCalibrationPaths(model, configuration.schemes);
  }
  configuration.digest = Digest::Of(CanonicalText(model, configuration));
  return configuration;
}

Configuration MakeBaseline(const ModelDescription& model, Compute compute) {
  Configuration configuration;
  configuration.quantizer_text = "fp";
  configuration.layer_set_text = "all";
  configuration.compute = compute;
  configuration.schemes.resize(model.tensors.size());
  configuration.overhead = {.params = 1, .layers = 1, .kept = 1, .bytes = 0};
  configuration.digest = Digest::Of(CanonicalText(model, configuration));
  return configuration;
}

absl::StatusOr<Configuration> ParseConfiguration(
    const ModelDescription& model, absl::string_view quantizer_text,
    absl::string_view layer_set_text, Compute compute) {
  if (quantizer_text == "fp") {
    return MakeBaseline(model, compute);
  }
  QSWEEP_ASSIGN_OR_RETURN(const Quantizer quantizer,
                          ParseQuantizer(quantizer_text));
  QSWEEP_ASSIGN_OR_RETURN(const LayerSet layer_set,
                          LayerSet::Parse(layer_set_text));
  return MakeConfiguration(model, quantizer, layer_set, compute);
}

namespace {

// What the schemes do not say of a calibration: how texts become tokens.
std::string CalibrationOf(const ModelDescription& model,
                          const Configuration& configuration) {
  const bool calibrated = std::any_of(
      configuration.schemes.begin(), configuration.schemes.end(),
      [](const auto& scheme) { return scheme && scheme->calibrated(); });
  return calibrated ? absl::StrCat("tok=", model.tokenizer_digest.hex())
                    : "none";
}

// All schemes are of one draw.
int ReplicateIn(const Configuration& configuration) {
  for (const std::optional<Scheme>& scheme : configuration.schemes) {
    if (scheme) {
      return scheme->replicate;
    }
  }
  return 0;
}

}  // namespace

std::string CanonicalText(const ModelDescription& model,
                          const Configuration& configuration) {
  std::string text =
      absl::StrCat("qsweep-configuration 1\n", "model=", model.digest.hex(),
                   "\n", "compute=", ComputeName(configuration.compute), "\n",
                   "replicate=", ReplicateIn(configuration), "\n",
                   "calibration=", CalibrationOf(model, configuration), "\n");
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    text += TensorLine(model.tensors[i], configuration.schemes[i]);
  }
  return text;
}

absl::StatusOr<std::string> EvaluationText(absl::string_view eval,
                                           const Digest& tokenizer_digest,
                                           int max_tokens) {
  for (const KnownEvaluation& known : kEvaluations) {
    if (eval == known.name) {
      return absl::StrCat(
          eval, "@", known.version, ";tok=", tokenizer_digest.hex(),
          max_tokens > 0 ? absl::StrCat(";max_tokens=", max_tokens) : "");
    }
  }
  return MakeError(
      kUnknownEvaluation,
      absl::StrCat("there is no evaluation \"", eval, "\" (this version has ",
                   absl::StrJoin(EvaluationNames(), ", "), ")"),
      "", DidYouMeanHint(eval, EvaluationNames()));
}

std::vector<std::string> EvaluationNames() {
  std::vector<std::string> names;
  for (const KnownEvaluation& known : kEvaluations) {
    names.emplace_back(known.name);
  }
  return names;
}

}  // namespace qsweep
