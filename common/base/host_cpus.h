#ifndef QSWEEP_COMMON_BASE_HOST_CPUS_H_
#define QSWEEP_COMMON_BASE_HOST_CPUS_H_

#include <string>

namespace qsweep {

// CPUs that the calling thread may keep busy, at least 1: those of its affinity
// mask, or fewer where a control group of the process, or one above it that can
// be seen, has quota for less (version 2: cpu.max; version 1:
// cpu.cfs_quota_us); half a CPU counts as one. More threads would be stopped
// for the rest of each period. Any thread.
//
// root: before /proc and every path in it; other than "" in tests.
int AvailableHostCpus(const std::string& root = "");

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_HOST_CPUS_H_
