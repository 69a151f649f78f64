#include "common/rpc/channel.h"

#include <algorithm>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include <arpa/inet.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <netinet/in.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/rpc/lock_checks.h"
#include "common/rpc/tls_peer.h"

namespace qsweep {
namespace {

constexpr size_t kMaxUnixPathBytes = 107;  // sockaddr_un.sun_path
constexpr int kDefaultPort = 7680;
constexpr int kKeepaliveTimeMs = 30'000;  // below the 60 s of common NATs
constexpr int kKeepaliveTimeoutMs = 15'000;
constexpr int kReconnectBackoffMs = 1'000;
// gRPC calls it the minimum back-off; it is how long one attempt may take.
constexpr int kConnectTimeoutMs = 15'000;
// Results of a large sweep in one message; the default is 4 MiB.
constexpr int kMaxReceiveBytes = 256 << 20;

}  // namespace

absl::StatusOr<Endpoint> ParseEndpoint(absl::string_view address,
                                       absl::string_view token) {
  const auto refuse = [&](absl::string_view why) {
    return MakeError(kBadValue,
                     absl::StrCat("server address '", address, "': ", why),
                     "server", "use unix:PATH or HOST:PORT");
  };
  Endpoint endpoint;
  endpoint.token = std::string(token);
  absl::string_view rest = address;
  if (absl::ConsumePrefix(&rest, "unix:")) {
    if (rest.empty() || rest.size() > kMaxUnixPathBytes) {
      return refuse(absl::StrCat("a socket path has 1 to ", kMaxUnixPathBytes,
                                 " bytes, this one has ", rest.size()));
    }
    endpoint.address = std::string(address);
    return endpoint;
  }
  const size_t colon = address.rfind(':');
  absl::string_view host = address.substr(0, colon);
  int port = kDefaultPort;
  if (colon != absl::string_view::npos &&
      (!absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 1 ||
       port > 65535)) {
    return refuse("the port is a number from 1 to 65535");
  }
  if (address.empty()) {
    return refuse("it is empty");
  }
  if (host.empty()) {
    host = "localhost";
  }
  endpoint.address = absl::StrCat(host, ":", port);
  return endpoint;
}

bool IsLoopbackHost(absl::string_view host) {
  if (host == "localhost" || host == "[::1]") {
    return true;
  }
  in_addr address = {};
  return inet_pton(AF_INET, std::string(host).c_str(), &address) == 1 &&
         (ntohl(address.s_addr) >> 24) == 127;
}

absl::Status CheckEncrypted(const Endpoint& endpoint) {
  const absl::string_view host = absl::string_view(endpoint.address)
                                     .substr(0, endpoint.address.rfind(':'));
  if (endpoint.unix_socket() || !endpoint.ca_pem.empty() ||
      IsLoopbackHost(host)) {
    return absl::OkStatus();
  }
  return MakeError(
      kPlaintext,
      absl::StrCat("no pinned certificate for ", endpoint.address,
                   ": the calls would not be encrypted"),
      "server",
      "join first (qctl login HOST:PORT --token T, qworker --join T), or name "
      "the coordinator's certificate with --ca-file");
}

absl::StatusOr<std::string> ReadTokenFile(const std::string& path) {
  constexpr char kHint[] = "name the file the coordinator wrote: DIR/token";
  std::ifstream file(path);
  std::string line;
  if (!file || !std::getline(file, line)) {
    return MakeError(kNotAuthenticated,
                     absl::StrCat("cannot read a token from '", path, "'"),
                     "token-file", kHint);
  }
  const absl::string_view token = absl::StripAsciiWhitespace(line);
  if (token.empty()) {
    return MakeError(kNotAuthenticated,
                     absl::StrCat("the token file '", path, "' is empty"),
                     "token-file", kHint);
  }
  return std::string(token);
}

std::shared_ptr<grpc::Channel> MakeChannel(const Endpoint& endpoint) {
  DisableGrpcLockChecks();
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  const auto max_ms = static_cast<int>(
      absl::ToInt64Milliseconds(endpoint.reconnect_backoff_max));
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS,
                   std::min(kReconnectBackoffMs, max_ms));
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectTimeoutMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, max_ms);
  // Not shared with other channels of the process: their back-off is not ours.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  if (endpoint.ca_pem.empty()) {
    return grpc::CreateCustomChannel(
        endpoint.address, grpc::InsecureChannelCredentials(), arguments);
  }
  grpc::SslCredentialsOptions trust;
  trust.pem_root_certs = endpoint.ca_pem;
  arguments.SetSslTargetNameOverride(kCertificateName);
  return grpc::CreateCustomChannel(endpoint.address,
                                   grpc::SslCredentials(trust), arguments);
}

void AddToken(const Endpoint& endpoint, grpc::ClientContext& context) {
  if (!endpoint.token.empty()) {
    context.AddMetadata("authorization",
                        absl::StrCat("Bearer ", endpoint.token));
  }
}

absl::Status ExplainCallStatus(const Endpoint& endpoint,
                               const absl::Status& status) {
  if (GetErrorInfo(status)) {
    return status;
  }
  if (absl::IsUnavailable(status)) {
    absl::string_view path = endpoint.address;
    std::string directory = "DIR";
    if (absl::ConsumePrefix(&path, "unix:")) {
      const size_t slash = path.rfind('/');
      directory = slash == absl::string_view::npos
                      ? "."
                      : std::string(path.substr(0, std::max<size_t>(slash, 1)));
    }
    return MakeError(kUnreachable,
                     absl::StrCat("no coordinator answers at ",
                                  endpoint.address, ": ", status.message()),
                     "server",
                     absl::StrCat("start one: qctl up --dir ", directory));
  }
  if (absl::IsUnauthenticated(status)) {
    return MakeError(kNotAuthenticated, status.message(), "token-file",
                     "name the file the coordinator wrote: DIR/token");
  }
  return status;
}

}  // namespace qsweep
