#ifndef QSWEEP_COORDINATOR_SERVICE_PARALLEL_FOR_H_
#define QSWEEP_COORDINATOR_SERVICE_PARALLEL_FOR_H_

#include <cstddef>
#include <functional>

namespace qsweep {

// Calls part(i) once for each i of [0, count), on this thread and on helpers
// that end with the call: as many as the machine has cores, at most 7.
void ParallelFor(size_t count, const std::function<void(size_t)>& part);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_PARALLEL_FOR_H_
