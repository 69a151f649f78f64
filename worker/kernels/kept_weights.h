#ifndef QSWEEP_WORKER_KERNELS_KEPT_WEIGHTS_H_
#define QSWEEP_WORKER_KERNELS_KEPT_WEIGHTS_H_

#include <cstdint>
#include <span>
#include <vector>

namespace qsweep::kernels {

// The weights of a tensor whose magnitude is `from` at least, remembered while
// the tensor is rounded, in place or not:
//   const KeptWeights kept(weights, from);
//   FakeQuantize(scheme, weights, rows, cols, out);
//   kept.Restore(out);
// Takes a bit for each weight and the ones that are kept. Immutable.
class KeptWeights {
 public:
  KeptWeights(std::span<const float> weights, float from);

  // Puts them where they were. out: as many as `weights`.
  void Restore(std::span<float> out) const;

 private:
  std::vector<uint64_t> places_;  // a bit each
  std::vector<float> values_;     // in order
};

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_KEPT_WEIGHTS_H_
