#include "worker/engine/timed_machine.h"

#include <cstddef>

#include "absl/time/time.h"

#include "common/base/clock.h"

namespace qsweep {

absl::Status TimedMachine::BeginLayer(int layer) {
  const SteadyTime begin = Clock::Real().SteadyNow();
  absl::Status status = machine_.BeginLayer(layer);
  seconds_ += absl::ToDoubleSeconds(Clock::Real().SteadyNow() - begin);
  for (const int tensor : plan_.layers[static_cast<size_t>(layer)].tensors) {
    bytes_ += model_.tensors[static_cast<size_t>(tensor)].stored_bytes();
  }
  return status;
}

}  // namespace qsweep
