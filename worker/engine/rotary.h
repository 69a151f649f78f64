#ifndef QSWEEP_WORKER_ENGINE_ROTARY_H_
#define QSWEEP_WORKER_ENGINE_ROTARY_H_

#include <cstdint>
#include <vector>

#include "worker/model/config.h"

namespace qsweep {

// Cosines and sines of the rotary embedding, a row of head_dim / 2 per
// position, computed as transformers does: frequencies and angles in fp32.
// Immutable.
class RotaryTable {
 public:
  RotaryTable() = default;
  RotaryTable(const ModelConfig& config, int64_t positions);

  const float* cosines(int64_t position) const {
    return cosines_.data() + position * half_;
  }
  const float* sines(int64_t position) const {
    return sines_.data() + position * half_;
  }

 private:
  int64_t half_ = 0;
  std::vector<float> cosines_;  // [positions, head_dim / 2]
  std::vector<float> sines_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_ROTARY_H_
