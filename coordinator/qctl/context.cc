#include "coordinator/qctl/context.h"

#include <filesystem>
#include <fstream>
#include <optional>
#include <ostream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/rpc/credential.h"
#include "common/rpc/tls_peer.h"

namespace qsweep::qctl {
namespace {

constexpr char kDefaultDir[] = ".qsweep";

// The first line of a file without white space; "" when it cannot be read.
std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return std::string(absl::StripAsciiWhitespace(line));
}

// Whether the coordinator that wrote the file encrypts calls to its address.
bool IsEncrypted(const std::string& server_path) {
  std::ifstream file(server_path);
  std::string address;
  std::string mark;
  return std::getline(file, address) && std::getline(file, mark) &&
         mark == "tls";
}

}  // namespace

Context::Context(const Environment& environment, Arguments arguments,
                 OutputStyle style)
    : environment_(environment),
      arguments_(std::move(arguments)),
      style_(std::move(style)) {}

Context::~Context() = default;

absl::Status Context::Print(const Table& table) {
  QSWEEP_ASSIGN_OR_RETURN(const std::string text, Render(table, style_));
  PrintRaw(text);
  return absl::OkStatus();
}

void Context::PrintRaw(absl::string_view text) {
  *environment_.out << text << std::flush;
}

void Context::Note(absl::string_view line) {
  if (!arguments_.Has("quiet")) {
    *environment_.err << line << "\n" << std::flush;
  }
}

void Context::SuggestNext(const std::vector<std::string>& commands) {
  if (for_people()) {
    Note(absl::StrCat("next:  ", absl::StrJoin(commands, "   |   ")));
  }
}

std::string Context::AbsolutePath(absl::string_view path) const {
  return (std::filesystem::path(environment_.working_dir) / std::string(path))
      .lexically_normal()
      .string();
}

std::string Context::ClusterDir() const {
  std::string dir = arguments_.Get("dir");
  if (dir.empty()) {
    dir = environment_.Get("QCTL_DIR");
  }
  std::string path = AbsolutePath(dir.empty() ? kDefaultDir : dir);
  while (path.size() > 1 && path.back() == '/') {
    path.pop_back();
  }
  return path;
}

std::string Context::ServerFlags() const {
  if (arguments_.Has("server")) {
    return absl::StrCat(" --server ", arguments_.Get("server"));
  }
  if (arguments_.Has("dir")) {
    return absl::StrCat(" --dir ", arguments_.Get("dir"));
  }
  return "";
}

absl::StatusOr<Endpoint> Context::EndpointOfDir(const std::string& dir) const {
  const std::string address = FirstLine(dir + "/server");
  if (address.empty()) {
    return MakeError(
        kUnreachable, absl::StrCat("no coordinator was started in ", dir),
        dir + "/server",
        absl::StrCat("qctl up", arguments_.Has("dir") ? ServerFlags() : "",
                     ", or --server ADDR for another one"));
  }
  QSWEEP_ASSIGN_OR_RETURN(
      Endpoint endpoint,
      ParseEndpoint(address,
                    arguments_.Has("token-file")
                        ? FirstLine(AbsolutePath(arguments_.Get("token-file")))
                        : FirstLine(dir + "/token")));
  if (IsEncrypted(dir + "/server")) {
    QSWEEP_ASSIGN_OR_RETURN(endpoint.ca_pem,
                            ReadCertificateFile(dir + "/tls/ca.pem"));
  }
  return WithAuthority(std::move(endpoint));
}

// What `login` keeps of the server; --token-file and --ca-file win over it.
absl::StatusOr<Endpoint> Context::EndpointOfAddress(
    const std::string& address) const {
  QSWEEP_ASSIGN_OR_RETURN(Endpoint endpoint, ParseEndpoint(address));
  if (!endpoint.unix_socket()) {
    QSWEEP_ASSIGN_OR_RETURN(const std::optional<Credential> login,
                            ReadCredential(LoginPath(endpoint.address)));
    if (login.has_value()) {
      endpoint = login->endpoint();
    }
  }
  std::string token_file = arguments_.Get("token-file");
  if (token_file.empty()) {
    token_file = environment_.Get("QCTL_TOKEN_FILE");
  }
  if (!token_file.empty()) {
    QSWEEP_ASSIGN_OR_RETURN(endpoint.token,
                            ReadTokenFile(AbsolutePath(token_file)));
  }
  return WithAuthority(std::move(endpoint));
}

absl::StatusOr<Endpoint> Context::WithAuthority(Endpoint endpoint) const {
  if (arguments_.Has("ca-file")) {
    QSWEEP_ASSIGN_OR_RETURN(
        endpoint.ca_pem,
        ReadCertificateFile(AbsolutePath(arguments_.Get("ca-file"))));
  }
  return endpoint;
}

std::string Context::LoginPath(const std::string& address) const {
  const std::string xdg = environment_.Get("XDG_CONFIG_HOME");
  std::string name;
  for (const char c : address) {
    name.push_back(c == '/' ? '%' : c);
  }
  return absl::StrCat(xdg.empty() ? environment_.Get("HOME") + "/.config" : xdg,
                      "/qsweep/servers/", name);
}

absl::StatusOr<Endpoint> Context::FindEndpoint() const {
  if (arguments_.Has("server")) {
    return EndpointOfAddress(arguments_.Get("server"));
  }
  if (!arguments_.Has("dir") && !environment_.Get("QCTL_SERVER").empty()) {
    return EndpointOfAddress(environment_.Get("QCTL_SERVER"));
  }
  return EndpointOfDir(ClusterDir());
}

absl::StatusOr<CoordinatorClient*> Context::Client() {
  if (client_ == nullptr) {
    QSWEEP_ASSIGN_OR_RETURN(const Endpoint endpoint, FindEndpoint());
    QSWEEP_RETURN_IF_ERROR(CheckEncrypted(endpoint));
    client_ = std::make_unique<CoordinatorClient>(endpoint);
  }
  return client_.get();
}

}  // namespace qsweep::qctl
