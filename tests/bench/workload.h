#ifndef QSWEEP_TESTS_BENCH_WORKLOAD_H_
#define QSWEEP_TESTS_BENCH_WORKLOAD_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/rpc/coordinator_client.h"
#include "qsweep/v1/job.pb.h"
#include "qsweep/v1/task.pb.h"

namespace qsweep::bench {

// What a simulated device says it computes; task sizes follow from it.
inline constexpr double kGflops = 60;

// Jobs of a made-up model with six layers on a made-up corpus of one language:
// each document is a task of its own.
enum class Sweep {
  kLayers,  // baseline, "none", each layer: 8 rows a task, results of 600 bytes
  kPair,    // baseline and one configuration: 2 rows a task
};
int64_t RowsPerTask(Sweep sweep);

// `--task-seconds` for a coordinator that makes one task of each document of
// such a job. Settings that do not fit make SubmitTasks fail.
double TaskSecondsFor(Sweep sweep);

// Stores a corpus of `documents` texts under `name`, so that jobs can be
// submitted on it. Errors: the coordinator's.
absl::Status AddCorpus(CoordinatorClient& client, const std::string& name,
                       int64_t documents);

struct Submitted {
  std::string job;  // selector
  int64_t tasks = 0;
  int64_t measurements = 0;
  double seconds = 0;  // of the SubmitJob call
};
// Submits a job on a corpus with so many documents, in one call. FAILED_
// PRECONDITION: the coordinator planned another number of tasks.
absl::StatusOr<Submitted> SubmitTasks(CoordinatorClient& client, Sweep sweep,
                                      const std::string& corpus,
                                      int64_t documents,
                                      v1::Reuse reuse = v1::REUSE_AUTO);

// A result that fits the task; its values follow from the digests.
v1::TaskResult MakeResult(const v1::TaskSpec& spec);

}  // namespace qsweep::bench

#endif  // QSWEEP_TESTS_BENCH_WORKLOAD_H_
