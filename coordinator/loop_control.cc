#include "coordinator/loop_control.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "coordinator/core/cancel.h"
#include "coordinator/core/explain.h"
#include "coordinator/core/garbage.h"
#include "coordinator/core/job_control.h"
#include "coordinator/core/lists.h"
#include "coordinator/core/retry.h"
#include "coordinator/core/worker_control.h"
#include "coordinator/loop_calls.h"

namespace qsweep {
namespace {

constexpr uint64_t kDrainDeadlineMaxMs = uint64_t{30} * 24 * 3600 * 1000;

absl::StatusOr<JobNumber> Retry(LoopCore& core, JobNumber number,
                                std::shared_ptr<const PreparedSubmit> ahead) {
  QSWEEP_RETURN_IF_ERROR(core.Flush());
  const Job& job = core.state().job(number);
  if (job.state == v1::JOB_STATE_SUCCEEDED) {
    return number;
  }
  if (!NeedsNewPlan(job)) {
    return Carry(core, DecideRetryTasks(core.state(), number, core.now()));
  }
  std::shared_ptr<const PreparedSubmit> prepared = std::move(ahead);
  if (prepared == nullptr || prepared->job != number) {
    QSWEEP_ASSIGN_OR_RETURN(PreparedSubmit now, PrepareStored(core, number));
    prepared = std::make_shared<const PreparedSubmit>(std::move(now));
  }
  if (!SubmitPlanner(core.state(), *prepared, core.settings(), job).at_once()) {
    core.plans().Replan(core, std::move(prepared), job);
    return number;
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<PanelStatuses> measured,
                          ReadPanelStatuses(core, *prepared));
  return Carry(core, DecideReplan(core.state(), number, *prepared, measured,
                                  core.settings(), core.now()));
}

absl::StatusOr<JobNumber> RunAction(
    LoopCore& core, JobNumber number, const v1::ControlJobRequest& request,
    std::shared_ptr<const PreparedSubmit> ahead) {
  const State& state = core.state();
  switch (request.action()) {
    case v1::JOB_ACTION_PAUSE:
      return Carry(core,
                   DecidePause(state, number, request.reason(), core.now()));
    case v1::JOB_ACTION_RESUME:
      return Carry(core, DecideResume(state, number, core.now()));
    case v1::JOB_ACTION_STOP:
      return Carry(core, DecideStop(state, number, request.reason(),
                                    core.settings(), core.now()));
    case v1::JOB_ACTION_RETRY:
      return Retry(core, number, std::move(ahead));
    case v1::JOB_ACTION_PRIORITY:
      return Carry(
          core, DecidePriority(state, number, request.priority(), core.now()));
    default:
      return MakeError(
          kBadValue,
          absl::StrCat("unknown action ", static_cast<int>(request.action())),
          "action");
  }
}

}  // namespace

absl::StatusOr<v1::CancelJobResponse> RunCancel(
    LoopCore& core, const v1::CancelJobRequest& request) {
  QSWEEP_ASSIGN_OR_RETURN(const JobNumber number,
                          ResolveJob(core.state(), request.job().text()));
  QSWEEP_RETURN_IF_ERROR(CheckDiskHasRoom(core));
  QSWEEP_RETURN_IF_ERROR(
      Carry(core, DecideCancel(core.state(), number, request.reason(),
                               core.settings(), core.now()))
          .status());
  v1::CancelJobResponse response;
  *response.mutable_summary() = MakeJobSummary(core.state().job(number));
  return response;
}

absl::StatusOr<v1::ControlJobResponse> RunControlJob(
    LoopCore& core, const v1::ControlJobRequest& request,
    std::shared_ptr<const PreparedSubmit> ahead) {
  QSWEEP_ASSIGN_OR_RETURN(const JobNumber number,
                          ResolveJob(core.state(), request.job().text()));
  QSWEEP_RETURN_IF_ERROR(CheckDiskHasRoom(core));
  QSWEEP_RETURN_IF_ERROR(
      RunAction(core, number, request, std::move(ahead)).status());
  v1::ControlJobResponse response;
  *response.mutable_summary() = MakeJobSummary(core.state().job(number));
  return response;
}

absl::StatusOr<v1::ExplainTaskResponse> RunExplainTask(
    LoopCore& core, const v1::ExplainTaskRequest& request) {
  const Task* task =
      core.state().FindTask(TaskId(static_cast<int64_t>(request.task_id())));
  if (task == nullptr || IsBeingPlanned(core.state(), *task)) {
    return MakeError(kTaskNotFound, absl::StrCat("no task ", request.task_id()),
                     "task", "List them with 'qctl tasks list'.");
  }
  return ExplainTask(core.state(), *task, core.settings(), core.now());
}

absl::StatusOr<v1::ControlWorkerResponse> RunControlWorker(
    LoopCore& core, const v1::ControlWorkerRequest& request) {
  QSWEEP_ASSIGN_OR_RETURN(const WorkerUuid uuid,
                          ResolveWorker(core.state(), request.worker()));
  QSWEEP_RETURN_IF_ERROR(CheckDiskHasRoom(core));
  WorkerMode mode = WorkerMode::kOpen;
  if (request.action() == v1::WORKER_ACTION_DRAIN) {
    mode = WorkerMode::kDraining;
  } else if (request.action() != v1::WORKER_ACTION_RESUME) {
    return MakeError(
        kBadValue,
        absl::StrCat("unknown action ", static_cast<int>(request.action())),
        "action");
  }
  if (request.deadline_ms() > kDrainDeadlineMaxMs ||
      (request.deadline_ms() > 0 && mode != WorkerMode::kDraining)) {
    return MakeError(kBadValue, "a deadline is of a drain, at most 30 days",
                     "deadline_ms");
  }
  QSWEEP_RETURN_IF_ERROR(
      Carry(core, DecideWorkerMode(
                      core.state(), uuid, mode, request.reason(), core.now(),
                      absl::Milliseconds(
                          static_cast<int64_t>(request.deadline_ms()))))
          .status());
  core.links().MarkDirty(core.state().FindWorker(uuid)->session);
  v1::ControlWorkerResponse response;
  *response.mutable_worker() =
      MakeWorkerSummary(*core.state().FindWorker(uuid), core.now());
  return response;
}

absl::StatusOr<v1::CollectGarbageResponse> RunCollectGarbage(
    LoopCore& core, const v1::CollectGarbageRequest& request) {
  QSWEEP_RETURN_IF_ERROR(CheckDiskHasRoom(core));
  // What ended a job in this batch is told before the job goes.
  QSWEEP_RETURN_IF_ERROR(core.Flush());
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<WorkerUuid> unused,
                          core.store().UnusedWorkers());
  return Carry(core, DecideCollectGarbage(core.state(), request, unused,
                                          core.settings(), core.now()));
}

}  // namespace qsweep
