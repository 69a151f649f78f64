#ifndef QSWEEP_COORDINATOR_CORE_TOKEN_H_
#define QSWEEP_COORDINATOR_CORE_TOKEN_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "common/base/digest.h"
#include "common/base/ids.h"
#include "qsweep/v1/access.pb.h"

namespace qsweep {

// What is remembered of a token. Its secret is not. Value type.
struct Token {
  TokenId id;
  Digest secret;  // SHA-256 of it
  v1::TokenKind kind = v1::TOKEN_KIND_UNSPECIFIED;
  v1::Role role = v1::ROLE_UNSPECIFIED;
  std::string name;
  bool reusable = false;                               // join
  absl::Duration lifetime = absl::InfiniteDuration();  // join: of what it gives
  TokenId joined_with;     // access: the join token it was exchanged for
  std::string created_by;  // who, as audit_v1 names callers
  absl::Time created_at;
  absl::Time expires_at = absl::InfiniteFuture();
  absl::Time revoked_at = absl::InfiniteFuture();
  int64_t uses = 0;  // join: exchanges; follows from joined_with of the others
};

// The identity of the calls a token authenticates: "token/7".
std::string IdentityOfToken(TokenId id);

// UNAUTHENTICATED: QS6005 it was revoked, QS6004 it has expired.
absl::Status CheckValid(const Token& token, absl::Time now);

// As users see it.
v1::Token ToProto(const Token& token);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_TOKEN_H_
