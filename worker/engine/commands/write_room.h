#ifndef QSWEEP_WORKER_ENGINE_COMMANDS_WRITE_ROOM_H_
#define QSWEEP_WORKER_ENGINE_COMMANDS_WRITE_ROOM_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "common/job/configuration.h"
#include "common/job/model_description.h"

namespace qsweep {

// How many tensors `qengine quantize` may have in its hands.
struct WriteRoom {
  // Indices into the model's tensors, each behind the last of those that are
  // written at the same time; the last is their number.
  std::vector<size_t> ends;
  int counting_threads = 1;  // of the search for the largest weights
};

// Bytes that each tensor takes while it is read, quantized and written, packed
// or in float32. Parallel to the model's tensors.
std::vector<int64_t> WriteBytes(const ModelDescription& model,
                                const Configuration& configuration, bool pack);

// bytes: of WriteBytes. counting_bytes: of a thread that counts weights; 0: no
// search. At most `threads` count, and twice as many tensors are written at the
// same time. RESOURCE_EXHAUSTED QS5006: one tensor or one counting thread takes
// more than memory_bytes; the message has the least that works.
absl::StatusOr<WriteRoom> FindWriteRoom(std::span<const int64_t> bytes,
                                        int64_t counting_bytes, int threads,
                                        int64_t memory_bytes);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_COMMANDS_WRITE_ROOM_H_
