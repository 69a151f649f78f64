#ifndef QSWEEP_WORKER_SWEEP_CALIBRATION_PLAN_H_
#define QSWEEP_WORKER_SWEEP_CALIBRATION_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "common/job/model_description.h"
#include "common/job/quantizer.h"
#include "worker/sweep/trie.h"

namespace qsweep {

// The way of calibration texts through a model, a layer at a time. States lie
// in numbered slots. A value.
struct CalibrationStep {
  struct Wanted {
    size_t tensor = 0;  // of the layer's stage
    Scheme scheme;
    bool operator==(const Wanted&) const = default;
  };

  int layer = 0;
  bool begins = false;  // slot `from` is filled with the embeddings before
  int from = 0;
  // To be quantized by what they read of `from` in the layer as it is stored.
  std::vector<Wanted> wanted;
  // Then the state goes through the layer with these weights, whose codes are
  // made by then, to slot `to`, which may be `from`. Nothing: it ends here.
  std::optional<StageVariant> variant;
  int to = 0;
};

struct CalibrationPlan {
  std::vector<CalibrationStep> steps;  // in the order they must run
  int num_slots = 0;
};

// Whether the codes of a tensor under a calibrated scheme must be made.
using CodesMissing =
    std::function<bool(const TensorDescription& tensor, const Scheme& scheme)>;

// Plans how the codes are made that the sweep needs of these texts. Schemes of
// the mode `fp` share one way, through layers as they are stored; each of
// `qpath` has its own, through layers that it has quantized, all of them; those
// of `exact` go the ways of the configurations, of which equal beginnings are
// gone once. The ways of `exact` are a tree, walked so that few states are
// alive: one, and one more where each way leaves another that was left before.
// missing: asked once of each tensor and scheme.
CalibrationPlan PlanCalibration(const ModelDescription& model,
                                const SweepPlan& sweep, uint64_t texts,
                                const CodesMissing& missing);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_SWEEP_CALIBRATION_PLAN_H_
