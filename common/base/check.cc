#include "common/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace qsweep {

void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "%s:%d: QS9001: check failed: %s\n", file, line,
               condition);
  std::abort();
}

}  // namespace qsweep
