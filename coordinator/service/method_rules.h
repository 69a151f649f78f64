#ifndef QSWEEP_COORDINATOR_SERVICE_METHOD_RULES_H_
#define QSWEEP_COORDINATOR_SERVICE_METHOD_RULES_H_

#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "coordinator/loop.h"
#include "qsweep/v1/access.pb.h"

namespace qsweep {

// Who makes a call, and what it showed. Value.
struct Principal {
  Caller caller;
  v1::Role role = v1::ROLE_UNSPECIFIED;
  // Of the jobs it submits; empty: whom the call names. A local caller is an
  // admin, who may submit for others.
  std::string owner;
  v1::TokenKind kind = v1::TOKEN_KIND_ACCESS;
  TokenId token;  // 0: the peer of a unix socket, or the token of DIR/token
};

// What a method asks of its caller. Submit includes read; admin all but kJoin.
enum class Need { kRead, kSubmit, kWorker, kAdmin, kJoin };

struct MethodRule {
  const char* method;  // "SubmitJob"
  Need need;
};

// Every method of both services: the one place that says who may call what. A
// method that is not in it is refused to all.
std::span<const MethodRule> MethodRules();

// PERMISSION_DENIED QS6002: the principal's role does not allow the method.
absl::Status CheckMethod(const Principal& principal, absl::string_view method);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_METHOD_RULES_H_
