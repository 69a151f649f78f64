#ifndef QSWEEP_COMMON_JOB_CONFIGURATION_H_
#define QSWEEP_COMMON_JOB_CONFIGURATION_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "common/base/digest.h"
#include "common/job/layer_set.h"
#include "common/job/model_description.h"
#include "common/job/quantizer.h"

namespace qsweep {

// What one configuration protects, as shares of the model; quantization.md 4.
struct Overhead {
  double params = 0;  // protected / total parameters
  double layers = 0;  // protected layers / layers
  double kept = 0;    // all unquantized / total parameters
  double bytes =
      0;  // sum over protected of n(16 - b_eff) / sum over all of stored bits
};

// One quantizer and one layer set on one model. Free of proto; the engine
// quantizes by `schemes`.
struct Configuration {
  std::string quantizer_text;  // FormatQuantizer; "fp" for the baseline
  std::string layer_set_text;  // resolved on the model: "L0+L22"; "all" for the
                               // baseline
  std::vector<std::optional<Scheme>>
      schemes;  // parallel to model.tensors; nothing: kept as is
  std::optional<int>
      single_layer;  // when exactly one whole layer is protected, nothing else
  Overhead overhead;
  Digest digest;  // SHA-256 of CanonicalText

  bool baseline() const;  // no tensor has a scheme
};

// Expands quantizer + layer set over the model's tensors. A set that protects
// the whole scope is the baseline, whatever the quantizer. INVALID_ARGUMENT:
// QS1011, QS1012, QS1050 (scope empty on this model), QS1043 (group does not
// divide where the method needs it).
absl::StatusOr<Configuration> MakeConfiguration(const ModelDescription& model,
                                                const Quantizer& quantizer,
                                                const LayerSet& layer_set,
                                                Compute compute);

// The configuration that quantizes nothing.
Configuration MakeBaseline(const ModelDescription& model, Compute compute);

// What the digest is of: model digest, compute, replicate, calibration, then
// one line per tensor class in (layer, component, bias) order, with every
// default written out. Format: docs/reference/ file-formats.md; golden vectors
// in tests/golden/.
std::string CanonicalText(const ModelDescription& model,
                          const Configuration& configuration, Compute compute,
                          int replicate);

// "aligned@1;tok=<hex>[;max_tokens=N]": the key of an evaluation. eval:
// "aligned" or "hf-text". INVALID_ARGUMENT QS1052 with a suggestion.
absl::StatusOr<std::string> EvaluationText(absl::string_view eval,
                                           const Digest& tokenizer_digest,
                                           int max_tokens);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_CONFIGURATION_H_
