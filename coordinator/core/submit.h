#ifndef QSWEEP_COORDINATOR_CORE_SUBMIT_H_
#define QSWEEP_COORDINATOR_CORE_SUBMIT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "common/job/expand.h"
#include "common/job/model_description.h"
#include "coordinator/core/calibration_cost.h"
#include "coordinator/core/decision.h"
#include "coordinator/core/plan.h"
#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"

namespace qsweep {

// A submit is a plan to fill the holes of the measurement table.

// One (model, evaluation) of a job.
struct SubmitPanel {
  int model_index = 0;
  int eval_index = 0;
  std::string evaluation;  // canonical text
  std::vector<Digest> configurations;
  std::vector<PlanDocument>
      documents;  // by unit, then language; no digest twice
};

// A request that is valid, expanded on its models and corpus.
struct PreparedSubmit {
  JobUuid uuid;
  JobNumber job;  // that is planned again; not valid: it is new
  Digest spec_digest;
  std::string owner;
  bool dry_run = false;
  std::shared_ptr<const v1::JobSpec> spec;
  std::vector<ModelDescription> models;  // parallel to spec.models
  std::vector<std::shared_ptr<const v1::ModelDescription>> model_protos;
  std::shared_ptr<const v1::Corpus> corpus;  // languages without documents
  Digest corpus_digest;
  std::vector<v1::TokenRate> token_rates;                  // as in the request
  std::vector<CalibrationTokenCounts> calibration_tokens;  // parallel to models
  Expansion expansion;
  int64_t num_texts = 0;  // Expansion::num_documents, which counts each time
  std::vector<SubmitPanel> panels;

  // As JobAdded has them: of each evaluation its own.
  size_t num_documents() const {
    size_t count = 0;
    for (const ExpandedEvaluation& evaluation : expansion.evaluations) {
      count += evaluation.documents.size();
    }
    return count;
  }
};

// Identity of a submit: its spec and the models it was described with.
Digest SubmitDigest(const v1::SubmitJobRequest& request);

// The job this UUID made before; null: none. ALREADY_EXISTS QS4022: it has
// another spec. INVALID_ARGUMENT QS1004: no UUID.
absl::StatusOr<const Job*> FindSubmitted(const State& state,
                                         const v1::SubmitJobRequest& request);

// Validates and expands. calibration_corpus: of spec.calibration; null without
// one. Errors: ValidateJobSpec's and ExpandJob's; QS1003 a model without
// description; QS1004 one model under two paths.
absl::StatusOr<PreparedSubmit> PrepareSubmit(
    const v1::SubmitJobRequest& request,
    std::shared_ptr<const v1::Corpus> corpus,
    std::shared_ptr<const v1::Corpus> calibration_corpus = nullptr);

// Status of each key of a panel as the store has it, [configurations,
// documents] row-major.
using PanelStatuses = std::vector<v1::RowStatus>;

// Plans: keys that are measured are dropped, live tasks of other jobs that
// bring some of the rest are subscribed to, tasks are made of what is left. A
// job with nothing to run has succeeded. A dry run makes the same plan and no
// mutation. measured: parallel to prepared.panels.
// FAILED_PRECONDITION QS4043: reuse is `require` and measurements are missing.
// INVALID_ARGUMENT QS1051: too many tasks.
Decision<v1::SubmitJobResponse> DecideSubmit(
    const State& state, const PreparedSubmit& prepared,
    const std::vector<PanelStatuses>& measured, const Settings& settings,
    const Now& now);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_SUBMIT_H_
