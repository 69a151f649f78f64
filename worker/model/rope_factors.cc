#include "worker/model/rope_factors.h"

#include <cmath>
#include <numbers>

namespace qsweep {

std::vector<double> Llama3RopeFactors(const Llama3RopeScaling& scaling,
                                      double rope_theta, int head_dim) {
  std::vector<double> factors;
  for (int i = 0; i < head_dim / 2; ++i) {
    const double frequency = std::pow(rope_theta, -2.0 * i / head_dim);
    const double wavelength = 2.0 * std::numbers::pi / frequency;
    const double turns = scaling.original_context_length / wavelength;
    if (turns > scaling.high_frequency_factor) {
      factors.push_back(1.0);
    } else if (turns < scaling.low_frequency_factor) {
      factors.push_back(scaling.factor);
    } else {
      const double smooth =
          (turns - scaling.low_frequency_factor) /
          (scaling.high_frequency_factor - scaling.low_frequency_factor);
      factors.push_back(1.0 / ((1.0 - smooth) / scaling.factor + smooth));
    }
  }
  return factors;
}

std::optional<Llama3RopeScaling> RecogniseRopeFactors(
    const StoredTensor& tensor, const ModelConfig& config) {
  constexpr double kTolerance = 1e-4;  // the converter works in fp32
  if (tensor.num_elements() != config.head_dim / 2 ||
      tensor.type != TensorType::kF32) {
    return std::nullopt;
  }
  std::vector<float> stored(static_cast<size_t>(config.head_dim / 2));
  Dequantize(tensor.type, tensor.data, stored);
  for (const double factor : {8.0, 32.0}) {
    const Llama3RopeScaling scaling{.factor = factor};
    const std::vector<double> expected =
        Llama3RopeFactors(scaling, config.rope_theta, config.head_dim);
    bool equal = true;
    for (size_t i = 0; i < stored.size(); ++i) {
      const double error =
          std::abs(static_cast<double>(stored[i]) - expected[i]);
      // Written so that a NaN counts as different.
      equal = equal && error <= kTolerance * expected[i];
    }
    if (equal) {
      return scaling;
    }
  }
  return std::nullopt;
}

}  // namespace qsweep
