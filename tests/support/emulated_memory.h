#ifndef QSWEEP_TESTS_SUPPORT_EMULATED_MEMORY_H_
#define QSWEEP_TESTS_SUPPORT_EMULATED_MEMORY_H_

#include <cstdint>

namespace qsweep::testing {

// worker/engine/cuda_memory.h over the host emulation, for code of the engine
// that calls kernels and no libtorch. Allocations above so many bytes at a time
// fail as a full GPU's do; 0: none.
void LimitEmulatedMemory(int64_t bytes);

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_EMULATED_MEMORY_H_
