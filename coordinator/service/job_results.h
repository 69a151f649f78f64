#ifndef QSWEEP_COORDINATOR_SERVICE_JOB_RESULTS_H_
#define QSWEEP_COORDINATOR_SERVICE_JOB_RESULTS_H_

#include <vector>

#include "absl/status/statusor.h"

#include "coordinator/analysis/panel.h"
#include "coordinator/store/analysis_cache.h"
#include "coordinator/store/reader.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep {

// The panels of a job: one per (model, quantizer, evaluation), each with the
// model's baseline first. Pure.
std::vector<analysis::PanelInput> MakePanels(const JobRows& rows);

// Statistics over the stored rows of a job. Takes up to seconds, less when the
// cache has them: for a reader thread. Errors: the reader's, and
// INVALID_ARGUMENT QS1004 for options.
absl::StatusOr<v1::GetResultsResponse> ComputeResults(
    Reader& reader, AnalysisCache& cache, const v1::JobSummary& job,
    const v1::GetResultsRequest& request);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_JOB_RESULTS_H_
