#include "coordinator/service/listen_address.h"

#include <cstring>
#include <filesystem>
#include <system_error>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/rpc/channel.h"

namespace qsweep {
namespace {

constexpr char kUnixPrefix[] = "unix:";

// True: a process listens on the socket.
bool SomebodyAnswers(const std::string& path) {
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) {
    return false;
  }
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): the socket API
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  const bool connected = connect(descriptor, generic, sizeof(address)) == 0;
  close(descriptor);
  return connected;
}

}  // namespace

absl::StatusOr<ListenAddress> ParseListenAddress(absl::string_view text) {
  if (absl::StartsWith(text, kUnixPrefix)) {
    QSWEEP_ASSIGN_OR_RETURN(const Endpoint endpoint, ParseEndpoint(text));
    return ListenAddress{
        .address = endpoint.address,
        .socket_path = endpoint.address.substr(std::strlen(kUnixPrefix))};
  }
  const size_t colon = text.rfind(':');
  int port = -1;
  if (colon == absl::string_view::npos ||
      !absl::SimpleAtoi(text.substr(colon + 1), &port) || port < 0 ||
      port > 65535) {
    return MakeError(kBadValue, absl::StrCat("no address: '", text, "'"),
                     "--listen", "use unix:PATH or HOST:PORT");
  }
  return ListenAddress{
      .address = std::string(text),
      .leaves_machine = !IsLoopbackHost(text.substr(0, colon))};
}

absl::Status PrepareSocket(const ListenAddress& listen) {
  if (listen.socket_path.empty()) {
    return absl::OkStatus();
  }
  const std::filesystem::path path(listen.socket_path);
  if (const auto folder = path.parent_path();
      !folder.empty() && !std::filesystem::exists(folder)) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error || chmod(folder.c_str(), 0700) != 0) {
      return MakeError(kCannotWrite,
                       absl::StrCat("cannot make the folder ", folder.string()),
                       folder.string());
    }
  }
  struct stat info = {};
  if (lstat(path.c_str(), &info) != 0) {
    return absl::OkStatus();
  }
  if (!S_ISSOCK(info.st_mode)) {
    return MakeError(kPortInUse,
                     absl::StrCat(path.string(), " exists and is no socket"),
                     path.string(), "give another --listen unix:PATH");
  }
  if (SomebodyAnswers(listen.socket_path)) {
    return MakeError(kPortInUse,
                     absl::StrCat("another program listens on ", path.string()),
                     path.string(),
                     "use that coordinator, stop it first, or give another "
                     "--listen");
  }
  unlink(path.c_str());
  return absl::OkStatus();
}

absl::Status AddressTaken(const std::string& address) {
  return MakeError(
      kPortInUse, absl::StrCat("cannot listen on ", address), "--listen",
      "another program may use the address; give another one, or port 0 for "
      "any that is free");
}

absl::Status CertificateNeeded(const std::string& address,
                               const std::string& directory) {
  return MakeError(
      kPlaintext,
      absl::StrCat("cannot listen on ", address,
                   ": there is no certificate to encrypt calls with"),
      "--listen",
      absl::StrCat("make one: qcoordinator init --dir ", directory));
}

}  // namespace qsweep
