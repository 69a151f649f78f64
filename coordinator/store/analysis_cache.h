#ifndef QSWEEP_COORDINATOR_STORE_ANALYSIS_CACHE_H_
#define QSWEEP_COORDINATOR_STORE_ANALYSIS_CACHE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/ids.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep {

// Computed results of jobs, in a file of their own beside the coordinator's:
// a cache that may be deleted at any time. What is found under results_v1 is
// what was saved last for each job. Thread-safe.
class AnalysisCache {
 public:
  // The path of the file in a coordinator's directory.
  static std::string Path(const std::string& directory);

  // Creates the file when there is none, and again when it is damaged or of
  // another version. Errors as Database::Open.
  static absl::StatusOr<std::unique_ptr<AnalysisCache>> Open(
      const std::string& path);
  virtual ~AnalysisCache() = default;

  // The response saved for the job under `key`, if it is the last. key: digest
  // of the rows, and what else the numbers depend on.
  virtual absl::StatusOr<std::optional<v1::GetResultsResponse>> Find(
      JobNumber job, absl::string_view key) = 0;

  // Whether anything is saved for the job, under whatever key.
  virtual absl::StatusOr<bool> Has(JobNumber job) = 0;

  // The jobs that something is saved for.
  virtual absl::StatusOr<std::vector<JobNumber>> Jobs() = 0;

  // Forgets what is saved for the job; how many bytes that frees. The file
  // keeps its size; what is saved next fills it.
  virtual absl::StatusOr<int64_t> Drop(JobNumber job) = 0;

  // What the file holds, bytes: its size less what was freed.
  virtual absl::StatusOr<int64_t> BytesHeld() = 0;

  // Replaces what is saved for the job.
  virtual absl::Status Save(JobNumber job, absl::string_view key,
                            const v1::GetResultsResponse& response) = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_ANALYSIS_CACHE_H_
