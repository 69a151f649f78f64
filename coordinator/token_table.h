#ifndef QSWEEP_COORDINATOR_TOKEN_TABLE_H_
#define QSWEEP_COORDINATOR_TOKEN_TABLE_H_

#include <map>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/base/token_text.h"
#include "coordinator/core/token.h"

namespace qsweep {

// The tokens as the threads that authenticate calls see them: a copy of what is
// on disk, which the loop replaces before it answers the call that changed it.
// Thread-safe.
class TokenTable {
 public:
  // The loop's.
  void Publish(const std::map<TokenId, Token>& tokens);

  // The token this text belongs to, valid at `now`. UNAUTHENTICATED: QS6001 no
  // such token or another secret; QS6004 expired; QS6005 revoked.
  absl::StatusOr<Token> Authenticate(const AccessTokenText& shown,
                                     absl::Time now) const;

 private:
  mutable Mutex mutex_;
  std::shared_ptr<const std::map<TokenId, Token>> tokens_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_TOKEN_TABLE_H_
