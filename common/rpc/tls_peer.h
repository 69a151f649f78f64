#ifndef QSWEEP_COMMON_RPC_TLS_PEER_H_
#define QSWEEP_COMMON_RPC_TLS_PEER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/base/digest.h"

namespace qsweep {

// The name in every coordinator's certificate. Clients ask for it instead of
// the host's, so a coordinator may move or have any number of names.
inline constexpr char kCertificateName[] = "qsweep-coordinator";

// The certificate authority, as PEM, that the server at "host:port" shows and
// whose DER has this SHA-256. A handshake that verifies nothing else; not a
// byte of ours is sent after it. UNAVAILABLE QS4001: nobody answers there, or
// not with TLS. PERMISSION_DENIED QS6008: the server shows another one.
absl::StatusOr<std::string> FetchCertificateAuthority(
    const std::string& address, const Digest& expected, absl::Duration timeout);

// A handshake as gRPC does it, to say why that fails. UNAVAILABLE QS4001 as
// above; FAILED_PRECONDITION QS6010: the server's certificate has expired;
// PERMISSION_DENIED QS6008: it is not one of this authority's.
absl::Status CheckServerCertificate(const std::string& address,
                                    const std::string& ca_pem,
                                    absl::Duration timeout);

// SHA-256 of the DER of the first certificate in `pem`. FAILED_PRECONDITION
// QS6011: there is none.
absl::StatusOr<Digest> DigestOfCertificate(const std::string& pem);

// A file with a certificate in PEM form. FAILED_PRECONDITION QS6011.
absl::StatusOr<std::string> ReadCertificateFile(const std::string& path);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_RPC_TLS_PEER_H_
