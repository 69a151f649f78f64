#ifndef QSWEEP_COMMON_BASE_STOPPED_H_
#define QSWEEP_COMMON_BASE_STOPPED_H_

#include <functional>

namespace qsweep {

// Asked now and then by what takes long: whether to give up. Cheap, and called
// on the thread that works. Empty: never.
using Stopped = std::function<bool()>;

inline bool IsStopped(const Stopped& stopped) { return stopped && stopped(); }

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_STOPPED_H_
