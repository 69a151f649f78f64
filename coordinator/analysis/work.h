#ifndef QSWEEP_COORDINATOR_ANALYSIS_WORK_H_
#define QSWEEP_COORDINATOR_ANALYSIS_WORK_H_

#include <cstddef>
#include <functional>

namespace qsweep::analysis {

// How a computation is carried out. What it computes does not depend on it: the
// parts are always the same, and so are the bits.
struct Work {
  using Part = std::function<void(size_t)>;

  // Calls part(i) once for each i of [0, count), in any order and on several
  // threads at once, and returns when all have ended. Empty: one after the
  // other, on this thread.
  std::function<void(size_t count, const Part& part)> for_each;
  // Asked every few milliseconds, from every thread; true, for good: give up.
  // Empty: never.
  std::function<bool()> stop;

  bool stopped() const { return stop && stop(); }
};

// Carries the parts out as work says; none begins once it is stopped.
void ForEachPart(const Work& work, size_t count, const Work::Part& part);

}  // namespace qsweep::analysis

#endif  // QSWEEP_COORDINATOR_ANALYSIS_WORK_H_
