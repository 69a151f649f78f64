#include "coordinator/token_table.h"

#include <utility>

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {

void TokenTable::Publish(const std::map<TokenId, Token>& tokens) {
  auto copy = std::make_shared<const std::map<TokenId, Token>>(tokens);
  MutexLock lock(mutex_);
  tokens_ = std::move(copy);
}

std::shared_ptr<const std::map<TokenId, Token>> TokenTable::Read() const {
  MutexLock lock(mutex_);
  return tokens_;
}

std::string TokenTable::OwnerOf(const Token& token) const {
  const auto tokens = Read();
  const auto joined = tokens->find(token.joined_with);
  const Token& named = joined == tokens->end() ? token : joined->second;
  return named.name.empty() ? IdentityOfToken(named.id) : named.name;
}

absl::StatusOr<Token> TokenTable::Authenticate(const AccessTokenText& shown,
                                               absl::Time now) const {
  const auto tokens = Read();
  // Only who has the secret learns that a token expired or was revoked.
  const auto found = tokens->find(shown.id);
  if (found == tokens->end() ||
      !EqualInConstantTime(found->second.secret.bytes(),
                           shown.secret.digest().bytes())) {
    return MakeError(kNotAuthenticated, "the token is not this coordinator's",
                     "token", "use the token you were given for this server");
  }
  QSWEEP_RETURN_IF_ERROR(CheckValid(found->second, now));
  return found->second;
}

}  // namespace qsweep
