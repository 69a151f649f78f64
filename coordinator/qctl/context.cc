#include "coordinator/qctl/context.h"

#include <filesystem>
#include <fstream>
#include <ostream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

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
  return ParseEndpoint(
      address, arguments_.Has("token-file")
                   ? FirstLine(AbsolutePath(arguments_.Get("token-file")))
                   : FirstLine(dir + "/token"));
}

absl::StatusOr<Endpoint> Context::EndpointOfAddress(
    const std::string& address) const {
  std::string token_file = arguments_.Get("token-file");
  if (token_file.empty()) {
    token_file = environment_.Get("QCTL_TOKEN_FILE");
  }
  if (token_file.empty()) {
    return ParseEndpoint(address);
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::string token,
                          ReadTokenFile(AbsolutePath(token_file)));
  return ParseEndpoint(address, token);
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
    client_ = std::make_unique<CoordinatorClient>(endpoint);
  }
  return client_.get();
}

}  // namespace qsweep::qctl
