#ifndef QSWEEP_COORDINATOR_CORE_CALIBRATION_COST_H_
#define QSWEEP_COORDINATOR_CORE_CALIBRATION_COST_H_

#include <cstddef>
#include <cstdint>
#include <tuple>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"

#include "common/job/configuration.h"
#include "common/job/model_description.h"

namespace qsweep {

// Estimated tokens by the number of the texts, Scheme::calibration_texts.
using CalibrationTokenCounts = absl::flat_hash_map<uint64_t, double>;

// Estimates what making the codes of calibrated quantizers takes a worker that
// has none of them. For the plan alone: no task is sized and no deadline set by
// it. On SmolLM2-135M within a fifth of what was measured with 600 to 7,000
// tokens (docs/protocol.md). Not counted is the texts' way through layers whose
// own codes are not wanted: those before an int8 layer under calib=qpath, or
// protected ones. Single-thread; borrows the model and the configurations.
class CalibrationCost {
 public:
  explicit CalibrationCost(const ModelDescription& model) : model_(model) {}

  // Floating-point operations at the rate of large products that the
  // configuration's codes take, but for those that an earlier one has, too, and
  // those of texts that are not among `tokens`.
  double Add(const Configuration& configuration,
             const CalibrationTokenCounts& tokens);

 private:
  // Whose codes are made together: quantizer text, layer, bits, path.
  using Group = std::tuple<size_t, int, int, uint64_t>;
  struct Counted {
    uint32_t components = 0;  // a bit each
    uint32_t inputs = 0;      // whose Hessian is; a bit each
  };

  double FlopsOf(const TensorDescription& tensor, const Scheme& scheme,
                 double tokens, Counted& counted) const;

  const ModelDescription& model_;
  absl::flat_hash_set<const Configuration*> configurations_;
  absl::flat_hash_map<Group, Counted> counted_;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_CALIBRATION_COST_H_
