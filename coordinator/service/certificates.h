#ifndef QSWEEP_COORDINATOR_SERVICE_CERTIFICATES_H_
#define QSWEEP_COORDINATOR_SERVICE_CERTIFICATES_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/base/digest.h"

namespace qsweep {

// The coordinator's own certificate authority and the certificate it signed, in
// DIR/tls: `ca.pem` (what clients pin), `ca.key` (needed only to renew), and
// `server.pem` (key, certificate, authority). ECDSA P-256; all files 0600.
inline constexpr absl::Duration kAuthorityLifetime = absl::Hours(24 * 3650);
inline constexpr absl::Duration kServerLifetime = absl::Hours(24 * 730);

struct Certificates {
  std::string ca_pem;
  std::string chain_pem;  // the server's certificate, then its authority
  std::string key_pem;    // the server's
  Digest ca_digest;       // SHA-256 of the authority's DER: in join tokens
  absl::Time expires_at;  // the earlier of the two
};

// DIR/tls/server.pem.
std::string ServerCertificatePath(const std::string& directory);

// Makes what is missing; what is there stays, so clients that pinned it go on.
// names: more host names or addresses for the certificate, besides
// kCertificateName. renew: signs a new server certificate with the authority
// that is there. True: something was made.
// INVALID_ARGUMENT QS1004 a name; FAILED_PRECONDITION QS7002 cannot write,
// QS6011 the authority's files cannot be used.
absl::StatusOr<bool> InitCertificates(const std::string& directory,
                                      const std::vector<std::string>& names,
                                      bool renew, absl::Time now);

// Nothing: DIR/tls does not exist. FAILED_PRECONDITION QS6011: a file is
// missing, cannot be read, may be read by others, or does not fit the others;
// QS6010: a certificate has expired.
absl::StatusOr<std::optional<Certificates>> ReadCertificates(
    const std::string& directory, absl::Time now);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_CERTIFICATES_H_
