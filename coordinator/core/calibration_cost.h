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
using CalibrationTokens = absl::flat_hash_map<uint64_t, double>;

// What making the codes of calibrated quantizers takes a worker that has none
// of them. For the plan alone: no task is cut and no deadline set by it. Within
// a half of what SmolLM2-135M took for 600 to 7,000 tokens
// (docs/protocol.md). Single-thread; borrows the model.
class CalibrationCost {
 public:
  explicit CalibrationCost(const ModelDescription& model) : model_(model) {}

  // Floating-point operations at the rate of large products that the
  // configuration's codes take, but for those that an earlier one has, too.
  double Add(const Configuration& configuration,
             const CalibrationTokens& tokens);

 private:
  // Whose codes are the same: quantizer text, tensor, bits, path.
  using Codes = std::tuple<size_t, size_t, int, uint64_t>;

  const ModelDescription& model_;
  absl::flat_hash_set<Codes> known_;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_CALIBRATION_COST_H_
