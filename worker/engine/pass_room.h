#ifndef QSWEEP_WORKER_ENGINE_PASS_ROOM_H_
#define QSWEEP_WORKER_ENGINE_PASS_ROOM_H_

#include <cstdint>
#include <string>
#include <vector>

#include "common/job/model_description.h"
#include "common/job/quantizer.h"
#include "worker/engine/device.h"
#include "worker/model/config.h"
#include "worker/sweep/pass_plan.h"
#include "worker/sweep/trie.h"

namespace qsweep {

// What PlanPasses is asked about the passes of a plan.
struct PassRoom {
  int64_t working_bytes = 0;  // of weights and buffers
  PassLimits limits;          // without the working bytes
  std::vector<int64_t> uses;  // of each state
};

// Slots that the executors ask for.
int NumSlots(const SweepPlan& plan, bool naive);

// Of passes whose longest document has longest_rows. state_directory: for
// states that do not fit; "": they must.
PassRoom FindPassRoom(const Device& device, const ModelConfig& config,
                      const ModelDescription& model, const SweepPlan& plan,
                      Compute compute, bool naive, int64_t longest_rows,
                      const std::string& state_directory);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_PASS_ROOM_H_
