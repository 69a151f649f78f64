#ifndef QSWEEP_COMMON_BASE_RANDOM_H_
#define QSWEEP_COMMON_BASE_RANDOM_H_

#include <cstdint>
#include <string>

namespace qsweep {

// SplitMix64 (Steele, Lea, Flood 2014): one 64-bit state, every seed good, the
// same stream on every machine and in the NumPy oracles. Not for secrets.
// Single-thread.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  // Uniform over all 64-bit values.
  uint64_t Next();
  // Uniform in [0, bound), bound > 0: the high 64 bits of Next() * bound. The
  // bias is below bound / 2^64.
  uint64_t Below(uint64_t bound);
  // Uniform in [0, 1): the high 53 bits of Next().
  double Uniform();

 private:
  uint64_t state_;
};

// Bytes from the operating system's generator, for ids and secrets.
std::string SecureRandomBytes(int size);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_RANDOM_H_
