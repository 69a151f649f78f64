#ifndef QSWEEP_COORDINATOR_SERVICE_JOB_RESULTS_H_
#define QSWEEP_COORDINATOR_SERVICE_JOB_RESULTS_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"

#include "coordinator/analysis/panel.h"
#include "coordinator/store/analysis_cache.h"
#include "coordinator/store/reader.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep {

// The panels of a job: one per (model, quantizer, evaluation), each with the
// model's baseline first; a quantizer's replicates share one. Pure.
std::vector<analysis::PanelInput> MakePanels(const JobRows& rows);

// Statistics over the stored rows of a job, on all cores. Takes up to seconds,
// less when the cache has them: for a reader thread. stop: asked often, from
// several threads; true: give up. Errors: the reader's, INVALID_ARGUMENT QS1004
// for options, CANCELLED as `stop` asked.
absl::StatusOr<v1::GetResultsResponse> ComputeResults(
    Reader& reader, AnalysisCache& cache, const v1::JobSummary& job,
    const v1::GetResultsRequest& request, const std::function<bool()>& stop);

// Drops what the cache has of jobs that were deleted, and logs how many. How
// many bytes that frees. Errors: the reader's and the cache's.
absl::StatusOr<int64_t> DropResultsOfDeletedJobs(Reader& reader,
                                                 AnalysisCache& cache);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_JOB_RESULTS_H_
