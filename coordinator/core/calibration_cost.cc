#include "coordinator/core/calibration_cost.h"

#include <algorithm>
#include <optional>

#include "absl/hash/hash.h"

#include "common/base/check.h"
#include "common/job/quantizer.h"

namespace qsweep {
namespace {

// How often AWQ's search sends the texts through a layer, by measurement: 86
// and 105 times.
constexpr double kAwqPasses = 90;
// Factoring a Hessian and rounding by it reach a quarter of the rate of large
// products.
constexpr double kGptqSlowness = 4;

// Whether the tensor's Hessian is another tensor's, which reads the same.
bool SharesInputs(const TensorDescription& tensor) {
  return tensor.component == Component::kK ||
         tensor.component == Component::kV ||
         tensor.component == Component::kGate;
}

// GPTQ: one way of the texts through the tensor, H = X^T X, its factor, and
// every row rounded by it (worker/kernels/gptq.h). AWQ: its ways alone.
double FlopsOf(const TensorDescription& tensor, const Scheme& scheme,
               double tokens) {
  const auto elements = static_cast<double>(tensor.num_elements());
  const auto inputs =
      static_cast<double>(std::max<int64_t>(tensor.shape.back(), 1));
  const double pass = 2 * elements * tokens;
  if (scheme.method == Method::kAwq) {
    return kAwqPasses * pass;
  }
  const double hessian =
      SharesInputs(tensor)
          ? 0
          : inputs * inputs * (2 * tokens + kGptqSlowness * inputs / 3);
  return pass + hessian + kGptqSlowness * elements * inputs;
}

}  // namespace

double CalibrationCost::Add(const Configuration& configuration,
                            const CalibrationTokens& tokens) {
  QSWEEP_CHECK(configuration.schemes.size() == model_.tensors.size());
  const size_t quantizer = absl::HashOf(configuration.quantizer_text);
  double flops = 0;
  for (size_t t = 0; t < configuration.schemes.size(); ++t) {
    const std::optional<Scheme>& scheme = configuration.schemes[t];
    if (!scheme || !scheme->calibrated()) {
      continue;
    }
    const auto found = tokens.find(scheme->calibration_texts);
    if (found != tokens.end() &&
        known_.emplace(quantizer, t, scheme->bits, scheme->calibration_path)
            .second) {
      flops += FlopsOf(model_.tensors[t], *scheme, found->second);
    }
  }
  return flops;
}

}  // namespace qsweep
