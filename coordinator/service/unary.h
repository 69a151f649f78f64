#ifndef QSWEEP_COORDINATOR_SERVICE_UNARY_H_
#define QSWEEP_COORDINATOR_SERVICE_UNARY_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include <grpcpp/support/server_callback.h>

#include "common/rpc/status_conversion.h"
#include "coordinator/loop.h"

namespace qsweep {

// The reply callback that ends a unary call. gRPC keeps reactor and response
// until Finish.
template <typename Response>
Reply<Response> FinishWith(grpc::ServerUnaryReactor* reactor,
                           Response* response) {
  return [reactor, response](absl::StatusOr<Response> reply) {
    if (reply.ok()) {
      *response = *std::move(reply);
    }
    reactor->Finish(ToGrpcStatus(reply.status()));
  };
}

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_UNARY_H_
