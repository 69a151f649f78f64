#ifndef QSWEEP_COORDINATOR_TOKEN_TABLE_H_
#define QSWEEP_COORDINATOR_TOKEN_TABLE_H_

#include <map>
#include <memory>
#include <string>

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

  // Who owns what is submitted with this token: the name that an admin gave it,
  // or the join token it was exchanged for. What the joiner calls itself counts
  // for nothing: it would be another's share, or a share for each join. Without
  // a name: the identity of that token.
  std::string OwnerOf(const Token& token) const;

 private:
  std::shared_ptr<const std::map<TokenId, Token>> Read() const;

  mutable Mutex mutex_;
  std::shared_ptr<const std::map<TokenId, Token>> tokens_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_TOKEN_TABLE_H_
