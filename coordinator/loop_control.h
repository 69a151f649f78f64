#ifndef QSWEEP_COORDINATOR_LOOP_CONTROL_H_
#define QSWEEP_COORDINATOR_LOOP_CONTROL_H_

#include <memory>

#include "absl/status/statusor.h"

#include "coordinator/loop_core.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep {

// Calls that change or question what is there, run on the loop's thread as
// those of loop_calls.h.

absl::StatusOr<v1::CancelJobResponse> RunCancel(
    LoopCore& core, const v1::CancelJobRequest& request);
// ahead: as Loop::Post's.
absl::StatusOr<v1::ControlJobResponse> RunControlJob(
    LoopCore& core, const v1::ControlJobRequest& request,
    std::shared_ptr<const PreparedSubmit> ahead);
absl::StatusOr<v1::ExplainTaskResponse> RunExplainTask(
    LoopCore& core, const v1::ExplainTaskRequest& request);
absl::StatusOr<v1::ControlWorkerResponse> RunControlWorker(
    LoopCore& core, const v1::ControlWorkerRequest& request);

absl::StatusOr<v1::CollectGarbageResponse> RunCollectGarbage(
    LoopCore& core, const v1::CollectGarbageRequest& request);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_LOOP_CONTROL_H_
