#ifndef QSWEEP_WORKER_ENGINE_PREPARED_TASK_H_
#define QSWEEP_WORKER_ENGINE_PREPARED_TASK_H_

#include <stop_token>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/digest.h"
#include "common/job/configuration.h"
#include "common/job/model_description.h"
#include "common/job/quantizer.h"
#include "worker/engine/calibrator.h"
#include "worker/engine/engine.h"
#include "worker/eval/evaluation.h"
#include "worker/model/checkpoint.h"

namespace qsweep {

// What the task comes to on this model: configurations with the baseline, and
// documents as tokens.
struct PreparedTask {
  std::vector<Configuration> configurations;  // the task's, then maybe one more
  int baseline = 0;                           // into configurations
  std::vector<Quantizer> quantizers;          // of those that quantize anything
  std::vector<TokenizedDocument> documents;   // parallel to the task's
  std::vector<double> unigram_nll;  // parallel to the task's documents
  std::vector<CalibrationTokens> calibrations;  // parallel to the task's
};

// Checks everything the task names against the model. Errors: those of
// Engine::Run that need no weights. CANCELLED; stop is looked at before each
// text.
absl::StatusOr<PreparedTask> PrepareTask(const EngineTask& task,
                                         const Checkpoint& checkpoint,
                                         const ModelDescription& model,
                                         const std::stop_token& stop);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_PREPARED_TASK_H_
