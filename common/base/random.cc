#include "common/base/random.h"

#include <openssl/rand.h>

#include "common/base/check.h"

namespace qsweep {

uint64_t Random::Next() {
  state_ += 0x9e3779b97f4a7c15;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

uint64_t Random::Below(uint64_t bound) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>((static_cast<Wide>(Next()) * bound) >> 64);
}

double Random::Uniform() {
  return static_cast<double>(Next() >> 11) * 0x1.0p-53;
}

std::string SecureRandomBytes(int size) {
  std::string bytes(static_cast<size_t>(size), '\0');
  QSWEEP_CHECK(
      RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), size) == 1);
  return bytes;
}

}  // namespace qsweep
