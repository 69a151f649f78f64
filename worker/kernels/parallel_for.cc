#include "worker/kernels/parallel_for.h"

namespace qsweep::kernels {

bool InSequence(int64_t count, const std::function<void(int64_t)>& item) {
  for (int64_t i = 0; i < count; ++i) {
    item(i);
  }
  return true;
}

}  // namespace qsweep::kernels
