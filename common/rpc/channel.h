#ifndef QSWEEP_COMMON_RPC_CHANNEL_H_
#define QSWEEP_COMMON_RPC_CHANNEL_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace grpc {
class Channel;
class ClientContext;
}  // namespace grpc

namespace qsweep {

// The largest message that a coordinator takes, gRPC's default; what may be
// larger goes in parts. A longer one ends with RESOURCE_EXHAUSTED.
inline constexpr size_t kMaxMessageBytes = size_t{4} << 20;

// Where a coordinator listens and what to show it. Value.
struct Endpoint {
  std::string address;  // "unix:/absolute/or/relative/path" or "host:port"
  std::string token;    // bearer token for TCP; a unix socket needs none
  std::string ca_pem;   // the only authority trusted; empty: no encryption
  // Longest pause between attempts to connect. The coordinator's Welcome tells
  // workers a shorter one in tests.
  absl::Duration reconnect_backoff_max = absl::Seconds(20);

  bool unix_socket() const { return address.rfind("unix:", 0) == 0; }
};

// Checks "unix:PATH" (at most 107 bytes of path, a limit of the system) or
// "HOST:PORT"; ":PORT" and "HOST" get the defaults localhost and 7680.
// INVALID_ARGUMENT QS1004.
absl::StatusOr<Endpoint> ParseEndpoint(absl::string_view address,
                                       absl::string_view token = "");

// "localhost", "[::1]" or an address of 127.0.0.0/8 in numbers: what cannot
// mean another machine. "127.example.org" can.
bool IsLoopbackHost(absl::string_view host);

// INVALID_ARGUMENT QS6009: the calls would leave the machine, and there is no
// pinned authority to encrypt them for.
absl::Status CheckEncrypted(const Endpoint& endpoint);

// The first line of a token file, without white space. NOT_FOUND QS6001 when it
// cannot be read, INVALID_ARGUMENT QS6001 when it is empty.
absl::StatusOr<std::string> ReadTokenFile(const std::string& path);

// A channel that connects when first used: with TLS when there is a pinned
// authority, and then only to a server with the coordinator's name. Keepalive
// 30 s + 15 s, pings also between data; reconnect back-off 1 s to
// endpoint.reconnect_backoff_max. Each channel has its own connection.
std::shared_ptr<grpc::Channel> MakeChannel(const Endpoint& endpoint);

// Adds the bearer token as metadata "authorization" to a call. Call credentials
// cannot: gRPC refuses them on plaintext channels.
void AddToken(const Endpoint& endpoint, grpc::ClientContext& context);

// What a failed call means to people: UNAVAILABLE without a code of ours is
// QS4001 with the address and the command that starts a coordinator,
// UNAUTHENTICATED without one QS6001. Everything else is returned as it is.
absl::Status ExplainCallStatus(const Endpoint& endpoint,
                               const absl::Status& status);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_RPC_CHANNEL_H_
