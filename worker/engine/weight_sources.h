#ifndef QSWEEP_WORKER_ENGINE_WEIGHT_SOURCES_H_
#define QSWEEP_WORKER_ENGINE_WEIGHT_SOURCES_H_

#include <span>

#include "absl/status/status.h"

#include "common/base/stopped.h"
#include "common/job/model_description.h"
#include "common/job/quantizer.h"
#include "worker/engine/code_cache.h"
#include "worker/engine/largest_weights.h"
#include "worker/engine/ready_checkpoints.h"
#include "worker/kernels/parallel_for.h"

namespace qsweep {

// What the weights under a scheme are made from besides the model's own ones of
// the tensor. Everything borrowed must outlive it.
struct WeightSources {
  const CodeCache& codes;               // of every calibrated tensor
  const LargestWeights& largest;        // with every share that is kept
  const ReadyCheckpoints& checkpoints;  // every one that a scheme names
};

// The values of a tensor under a scheme that is not calibrated. weights: as the
// file has them, row-major; may be `out`. Errors of kernels::FakeQuantize,
// after which nothing is written, and of Checkpoint::ReadTensor, which asks
// `stopped`. The bits do not depend on `parallel`. Any thread.
absl::Status RoundTensor(const Scheme& scheme,
                         const TensorDescription& description,
                         std::span<const float> weights,
                         const WeightSources& sources,
                         const kernels::ParallelFor& parallel,
                         const Stopped& stopped, std::span<float> out);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_WEIGHT_SOURCES_H_
