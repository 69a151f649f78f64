#include "worker/engine/pass_room.h"

#include <cstddef>

#include "worker/engine/state_store.h"

namespace qsweep {

int NumSlots(const SweepPlan& plan, bool naive) {
  return naive ? 2 : plan.trie.num_slots;
}

PassRoom FindPassRoom(const Device& device, const ModelConfig& config,
                      const ModelDescription& model, const SweepPlan& plan,
                      Compute compute, bool naive, int64_t longest_rows,
                      const std::string& state_directory) {
  PassRoom room;
  room.working_bytes =
      device.WorkingBytes(config, model, plan, compute, longest_rows);
  room.uses = StateUses(plan, naive);
  if (!device.KeepsNormedCopies()) {
    room.uses.resize(static_cast<size_t>(NumSlots(plan, naive)));
  }
  const bool files = device.KeepsStatesInFiles() && !state_directory.empty();
  room.limits = {.memory = device.info().memory_bytes - room.working_bytes,
                 .file_room = files ? RoomIn(state_directory) : 0,
                 .state_row = device.StateBytes(config),
                 .other_row = device.RowBytes(plan),
                 .row_step = device.RowStep(),
                 .weights = WeightBytesPerPass(model, plan, naive)};
  return room;
}

}  // namespace qsweep
