#ifndef QSWEEP_WORKER_KERNELS_LOOPS_REGISTERS_H_
#define QSWEEP_WORKER_KERNELS_LOOPS_REGISTERS_H_

// As many numbers as a register of the CPU that is compiled for holds: for
// loops whose results do not depend on that. Internal linkage, as vector.h.

#include <cstdint>

namespace qsweep::kernels {
namespace {

#if defined(__AVX512F__)
constexpr int64_t kRegisterBytes = 64;
#elif defined(__AVX2__)
constexpr int64_t kRegisterBytes = 32;
#else
constexpr int64_t kRegisterBytes = 16;
#endif

template <typename T>
struct Wide {
  static constexpr int64_t kLanes = kRegisterBytes / sizeof(T);
  typedef T Vec __attribute__((vector_size(kRegisterBytes)));
  typedef T Somewhere
      __attribute__((vector_size(kRegisterBytes), aligned(sizeof(T)),
                     may_alias));  // in memory
  static Vec Load(const T* p) { return *reinterpret_cast<const Somewhere*>(p); }
  static void Store(T* p, Vec v) { *reinterpret_cast<Somewhere*>(p) = v; }
  static Vec All(T x) { return x - Vec{}; }  // keeps the sign of a zero
};

}  // namespace
}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_LOOPS_REGISTERS_H_
