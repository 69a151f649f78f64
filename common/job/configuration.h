#ifndef QSWEEP_COMMON_JOB_CONFIGURATION_H_
#define QSWEEP_COMMON_JOB_CONFIGURATION_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/digest.h"
#include "common/job/layer_set.h"
#include "common/job/model_description.h"
#include "common/job/quantizer.h"

namespace qsweep {

// What one configuration protects, as shares of the model; quantizer scope
// applies: a tensor that would not be quantized anyway is not protected. What a
// layer set keeps by magnitude counts as if all of it were in tensors that are
// quantized, as far as they go: where it is, only the weights say.
struct Overhead {
  double params = 0;  // protected / total parameters
  double layers = 0;  // layers protected as a whole / layers
  double kept = 0;    // all unquantized / total parameters
  // Growth of the stored model: sum over protected of n(16 - b_eff), over the
  // bits of the same quantizer with nothing protected (kept tensors at 16).
  // 0 for the baseline, which has no quantizer.
  double bytes = 0;
};

// One quantizer and one layer set on one model. Free of proto; the engine
// quantizes by `schemes`. Immutable once made.
struct Configuration {
  std::string quantizer_text;  // FormatQuantizer; "fp" for the baseline
  // Resolved on the model: "L0+L22"; "all" for the baseline.
  std::string layer_set_text;
  Compute compute = Compute::kFp32;
  // Parallel to model.tensors; nothing: kept as is.
  std::vector<std::optional<Scheme>> schemes;
  // The next two follow from quantizer and schemes, however the set is written.
  bool unprotected = false;  // all in scope has the quantizer's scheme: none
  // When all in scope of one layer is kept, and all else has that scheme.
  std::optional<int> single_layer;
  Overhead overhead;
  Digest digest;  // SHA-256 of CanonicalText

  bool baseline() const;  // no tensor has a scheme
};

// Whether a quantizer of this scope may touch the tensor. Rules by substrings
// of Hugging Face names, as the earlier work wrote them: docs/reference/
// layer-sets.md.
bool InScope(Scope scope, const TensorDescription& tensor);

// Expands quantizer + layer set over the model's tensors. A set that protects
// the whole scope is the baseline, whatever the quantizer. INVALID_ARGUMENT:
// QS1011, QS1012, QS1013, QS1050 (scope empty on this model), QS1042, QS1043,
// QS1003 (a calibrated method without texts, a checkpoint without digest),
// QS1004 with the field "replicate" (groups so long that it shifts no
// boundary).
absl::StatusOr<Configuration> MakeConfiguration(const ModelDescription& model,
                                                const Quantizer& quantizer,
                                                const LayerSet& layer_set,
                                                Compute compute);

// The configuration that quantizes nothing.
Configuration MakeBaseline(const ModelDescription& model, Compute compute);

// The inverse of the two texts of a Configuration: "fp" is the baseline. Errors
// of ParseQuantizer, LayerSet::Parse and MakeConfiguration.
absl::StatusOr<Configuration> ParseConfiguration(
    const ModelDescription& model, absl::string_view quantizer_text,
    absl::string_view layer_set_text, Compute compute);

// What the digest is of: model digest, compute, replicate, calibration, then a
// line per tensor class in (layer, component, bias) order, with every default
// written out. Format: docs/reference/file-formats.md; golden vectors in
// tests/golden/.
std::string CanonicalText(const ModelDescription& model,
                          const Configuration& configuration);

// "aligned@1;tok=<hex>[;max_tokens=N]": the key of an evaluation. eval:
// "aligned" or "hf-text"; max_tokens 0: the model's context.
// INVALID_ARGUMENT QS1052 with a suggestion.
absl::StatusOr<std::string> EvaluationText(absl::string_view eval,
                                           const Digest& tokenizer_digest,
                                           int max_tokens);

// The evaluations this version has, as specs write them.
std::vector<std::string> EvaluationNames();

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_CONFIGURATION_H_
