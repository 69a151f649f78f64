#include "worker/kernels/kept_weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>

#include "common/base/check.h"

namespace qsweep::kernels {
namespace {

constexpr size_t kWordBits = 64;

}  // namespace

KeptWeights::KeptWeights(std::span<const float> weights, float from)
    : places_((weights.size() + kWordBits - 1) / kWordBits) {
  size_t kept = 0;
  for (size_t word = 0; word < places_.size(); ++word) {
    const size_t first = word * kWordBits;
    const size_t count = std::min(kWordBits, weights.size() - first);
    for (size_t i = 0; i < count; ++i) {
      places_[word] |= uint64_t{std::fabs(weights[first + i]) >= from} << i;
    }
    kept += static_cast<size_t>(std::popcount(places_[word]));
  }
  values_.reserve(kept);
  for (size_t word = 0; word < places_.size(); ++word) {
    for (uint64_t bits = places_[word]; bits != 0; bits &= bits - 1) {
      values_.push_back(weights[word * kWordBits +
                                static_cast<size_t>(std::countr_zero(bits))]);
    }
  }
}

void KeptWeights::Restore(std::span<float> out) const {
  QSWEEP_CHECK((out.size() + kWordBits - 1) / kWordBits == places_.size());
  auto next = values_.begin();
  for (size_t word = 0; word < places_.size(); ++word) {
    for (uint64_t bits = places_[word]; bits != 0; bits &= bits - 1) {
      out[word * kWordBits + static_cast<size_t>(std::countr_zero(bits))] =
          *next++;
    }
  }
}

}  // namespace qsweep::kernels
