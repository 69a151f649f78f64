#include "coordinator/loop_access.h"

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
        const absl::Status why =
            CheckIdentity(core.state(), IdentityOfToken(id), core.now());
        core.links().CloseOf(core.state(), IdentityOfToken(id), why);
        core.watchers().CloseOf(IdentityOfToken(id), why);
      }
    }
  });
  return revoked;
}

absl::StatusOr<v1::JoinResponse> RunJoin(LoopCore& core, TokenId join_token,
                                         const v1::JoinRequest& request) {
  QSWEEP_RETURN_IF_ERROR(CheckDiskHasRoom(core));
  return Carry(core, DecideJoin(core.state(), join_token, request, core.now()));
}

}  // namespace qsweep
