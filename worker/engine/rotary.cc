#include "worker/engine/rotary.h"

#include <cmath>
#include <cstddef>
#include <numbers>

namespace qsweep {
namespace {

// Stretches long wavelengths, keeps short ones, blends in between.
float ScaleFrequency(float frequency, const Llama3RopeScaling& scaling) {
  const double wavelength =
      2 * std::numbers::pi / static_cast<double>(frequency);
  const double old = scaling.original_context_length;
  if (wavelength > old / scaling.low_frequency_factor) {
    return static_cast<float>(static_cast<double>(frequency) / scaling.factor);
  }
  if (wavelength < old / scaling.high_frequency_factor) {
    return frequency;
  }
  const double smooth =
      (old / wavelength - scaling.low_frequency_factor) /
      (scaling.high_frequency_factor - scaling.low_frequency_factor);
  return static_cast<float>((1 - smooth) * static_cast<double>(frequency) /
                                scaling.factor +
                            smooth * static_cast<double>(frequency));
}

}  // namespace

RotaryTable::RotaryTable(const ModelConfig& config, int64_t positions)
    : half_(config.head_dim / 2) {
  std::vector<float> frequencies;
  for (int64_t i = 0; i < half_; ++i) {
    const double exponent =
        static_cast<double>(2 * i) / static_cast<double>(config.head_dim);
    const auto frequency =
        static_cast<float>(1.0 / std::pow(config.rope_theta, exponent));
    frequencies.push_back(config.rope_scaling
                              ? ScaleFrequency(frequency, *config.rope_scaling)
                              : frequency);
  }
  const auto size = static_cast<size_t>(positions * half_);
  cosines_.reserve(size);
  sines_.reserve(size);
  for (int64_t position = 0; position < positions; ++position) {
    for (const float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      cosines_.push_back(
          static_cast<float>(std::cos(static_cast<double>(angle))));
      sines_.push_back(
          static_cast<float>(std::sin(static_cast<double>(angle))));
    }
  }
}

}  // namespace qsweep
