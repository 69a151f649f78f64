#ifndef QSWEEP_COORDINATOR_CORE_LISTS_H_
#define QSWEEP_COORDINATOR_CORE_LISTS_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "coordinator/core/decision.h"
#include "coordinator/core/state.h"

namespace qsweep {

// What users are shown of State. Reads only.

// The job a selector means: "12", "last", a name, a UUID or at least 8 hex
// digits of its beginning, "job/<uuid>". A number wins over a name, a name over
// a prefix. NOT_FOUND QS4020; INVALID_ARGUMENT QS4024: it fits several.
absl::StatusOr<JobNumber> ResolveJob(const State& state,
                                     absl::string_view selector);

v1::JobSummary MakeJobSummary(const Job& job);
v1::TaskSummary MakeTaskSummary(const State& state, const Task& task);

// Newest first, 100 for no limit.
v1::ListJobsResponse ListJobs(const State& state,
                              const v1::ListJobsRequest& request);
// By id, 1,000 for no limit. NOT_FOUND QS4020.
absl::StatusOr<v1::ListTasksResponse> ListTasks(
    const State& state, const v1::ListTasksRequest& request);
v1::WorkerSummary MakeWorkerSummary(const Worker& worker, const Now& now);
v1::ListWorkersResponse ListWorkers(const State& state, const Now& now);

// Only jobs whose plan is not whole yet want the task: nobody is shown it.
bool IsBeingPlanned(const State& state, const Task& task);

// Fills the counts of a status.
void CountStatus(const State& state, v1::GetStatusResponse& response);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_LISTS_H_
