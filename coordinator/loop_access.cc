#include "coordinator/loop_access.h"

#include <utility>

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "coordinator/core/access.h"
#include "coordinator/loop_calls.h"

namespace qsweep {

absl::StatusOr<v1::CreateTokenResponse> RunCreateToken(
    LoopCore& core, const Caller& caller,
    const v1::CreateTokenRequest& request) {
  QSWEEP_RETURN_IF_ERROR(CheckDiskHasRoom(core));
  return Carry(core,
               DecideCreateToken(core.state(), AuditActor(caller.identity),
                                 request, core.now()));
}

// Also while the disk is full: who must not call any more waits for nothing.
absl::StatusOr<v1::RevokeTokenResponse> RunRevokeToken(
    LoopCore& core, const Caller& caller,
    const v1::RevokeTokenRequest& request) {
  absl::StatusOr<v1::RevokeTokenResponse> revoked =
      Carry(core, DecideRevokeToken(core.state(), AuditActor(caller.identity),
                                    request, core.now()));
  if (!revoked.ok()) {
    return revoked;
  }
  core.Answer([&core, tokens = revoked->revoked()](const absl::Status& stored) {
    for (const v1::Token& token : tokens) {
      const TokenId id(static_cast<int64_t>(token.token_id()));
      if (stored.ok()) {
        const absl::Status why = CheckIdentity(
            core.state(), IdentityOfToken(id), Digest(), core.now());
        core.links().CloseOf(core.state(), IdentityOfToken(id), why);
        core.watchers().CloseOf(IdentityOfToken(id), why);
      }
    }
  });
  return revoked;
}

absl::StatusOr<v1::RotateTokenResponse> RunRotateToken(
    LoopCore& core, const Caller& caller,
    const v1::RotateTokenRequest& request) {
  QSWEEP_RETURN_IF_ERROR(CheckDiskHasRoom(core));
  auto decision = DecideRotateToken(core.state(), AuditActor(caller.identity),
                                    request, core.now());
  if (decision.mutations.empty()) {  // also: done before, with the old secret
    return decision.reply;
  }
  QSWEEP_RETURN_IF_ERROR(CheckCaller(core, caller));
  const std::string identity =
      IdentityOfToken(TokenId(static_cast<int64_t>(request.token_id())));
  const Digest old = FindTokenOf(core.state(), identity)->secret;
  auto response = Carry(core, std::move(decision));
  core.Answer([&core, identity, old](const absl::Status& stored) {
    if (stored.ok()) {
      const absl::Status why =
          CheckIdentity(core.state(), identity, old, core.now());
      core.links().CloseOf(core.state(), identity, why);
      core.watchers().CloseOf(identity, why);
    }
  });
  return response;
}

absl::StatusOr<v1::JoinResponse> RunJoin(LoopCore& core, TokenId join_token,
                                         const v1::JoinRequest& request) {
  QSWEEP_RETURN_IF_ERROR(CheckDiskHasRoom(core));
  return Carry(core, DecideJoin(core.state(), join_token, request, core.now()));
}

}  // namespace qsweep
