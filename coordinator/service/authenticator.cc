#include "coordinator/service/authenticator.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include <grpcpp/server_context.h>

#include "common/base/digest.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "coordinator/core/access.h"

namespace qsweep {

// The identity is stored with leases: a digest, so that the database holds no
// secret.
Authenticator::Authenticator(const std::string& local_token,
                             const TokenTable& tokens, const Clock& clock,
                             RefusalLog& refusals)
    : local_token_(local_token),
      local_identity_(
          absl::StrCat("local/", Digest::Of(local_token).hex().substr(0, 16))),
      tokens_(tokens),
      clock_(clock),
      refusals_(refusals) {}

absl::StatusOr<Principal> Authenticator::Identify(
    const grpc::ServerContextBase& context) const {
  if (absl::StartsWith(context.peer(), "unix:")) {
    return Principal{.role = v1::ROLE_ADMIN};
  }
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find("authorization");
  if (found == metadata.end()) {
    return MakeError(kNotAuthenticated, "the call has no token", "token",
                     "show one: --token-file FILE, or qctl login HOST:PORT");
  }
  absl::string_view shown(found->second.data(), found->second.size());
  absl::ConsumePrefix(&shown, "Bearer ");
  if (EqualInConstantTime(shown, local_token_)) {
    return Principal{.caller = {.identity = local_identity_},
                     .role = v1::ROLE_ADMIN};
  }
  const absl::StatusOr<AccessTokenText> text = ParseAccessToken(shown);
  if (!text.ok()) {
    return MakeError(kNotAuthenticated, "the token is not this coordinator's",
                     "token", "use the token you were given for this server");
  }
  QSWEEP_ASSIGN_OR_RETURN(const Token token,
                          tokens_.Authenticate(*text, clock_.Now()));
  return Principal{
      .caller = {.identity = IdentityOfToken(token.id), .secret = token.secret},
      .role = token.role,
      .owner = tokens_.OwnerOf(token),
      .kind = token.kind,
      .token = token.id};
}

absl::StatusOr<Principal> Authenticator::Authorize(
    const grpc::ServerContextBase& context, absl::string_view method) const {
  absl::StatusOr<Principal> principal = Identify(context);
  const absl::Status status =
      principal.ok() ? CheckMethod(*principal, method) : principal.status();
  if (!status.ok()) {
    refusals_.Add(principal.ok() ? AuditActor(principal->caller.identity)
                                 : context.peer(),
                  method, status);
    return status;
  }
  return principal;
}

absl::StatusOr<Caller> Authenticator::CallerOf(
    const grpc::ServerContextBase& context, absl::string_view method) const {
  absl::StatusOr<Principal> principal = Authorize(context, method);
  if (!principal.ok()) {
    return principal.status();
  }
  return std::move(principal->caller);
}

}  // namespace qsweep
