#include "worker/engine/weight_sources.h"

#include "common/base/status_macros.h"
#include "worker/engine/block_places.h"
#include "worker/kernels/kept_weights.h"
#include "worker/kernels/quantize.h"

namespace qsweep {

absl::Status RoundTensor(const Scheme& scheme,
                         const TensorDescription& description,
                         std::span<const float> weights,
                         const WeightSources& sources,
                         const kernels::ParallelFor& parallel,
                         const Stopped& stopped, std::span<float> out) {
  const int64_t rows = RowsOf(description);
  const int64_t columns = ColumnsOf(description);
  const auto round = [&] {
    if (scheme.method == Method::kCheckpoint) {
      return sources.checkpoints.Of(scheme).ReadTensor(description.name, out,
                                                       stopped);
    }
    return kernels::FakeQuantize(scheme, weights, rows, columns, out, parallel);
  };
  if (scheme.kept_millionths == 0) {
    return round();
  }
  const kernels::KeptWeights kept(weights, sources.largest.ThresholdOf(scheme));
  QSWEEP_RETURN_IF_ERROR(round());
  kept.Restore(out);
  return absl::OkStatus();
}

}  // namespace qsweep
