#ifndef QSWEEP_COMMON_RPC_CREDENTIAL_H_
#define QSWEEP_COMMON_RPC_CREDENTIAL_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/ids.h"
#include "common/base/token_text.h"
#include "common/rpc/channel.h"

namespace qsweep {

// What a worker or qctl keeps of a coordinator it has joined. Value.
struct Credential {
  std::string address;  // "HOST:PORT"
  TokenId joined_with;  // the join token's number
  std::string token;    // access token
  std::string ca_pem;   // the coordinator's certificate authority, pinned

  Endpoint endpoint() const;
};

// A file of the owner's alone (0600); docs/reference/file-formats.md. Nothing:
// there is no such file. FAILED_PRECONDITION QS6011: it cannot be read, is
// damaged, or others may read it.
absl::StatusOr<std::optional<Credential>> ReadCredential(
    const std::string& path);

// Replaces the file; a crash leaves the old one or the new. FAILED_PRECONDITION
// QS7002.
absl::Status WriteCredential(const std::string& path,
                             const Credential& credential);

// Exchanges a join token for a credential and keeps it at `path`, whose folder
// exists. First the server must prove, by its certificate authority, that it is
// the one the token names: before that nothing of the token leaves. `name`: for
// people, in the list of tokens. The new secret is on disk (path + ".new")
// before it is used, so that after a crash or a lost answer the same call goes
// on where it was.
// Errors: FetchCertificateAuthority's; UNAUTHENTICATED QS6001, QS6004, QS6005;
// PERMISSION_DENIED QS6006; QS7002.
absl::StatusOr<Credential> JoinCoordinator(const std::string& address,
                                           const JoinTokenText& token,
                                           const std::string& name,
                                           const std::string& path);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_RPC_CREDENTIAL_H_
