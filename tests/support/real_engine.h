#ifndef QSWEEP_TESTS_SUPPORT_REAL_ENGINE_H_
#define QSWEEP_TESTS_SUPPORT_REAL_ENGINE_H_

#include <gtest/gtest.h>

// Skips the rest of a test or SetUp when there is no qengine. Its words are
// those deploy/report_skipped.py lets pass. QSWEEP_HAS_ENGINE is the build's.
#define QSWEEP_SKIP_WITHOUT_ENGINE()                                  \
  if (!QSWEEP_HAS_ENGINE) {                                           \
    GTEST_SKIP() << "not in this build: qengine needs libtorch, and " \
                    "QSWEEP_TORCH is OFF; preset release runs it";    \
  }                                                                   \
  static_assert(true)

#endif  // QSWEEP_TESTS_SUPPORT_REAL_ENGINE_H_
