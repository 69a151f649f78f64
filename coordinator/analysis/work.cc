#include "coordinator/analysis/work.h"

namespace qsweep::analysis {

void ForEachPart(const Work& work, size_t count, const Work::Part& part) {
  const auto unless_stopped = [&](size_t i) {
    if (!work.stopped()) {
      part(i);
    }
  };
  if (work.for_each) {
    work.for_each(count, unless_stopped);
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    unless_stopped(i);
  }
}

}  // namespace qsweep::analysis
