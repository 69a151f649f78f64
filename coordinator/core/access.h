#ifndef QSWEEP_COORDINATOR_CORE_ACCESS_H_
#define QSWEEP_COORDINATOR_CORE_ACCESS_H_

#include <string>
#include <vector>

#include "coordinator/core/decision.h"
#include "coordinator/core/state.h"

namespace qsweep {

// Tokens: made, exchanged, revoked. Each decision leaves a line in the audit.
// `actor` is who asks, as AuditActor names callers.

// The identity of a caller in the audit: "socket" for the peer of a unix
// socket, which has none.
std::string AuditActor(const std::string& identity);

// A token whose secret the caller made. Again with the same fields: the same
// token. INVALID_ARGUMENT QS1004: a field is wrong, or the secret is another
// token's.
Decision<v1::CreateTokenResponse> DecideCreateToken(
    const State& state, const std::string& actor,
    const v1::CreateTokenRequest& request, const Now& now);

// Exchanges the join token for an access token of its role. Again with the same
// secret: the same token. UNAUTHENTICATED QS6004, QS6005: the join token ended
// meanwhile; PERMISSION_DENIED QS6006: good for one use and used;
// INVALID_ARGUMENT QS1004: a field is wrong, or the secret is another token's.
Decision<v1::JoinResponse> DecideJoin(const State& state, TokenId join_token,
                                      const v1::JoinRequest& request,
                                      const Now& now);

// Revokes a token and, when asked, those it was exchanged for; those revoked
// before are not in the reply. NOT_FOUND QS6012.
Decision<v1::RevokeTokenResponse> DecideRevokeToken(
    const State& state, const std::string& actor,
    const v1::RevokeTokenRequest& request, const Now& now);

// Gives an access token another secret, of which `request` has the SHA-256. The
// same again: OK, no mutation. NOT_FOUND QS6012; FAILED_PRECONDITION QS6004,
// QS6005: the token has ended; INVALID_ARGUMENT QS1004: a join token, or a
// secret that is another's.
Decision<v1::RotateTokenResponse> DecideRotateToken(
    const State& state, const std::string& actor,
    const v1::RotateTokenRequest& request, const Now& now);

v1::ListTokensResponse ListTokens(const State& state);

// The token that calls of this identity show; null: they need none.
const Token* FindTokenOf(const State& state, absl::string_view identity);

// Whether calls of this identity that showed this secret are still allowed:
// checked again for each message of a stream, which was authenticated when it
// began. Empty secret: whichever the token has. UNAUTHENTICATED as CheckValid,
// or QS6001: the token has got another secret. An identity that is no token's
// is always allowed.
absl::Status CheckIdentity(const State& state, const std::string& identity,
                           const Digest& secret, const Now& now);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_ACCESS_H_
