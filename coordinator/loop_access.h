#ifndef QSWEEP_COORDINATOR_LOOP_ACCESS_H_
#define QSWEEP_COORDINATOR_LOOP_ACCESS_H_

#include "absl/status/statusor.h"

#include "coordinator/loop.h"
#include "coordinator/loop_core.h"

namespace qsweep {

// The calls about tokens, as loop_calls.h has the others.
absl::StatusOr<v1::CreateTokenResponse> RunCreateToken(
    LoopCore& core, const Caller& caller,
    const v1::CreateTokenRequest& request);
absl::StatusOr<v1::RevokeTokenResponse> RunRevokeToken(
    LoopCore& core, const Caller& caller,
    const v1::RevokeTokenRequest& request);
absl::StatusOr<v1::RotateTokenResponse> RunRotateToken(
    LoopCore& core, const Caller& caller,
    const v1::RotateTokenRequest& request);
absl::StatusOr<v1::JoinResponse> RunJoin(LoopCore& core, TokenId join_token,
                                         const v1::JoinRequest& request);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_LOOP_ACCESS_H_
