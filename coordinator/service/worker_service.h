#ifndef QSWEEP_COORDINATOR_SERVICE_WORKER_SERVICE_H_
#define QSWEEP_COORDINATOR_SERVICE_WORKER_SERVICE_H_

#include <memory>

#include "coordinator/loop.h"
#include "coordinator/service/authenticator.h"
#include "coordinator/store/reader.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace qsweep {

// Workers' calls on the callback API: each handler unpacks, posts to the loop
// or to a reader thread, and returns. All arguments outlive the service.
std::unique_ptr<grpc::Service> MakeWorkerService(
    Loop& loop, ReaderPool& readers, const Authenticator& authenticator);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_WORKER_SERVICE_H_
