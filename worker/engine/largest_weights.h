#ifndef QSWEEP_WORKER_ENGINE_LARGEST_WEIGHTS_H_
#define QSWEEP_WORKER_ENGINE_LARGEST_WEIGHTS_H_

#include <functional>
#include <map>
#include <set>
#include <span>
#include <stop_token>

#include "absl/status/status.h"

#include "common/job/configuration.h"
#include "common/job/model_description.h"
#include "common/job/quantizer.h"
#include "worker/engine/thread_pool.h"
#include "worker/model/checkpoint.h"

namespace qsweep {

// Which weights of a model layer sets keep by magnitude: those from a threshold
// on, one for all tensors, the magnitude of the k-th largest weight, k =
// NumKept. Equal magnitudes there are all kept. Find from one thread, the rest
// from any while it does not run.
class LargestWeights {
 public:
  // How far the reading is, 0..1; on the thread that called.
  using Progress = std::function<void(double done)>;

  // Finds the thresholds that the configurations' schemes ask for and that are
  // not known yet; nothing is read where there is none. All weights are read,
  // and once more where they have the precision of fp32, a layer at a time;
  // counting takes 2 MiB per thread. Errors of Checkpoint::ReadTensor;
  // CANCELLED.
  absl::Status Find(const Checkpoint& checkpoint, const ModelDescription& model,
                    std::span<const Configuration> configurations,
                    ThreadPool& pool, const std::stop_token& stop,
                    const Progress& progress);

  // What Find takes for each thread of its pool, at most.
  static int64_t BytesOfThread(const ModelDescription& model);

  // The magnitude from which weights keep their values under a scheme that
  // keeps some. It was among Find's.
  float ThresholdOf(const Scheme& scheme) const;

  // Forgets all, for another model.
  void Clear() { thresholds_.clear(); }

 private:
  std::map<int, float> thresholds_;  // by Scheme::kept_millionths
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_LARGEST_WEIGHTS_H_
