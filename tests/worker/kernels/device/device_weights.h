#ifndef QSWEEP_TESTS_WORKER_KERNELS_DEVICE_DEVICE_WEIGHTS_H_
#define QSWEEP_TESTS_WORKER_KERNELS_DEVICE_DEVICE_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/support/device_memory.h"
#include "worker/kernels/cuda_types.h"

namespace qsweep::testing {

// What a quantizing kernel reads and writes.
struct FloatTypes {
  kernels::FloatType weights;
  kernels::FloatType out;
};
inline constexpr FloatTypes kFloatTypes[] = {
    {kernels::FloatType::kFp32, kernels::FloatType::kFp32},
    {kernels::FloatType::kFp16, kernels::FloatType::kFp16},
    {kernels::FloatType::kBf16, kernels::FloatType::kBf16},
    {kernels::FloatType::kFp16, kernels::FloatType::kFp32},
    {kernels::FloatType::kBf16, kernels::FloatType::kFp32}};

// Weights as a device buffer holds them.
struct DeviceWeights {
  kernels::FloatType type;
  std::vector<uint32_t> bits;

  std::vector<double> Numbers() const;
  std::vector<float> Floats() const;
};

// Runs of weights of one character each, so that groups of every kind occur:
// plain ones, all zero, one sign, ties, an outlier, subnormal, very large.
DeviceWeights RandomWeights(kernels::FloatType type, int64_t count,
                            uint64_t seed);

// Numbers of a format in device memory, `shift` numbers behind a multiple of
// 256 bytes.
class DeviceNumbers {
 public:
  DeviceNumbers(const DeviceWeights& weights, size_t shift);
  // Filled with bytes that no kernel writes.
  DeviceNumbers(kernels::FloatType type, size_t count, size_t shift);

  void* data() { return bytes_.data() + shift_; }
  std::vector<uint32_t> ReadBits();

 private:
  kernels::FloatType type_;
  size_t shift_;  // bytes
  DeviceArray<char> bytes_;
};

// What a quantizer made of weights: by plain loops, by a kernel, by the CPU.
struct WantedCodes {
  const std::vector<double>& values;
  const std::vector<uint8_t>& codes;
};
struct KernelCodes {
  kernels::FloatType type;
  const std::vector<uint32_t>& value_bits;
  const std::vector<uint8_t>& codes;
};
struct CpuCodes {
  const std::vector<float>& values;
  const std::vector<uint8_t>& codes;
};
// Weights of which the kernel or the CPU has another value or code.
int64_t CountMismatches(const WantedCodes& want, const KernelCodes& kernel,
                        const CpuCodes& cpu);
// Parameters of groups that are not to the bit as wanted in both.
int64_t CountMismatches(const std::vector<double>& want,
                        const std::vector<float>& kernel,
                        const std::vector<float>& cpu);

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_WORKER_KERNELS_DEVICE_DEVICE_WEIGHTS_H_
