// The calls that plan a job: a submit, and what planning reads.
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "coordinator/core/corpora.h"
#include "coordinator/core/submit.h"
#include "coordinator/core/submit_planner.h"
#include "coordinator/loop_calls.h"
#include "coordinator/loop_core.h"

namespace qsweep {
namespace {

std::vector<Digest> DocumentDigests(const SubmitPanel& panel) {
  std::vector<Digest> digests;
  for (const PlanDocument& document : panel.documents) {
    digests.push_back(document.digest);
  }
  return digests;
}

using CorpusPointer = std::shared_ptr<const v1::Corpus>;

// The corpus that a new job's calibration names; empty for none.
absl::StatusOr<Digest> ResolveCalibrationCorpus(const State& state,
                                                const v1::JobSpec& spec) {
  if (spec.calibration().corpus().empty()) {
    return Digest();
  }
  const auto digest = ResolveCorpus(state, spec.calibration().corpus());
  return digest.ok() ? digest
                     : WithFieldPrefix(digest.status(), "calibration.");
}

// Of a new job; `ahead`, if it is of the corpora that the spec names now.
absl::StatusOr<std::shared_ptr<const PreparedSubmit>> PrepareNew(
    LoopCore& core, const v1::SubmitJobRequest& request,
    std::shared_ptr<const PreparedSubmit> ahead) {
  QSWEEP_ASSIGN_OR_RETURN(const Digest corpus_digest,
                          ResolveCorpus(core.state(), request.spec().corpus()));
  QSWEEP_ASSIGN_OR_RETURN(
      const Digest calibration_digest,
      ResolveCalibrationCorpus(core.state(), request.spec()));
  const std::string calibration_bytes =
      calibration_digest.empty() ? "" : calibration_digest.bytes();
  if (ahead != nullptr && ahead->corpus_digest == corpus_digest &&
      ahead->spec->calibration().corpus_digest() == calibration_bytes) {
    return ahead;
  }
  QSWEEP_ASSIGN_OR_RETURN(CorpusPointer corpus,
                          core.store().ReadCorpus(corpus_digest));
  CorpusPointer calibration;
  if (!calibration_digest.empty()) {
    QSWEEP_ASSIGN_OR_RETURN(calibration,
                            core.store().ReadCorpus(calibration_digest));
  }
  QSWEEP_ASSIGN_OR_RETURN(
      PreparedSubmit prepared,
      PrepareSubmit(request, std::move(corpus), std::move(calibration)));
  return std::make_shared<const PreparedSubmit>(std::move(prepared));
}

// What it named when the job was submitted.
absl::StatusOr<CorpusPointer> StoredCalibrationCorpus(LoopCore& core,
                                                      const v1::JobSpec& spec) {
  if (!spec.has_calibration()) {
    return nullptr;
  }
  QSWEEP_ASSIGN_OR_RETURN(
      const Digest digest,
      Digest::FromBytes(spec.calibration().corpus_digest()));
  return core.store().ReadCorpus(digest);
}

// A submit that is run again after a failed commit must not be answered twice.
Reply<v1::SubmitJobResponse> OnceOnly(Reply<v1::SubmitJobResponse> reply) {
  auto once = std::make_shared<Reply<v1::SubmitJobResponse>>(std::move(reply));
  return [once](absl::StatusOr<v1::SubmitJobResponse> response) {
    if (const auto first = std::exchange(*once, nullptr)) {
      first(std::move(response));
    }
  };
}

}  // namespace

absl::StatusOr<v1::SubmitJobResponse> AnswerRepeated(LoopCore& core,
                                                     const Job& job) {
  QSWEEP_ASSIGN_OR_RETURN(v1::JobPlan plan, core.store().ReadPlan(job.number));
  v1::SubmitJobResponse response;
  response.set_job_number(static_cast<uint64_t>(job.number.value()));
  response.set_existed(true);
  *response.mutable_plan() = std::move(plan);
  return response;
}

absl::StatusOr<PreparedSubmit> PrepareStored(LoopCore& core, JobNumber job) {
  QSWEEP_ASSIGN_OR_RETURN(StoredJob stored, core.store().ReadJob(job));
  v1::SubmitJobRequest request;
  request.set_job_uuid(core.state().job(job).uuid.bytes());
  *request.mutable_spec() = std::move(stored.spec);
  for (const Digest& digest : stored.models) {
    QSWEEP_ASSIGN_OR_RETURN(const auto model, core.store().ReadModel(digest));
    *request.add_models() = *model;
  }
  QSWEEP_ASSIGN_OR_RETURN(v1::JobPlan plan, core.store().ReadPlan(job));
  request.mutable_token_rates()->Swap(plan.mutable_token_rates());
  QSWEEP_ASSIGN_OR_RETURN(std::shared_ptr<const v1::Corpus> corpus,
                          core.store().ReadCorpus(stored.corpus));
  QSWEEP_ASSIGN_OR_RETURN(CorpusPointer calibration,
                          StoredCalibrationCorpus(core, request.spec()));
  QSWEEP_ASSIGN_OR_RETURN(
      PreparedSubmit prepared,
      PrepareSubmit(request, std::move(corpus), std::move(calibration)));
  prepared.job = job;
  return prepared;
}

absl::StatusOr<std::vector<PanelStatuses>> ReadPanelStatuses(
    LoopCore& core, const PreparedSubmit& prepared) {
  std::vector<PanelStatuses> measured;
  for (const SubmitPanel& panel : prepared.panels) {
    QSWEEP_ASSIGN_OR_RETURN(
        PanelStatuses statuses,
        core.store().MeasuredStatuses(panel.evaluation, panel.configurations,
                                      DocumentDigests(panel)));
    measured.push_back(std::move(statuses));
  }
  return measured;
}

absl::StatusOr<PanelStatuses> ReadStatuses(LoopCore& core,
                                           const PreparedSubmit& prepared,
                                           const SubmitPlanner& planner,
                                           const PlanSlice& slice) {
  return core.store().MeasuredStatuses(prepared.panels[slice.panel].evaluation,
                                       planner.ConfigurationsOf(slice),
                                       planner.DocumentsOf(slice));
}

absl::StatusOr<std::optional<v1::SubmitJobResponse>> RunSubmit(
    LoopCore& core, const v1::SubmitJobRequest& request,
    std::shared_ptr<const PreparedSubmit> ahead,
    const Reply<v1::SubmitJobResponse>& later) {
  QSWEEP_RETURN_IF_ERROR(core.Flush());
  if (!request.dry_run()) {
    QSWEEP_ASSIGN_OR_RETURN(const Job* const known,
                            FindSubmitted(core.state(), request));
    QSWEEP_ASSIGN_OR_RETURN(
        const bool waits,
        core.plans().Wait(*JobUuid::FromBytes(request.job_uuid()),
                          SubmitDigest(request), later));
    if (waits) {
      return std::nullopt;
    }
    if (known != nullptr) {
      return AnswerRepeated(core, *known);
    }
    QSWEEP_RETURN_IF_ERROR(CheckDiskHasRoom(core));
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::shared_ptr<const PreparedSubmit> prepared,
                          PrepareNew(core, request, std::move(ahead)));
  if (!SubmitPlanner(core.state(), *prepared, core.settings()).at_once()) {
    QSWEEP_RETURN_IF_ERROR(core.plans().Submit(prepared, later));
    return std::nullopt;
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<PanelStatuses> measured,
                          ReadPanelStatuses(core, *prepared));
  return Carry(core, DecideSubmit(core.state(), *prepared, measured,
                                  core.settings(), core.now()));
}

Call MakeSubmitCall(Caller caller, v1::SubmitJobRequest request,
                    Reply<v1::SubmitJobResponse> reply,
                    std::shared_ptr<const PreparedSubmit> ahead) {
  auto shared = std::make_shared<const Reply<v1::SubmitJobResponse>>(
      OnceOnly(std::move(reply)));
  return {.run =
              [caller = std::move(caller), request = std::move(request),
               ahead = std::move(ahead), shared](LoopCore& core) {
                const absl::Status allowed = CheckCaller(core, caller);
                auto response =
                    allowed.ok()
                        ? RunSubmit(core, request, ahead, *shared)
                        : absl::StatusOr<std::optional<v1::SubmitJobResponse>>(
                              allowed);
                if (response.ok() && !*response) {
                  return;
                }
                core.Answer([shared, response](const absl::Status& stored) {
                  if (!stored.ok()) {
                    (*shared)(stored);
                  } else if (!response.ok()) {
                    (*shared)(response.status());
                  } else {
                    (*shared)(**response);
                  }
                });
              },
          .refuse = [shared](const absl::Status& why) { (*shared)(why); }};
}

}  // namespace qsweep
