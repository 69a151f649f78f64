#include "tests/worker/kernels/device/device_weights.h"

#include <cmath>

#include "common/base/random.h"
#include "tests/support/kernel_references.h"

namespace qsweep::testing {

using kernels::FloatType;

std::vector<double> DeviceWeights::Numbers() const {
  std::vector<double> numbers;
  for (const uint32_t b : bits) {
    numbers.push_back(Decode(type, b));
  }
  return numbers;
}

std::vector<float> DeviceWeights::Floats() const {
  const std::vector<double> numbers = Numbers();
  return {numbers.begin(), numbers.end()};
}

DeviceWeights RandomWeights(FloatType type, int64_t count, uint64_t seed) {
  Random random(seed);
  DeviceWeights weights{type, {}};
  const double tiny = type == FloatType::kFp16 ? 3e-6 : 3e-38;
  const double huge = type == FloatType::kFp16 ? 6e4 : 3e38;
  uint64_t character = 0;
  int64_t run_end = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (i == run_end) {
      character = random.Below(24);
      run_end = i + 1 + static_cast<int64_t>(random.Below(400));
    }
    const double u = random.Uniform() + random.Uniform() - 1;
    double w = 0.05 * u;
    switch (character) {
      case 0:
        w = random.Below(2) == 0 ? 0.0 : -0.0;
        break;
      case 1:
        w = std::fabs(w);
        break;
      case 2:
        w = -std::fabs(w);
        break;
      case 3:  // halves of a scale of 1/16
        w = (static_cast<double>(random.Below(15)) - 7) / 32;
        break;
      case 4:
        w = random.Below(100) == 0 ? 40 * u : w;
        break;
      case 5:
        w = tiny * u;
        break;
      case 6:
        w = random.Below(50) == 0 ? huge * u : w;
        break;
      default:
        break;
    }
    weights.bits.push_back(Encode(type, w));
  }
  return weights;
}

}  // namespace qsweep::testing
