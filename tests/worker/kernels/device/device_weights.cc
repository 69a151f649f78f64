#include "tests/worker/kernels/device/device_weights.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "common/base/random.h"
#include "tests/support/kernel_references.h"

namespace qsweep::testing {

using kernels::FloatType;

namespace {

size_t BytesOf(FloatType type) { return type == FloatType::kFp32 ? 4 : 2; }

// `shift` numbers that nobody looks at, then the weights; little-endian.
std::vector<char> BytesOf(const DeviceWeights& weights, size_t shift) {
  const size_t size = BytesOf(weights.type);
  std::vector<char> bytes((shift + weights.bits.size()) * size);
  for (size_t i = 0; i < weights.bits.size(); ++i) {
    std::memcpy(bytes.data() + (shift + i) * size, &weights.bits[i], size);
  }
  return bytes;
}

}  // namespace

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

DeviceNumbers::DeviceNumbers(const DeviceWeights& weights, size_t shift)
    : type_(weights.type),
      shift_(shift * BytesOf(weights.type)),
      bytes_(BytesOf(weights, shift)) {}

DeviceNumbers::DeviceNumbers(FloatType type, size_t count, size_t shift)
    : type_(type),
      shift_(shift * BytesOf(type)),
      bytes_((shift + count) * BytesOf(type)) {}

std::vector<uint32_t> DeviceNumbers::ReadBits() {
  const std::vector<char> bytes = bytes_.Read();
  std::vector<uint32_t> bits;
  for (size_t at = shift_; at < bytes.size(); at += BytesOf(type_)) {
    uint32_t number = 0;
    std::memcpy(&number, bytes.data() + at, BytesOf(type_));
    bits.push_back(number);
  }
  return bits;
}

int64_t CountMismatches(const WantedCodes& want, const KernelCodes& kernel,
                        const CpuCodes& cpu) {
  int64_t mismatches = 0;
  for (size_t i = 0; i < want.values.size(); ++i) {
    const bool same =
        Encode(kernel.type, want.values[i]) == kernel.value_bits[i] &&
        Encode(FloatType::kFp32, want.values[i]) ==
            std::bit_cast<uint32_t>(cpu.values[i]) &&
        want.codes[i] == kernel.codes[i] && want.codes[i] == cpu.codes[i];
    mismatches += same ? 0 : 1;
  }
  return mismatches;
}

int64_t CountMismatches(const std::vector<double>& want,
                        const std::vector<float>& kernel,
                        const std::vector<float>& cpu) {
  int64_t mismatches = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const uint32_t bits = Encode(FloatType::kFp32, want[i]);
    mismatches += bits == std::bit_cast<uint32_t>(kernel[i]) &&
                          bits == std::bit_cast<uint32_t>(cpu[i])
                      ? 0
                      : 1;
  }
  return mismatches;
}

}  // namespace qsweep::testing
