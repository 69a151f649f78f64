#ifndef QSWEEP_TESTS_E2E_SOAK_H_
#define QSWEEP_TESTS_E2E_SOAK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include <sys/types.h>

namespace qsweep::testing {

// What a coordinator holds.
struct ResourceSample {
  absl::Duration at;  // since the start
  int64_t rss_bytes = 0;
  int64_t wal_bytes = 0;
  int64_t descriptors = 0;
};
// By /proc, and the file's size. A process that is gone has zeros.
ResourceSample SampleResources(pid_t pid, const std::string& database_path);

// What samples say, the first quarter, in which caches fill, left out.
struct SoakVerdict {
  double rss_mib_per_hour = 0;  // least squares
  double descriptors_per_hour = 0;
  int64_t wal_bytes_max = 0;
  // Of the last sample, above a new process with the same database: what is
  // held without need.
  int64_t rss_bytes_above_new = 0;
  std::vector<std::string> breaches;  // empty: passed
};
// rss_of_new: of a coordinator started on the same database under the same
// load.
SoakVerdict JudgeSoak(const std::vector<ResourceSample>& samples,
                      int64_t rss_of_new);

struct SoakOptions {
  uint64_t seed = 1;
  absl::Duration duration = absl::Minutes(20);
};

// The cluster of KillRounds under gentle faults, which leave the coordinator
// alone. Prints a table and the verdict. Failures are test failures.
void RunSoak(const SoakOptions& options);

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_E2E_SOAK_H_
