#ifndef QSWEEP_COORDINATOR_SERVICE_WATCH_REACTOR_H_
#define QSWEEP_COORDINATOR_SERVICE_WATCH_REACTOR_H_

#include "absl/status/statusor.h"
#include <grpcpp/support/server_callback.h>

#include "coordinator/loop.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep {

// What one watcher may leave unread before it is cut.
inline constexpr int kWatchEventsMax = 256;
inline constexpr size_t kWatchBytesMax = size_t{1} << 20;

// Makes the reactor of one WatchJob stream, which deletes itself at its end.
// caller: an error ends the stream with it.
grpc::ServerWriteReactor<v1::WatchEvent>* NewWatchReactor(
    Loop& loop, const v1::WatchJobRequest& request,
    absl::StatusOr<Caller> caller);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_WATCH_REACTOR_H_
