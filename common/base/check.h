#ifndef QSWEEP_COMMON_BASE_CHECK_H_
#define QSWEEP_COMMON_BASE_CHECK_H_

namespace qsweep {

// Prints the condition and its place on stderr and aborts.
[[noreturn]] void CheckFailed(const char* file, int line,
                              const char* condition);

}  // namespace qsweep

// For what cannot happen unless qsweep has a defect. Stays on in release
// builds.
#define QSWEEP_CHECK(condition)                              \
  do {                                                       \
    if (!(condition)) {                                      \
      ::qsweep::CheckFailed(__FILE__, __LINE__, #condition); \
    }                                                        \
  } while (false)

#endif  // QSWEEP_COMMON_BASE_CHECK_H_
