#ifndef QSWEEP_COORDINATOR_SERVICE_ATTACH_REACTOR_H_
#define QSWEEP_COORDINATOR_SERVICE_ATTACH_REACTOR_H_

#include <memory>

#include <grpcpp/support/server_callback.h>

#include "coordinator/loop.h"
#include "qsweep/v1/worker.pb.h"

namespace qsweep {

// Makes the reactor of one Attach stream, which deletes itself at its end. What
// the worker sends goes to the loop, one message at a time; what the loop sends
// waits, the newest only, until the wire is free, and nothing more is read
// meanwhile.
grpc::ServerBidiReactor<v1::WorkerState, v1::DesiredState>* NewAttachReactor(
    Loop& loop, absl::StatusOr<Caller> caller);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_ATTACH_REACTOR_H_
