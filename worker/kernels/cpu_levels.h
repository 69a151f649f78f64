#ifndef QSWEEP_WORKER_KERNELS_CPU_LEVELS_H_
#define QSWEEP_WORKER_KERNELS_CPU_LEVELS_H_

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace qsweep::kernels {

// Whether this CPU and its system run what is compiled for AVX2, FMA and F16C.
inline bool RunsAvx2Level() {
#if defined(__x86_64__)
  // clang 16 knows no name for F16C.
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
#else
  return false;
#endif
}

// The same of AVX-512, with what every such server CPU has of it (x86-64-v4),
// besides the level before.
inline bool RunsAvx512Level() {
#if defined(__x86_64__)
  return RunsAvx2Level() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_CPU_LEVELS_H_
