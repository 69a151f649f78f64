#ifndef QSWEEP_WORKER_KERNELS_PARALLEL_FOR_H_
#define QSWEEP_WORKER_KERNELS_PARALLEL_FOR_H_

#include <cstdint>
#include <functional>

namespace qsweep::kernels {

// Calls item(0 .. count - 1), each once, in any order and on any threads, and
// returns true when all are done; false: it was told to stop, and some are not.
using ParallelFor = std::function<bool(
    int64_t count, const std::function<void(int64_t)>& item)>;
// One after another.
bool InSequence(int64_t count, const std::function<void(int64_t)>& item);

// Weights of an item, more or less: some milliseconds of the slowest method.
inline constexpr int64_t kItemWeights = int64_t{1} << 16;

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_PARALLEL_FOR_H_
