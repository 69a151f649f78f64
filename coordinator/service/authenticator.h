#ifndef QSWEEP_COORDINATOR_SERVICE_AUTHENTICATOR_H_
#define QSWEEP_COORDINATOR_SERVICE_AUTHENTICATOR_H_

#include <string>

#include "absl/status/statusor.h"

#include "coordinator/loop.h"

namespace grpc {
class ServerContextBase;
}  // namespace grpc

namespace qsweep {

// Says who makes a call. Immutable, thread-safe.
class Authenticator {
 public:
  // token: what callers over TCP must show as metadata "authorization: Bearer
  // ..."; never empty. Who can reach the unix socket needs none.
  explicit Authenticator(const std::string& token);

  // UNAUTHENTICATED QS6001: no token, or another.
  absl::StatusOr<Caller> Authenticate(
      const grpc::ServerContextBase& context) const;

 private:
  const std::string expected_;  // the metadata value
  const std::string identity_;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_AUTHENTICATOR_H_
