#ifndef QSWEEP_WORKER_ENGINE_PIPE_H_
#define QSWEEP_WORKER_ENGINE_PIPE_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "qsweep/v1/engine.pb.h"
#include "worker/engine/engine.h"

namespace qsweep {

// Where protos end: frames of engine.proto on one side, the engine's plain
// structs on the other.

// Answers EngineRequests from in_fd with EngineEvents on out_fd, the first of
// them EngineReady, until in_fd ends. Runs tasks on the calling thread, one at
// a time; a thread of its own reads, so that a cancel is seen at once. on_end:
// called on that thread when in_fd ends or is damaged, while a task may still
// run. Returns OK at the end of in_fd; DATA_LOSS: a damaged frame; UNAVAILABLE:
// nobody reads out_fd. The descriptors stay open.
absl::Status ServePipe(Engine& engine, int in_fd, int out_fd,
                       const std::function<void()>& on_end);

// INVALID_ARGUMENT QS4042: a document's text is not among those sent.
// UNIMPLEMENTED: a compute this build does not know.
absl::StatusOr<EngineTask> TaskFromProto(const v1::EngineRun& run);
v1::TaskResult ResultToProto(const EngineResult& result,
                             const EngineInfo& info);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_PIPE_H_
