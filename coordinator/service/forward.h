#ifndef QSWEEP_COORDINATOR_SERVICE_FORWARD_H_
#define QSWEEP_COORDINATOR_SERVICE_FORWARD_H_

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include <grpcpp/server_context.h>

#include "coordinator/service/authenticator.h"
#include "coordinator/service/unary.h"

namespace qsweep {

// The handler of most unary methods: posts the request to the loop, with its
// caller where the loop asks for one; the loop's reply ends the call.
template <typename Request, typename Response>
grpc::ServerUnaryReactor* ForwardToLoop(Loop& loop,
                                        const Authenticator& authenticator,
                                        grpc::CallbackServerContext* context,
                                        absl::string_view method,
                                        const Request& request,
                                        Response* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const Reply<Response> finish = FinishWith(reactor, response);
  absl::StatusOr<Caller> caller = authenticator.CallerOf(*context, method);
  if (!caller.ok()) {
    finish(caller.status());
  } else if constexpr (requires { loop.Post(*caller, request, finish); }) {
    loop.Post(*std::move(caller), request, finish);
  } else {
    loop.Post(request, finish);
  }
  return reactor;
}

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_FORWARD_H_
