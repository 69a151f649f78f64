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

// Tensors that read the same share a Hessian: the component that stands for
// them.
Component InputOf(Component component) {
  switch (component) {
    case Component::kK:
    case Component::kV:
      return Component::kQ;
    case Component::kGate:
      return Component::kUp;
    default:
      return component;
  }
}

// Whether the bit was not set yet.
bool SetBit(uint32_t& bits, Component component) {
  const uint32_t bit = uint32_t{1} << static_cast<int>(component);
  const bool fresh = (bits & bit) == 0;
  bits |= bit;
  return fresh;
}

}  // namespace

// GPTQ: one way of the texts through the tensor, H = X^T X, its factor, and
// every row rounded by it (worker/kernels/gptq.h). AWQ: its ways alone.
double CalibrationCost::FlopsOf(const TensorDescription& tensor,
                                const Scheme& scheme, double tokens,
                                Counted& counted) const {
  const auto elements = static_cast<double>(tensor.num_elements());
  const auto inputs = static_cast<double>(tensor.shape.back());
  const double pass = 2 * elements * tokens;
  if (scheme.method == Method::kAwq) {
    return kAwqPasses * pass;
  }
  const double hessian =
      SetBit(counted.inputs, InputOf(tensor.component))
          ? inputs * inputs * (2 * tokens + kGptqSlowness * inputs / 3)
          : 0;
  return pass + hessian + kGptqSlowness * elements * inputs;
}

double CalibrationCost::Add(const Configuration& configuration,
                            const CalibrationTokenCounts& tokens) {
  QSWEEP_CHECK(configuration.schemes.size() == model_.tensors.size());
  if (!configurations_.insert(&configuration).second) {
    return 0;
  }
  const size_t quantizer = absl::HashOf(configuration.quantizer_text);
  std::optional<Group> group;  // of the tensor before
  Counted* counted = nullptr;
  double flops = 0;
  for (size_t t = 0; t < configuration.schemes.size(); ++t) {
    const std::optional<Scheme>& scheme = configuration.schemes[t];
    const TensorDescription& tensor = model_.tensors[t];
    if (!scheme || !scheme->calibrated()) {
      continue;
    }
    const auto found = tokens.find(scheme->calibration_texts);
    if (found == tokens.end()) {
      continue;
    }
    const Group own(quantizer, tensor.layer, scheme->bits,
                    scheme->calibration_path);
    if (group != own) {
      group = own;
      counted = &counted_[own];
    }
    if (SetBit(counted->components, tensor.component)) {
      flops += FlopsOf(tensor, *scheme, found->second, *counted);
    }
  }
  return flops;
}

}  // namespace qsweep
