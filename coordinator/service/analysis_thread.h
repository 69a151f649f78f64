#ifndef QSWEEP_COORDINATOR_SERVICE_ANALYSIS_THREAD_H_
#define QSWEEP_COORDINATOR_SERVICE_ANALYSIS_THREAD_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "coordinator/store/analysis_cache.h"
#include "coordinator/store/read_gate.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep {

// Computes the results of every job that ends, with default options, so that
// results_v1 has them before anybody asks. One thread with a reader of its own:
// neither the loop nor the readers wait for it. Thread-safe.
class AnalysisThread {
 public:
  // directory: the coordinator's; cache and clock outlive it. gate and errors
  // as Reader::Open.
  static absl::StatusOr<std::unique_ptr<AnalysisThread>> Start(
      const std::string& directory, AnalysisCache& cache, const Clock& clock,
      std::shared_ptr<ReadGate> gate = nullptr);

  // As Stop.
  virtual ~AnalysisThread() = default;

  // The job has ended, and its rows are on disk. Does not block.
  virtual void Add(v1::JobSummary job) = 0;

  // Calls `then` once the job is not waited for any more: at once on the
  // caller's thread, else on the thread. Must not block.
  virtual void WhenDone(JobNumber job, std::function<void()> then) = 0;

  // Jobs that have ended and whose results are still to come.
  virtual std::vector<JobNumber> Pending() = 0;

  // Gives up within a fraction of a second; every `then` is called. Once.
  virtual void Stop() = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_ANALYSIS_THREAD_H_
