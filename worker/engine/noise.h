#ifndef QSWEEP_WORKER_ENGINE_NOISE_H_
#define QSWEEP_WORKER_ENGINE_NOISE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <stop_token>
#include <string>

#include "absl/status/statusor.h"

#include "common/job/model_description.h"
#include "worker/engine/code_cache.h"
#include "worker/engine/device.h"
#include "worker/engine/engine.h"
#include "worker/engine/pass.h"
#include "worker/engine/prepared_task.h"
#include "worker/model/checkpoint.h"

namespace qsweep {

// What the baseline is scored with, borrowed during the call.
struct NoiseContext {
  Device& device;
  const Checkpoint& checkpoint;
  const ModelDescription& model;
  WeightSources sources;
  // For states that do not fit into memory; "": they must.
  const std::string& state_directory;
  std::stop_token stop;
  PassProgress progress;
};

// Scores the first documents that have been scored, up to kNoiseRows rows and
// one at least, under the baseline once more, with every product summed in
// another order: what their losses differ by is arithmetic, not quantization.
// rows: of the task, document-major. Nothing: no document could be scored, or
// there is no room for it. CANCELLED; errors of the device.
absl::StatusOr<std::optional<EngineNoise>> MeasureNoise(
    const NoiseContext& context, const PreparedTask& prepared,
    std::span<const EngineRow> rows);

inline constexpr int64_t kNoiseRows = 256;

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_NOISE_H_
