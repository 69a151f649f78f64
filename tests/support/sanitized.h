#ifndef QSWEEP_TESTS_SUPPORT_SANITIZED_H_
#define QSWEEP_TESTS_SUPPORT_SANITIZED_H_

// Of the sanitizers' runtimes; null where none is linked. The compiler's macro
// for ThreadSanitizer is hidden from all (deploy/cmake/QsweepTargets.cmake).
extern "C" {
__attribute__((weak)) void __asan_init();
__attribute__((weak)) void __tsan_init();
}

namespace qsweep::testing {

// Whether a sanitizer keeps what is freed, a shadow of all, and looks at every
// byte that libraries compare: a process then takes more memory and time than
// the product asks for.
inline bool Sanitized() {
  return __asan_init != nullptr || __tsan_init != nullptr;
}

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_SANITIZED_H_
