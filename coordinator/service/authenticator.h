#ifndef QSWEEP_COORDINATOR_SERVICE_AUTHENTICATOR_H_
#define QSWEEP_COORDINATOR_SERVICE_AUTHENTICATOR_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/clock.h"
#include "coordinator/service/method_rules.h"
#include "coordinator/service/refusal_log.h"
#include "coordinator/token_table.h"

namespace grpc {
class ServerContextBase;
}  // namespace grpc

namespace qsweep {

// Says who makes a call, and whether it may. Thread-safe.
class Authenticator {
 public:
  // local_token: the text of DIR/token, an admin's; never empty. The others
  // outlive this.
  Authenticator(const std::string& local_token, const TokenTable& tokens,
                const Clock& clock, RefusalLog& refusals);

  // The caller of `method` ("SubmitJob"), from the metadata "authorization:
  // Bearer ..."; the peer of a unix socket needs none and is an admin.
  // UNAUTHENTICATED QS6001 no token, or not a valid one; QS6004 expired; QS6005
  // revoked. PERMISSION_DENIED QS6002: its role does not allow the method.
  absl::StatusOr<Principal> Authorize(const grpc::ServerContextBase& context,
                                      absl::string_view method) const;
  // The same, for methods that only need the identity.
  absl::StatusOr<Caller> CallerOf(const grpc::ServerContextBase& context,
                                  absl::string_view method) const;

 private:
  absl::StatusOr<Principal> Identify(
      const grpc::ServerContextBase& context) const;

  const std::string local_token_;
  const std::string local_identity_;
  const TokenTable& tokens_;
  const Clock& clock_;
  RefusalLog& refusals_;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_AUTHENTICATOR_H_
