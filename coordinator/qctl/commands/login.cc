#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/base/token_text.h"
#include "common/rpc/credential.h"
#include "coordinator/qctl/commands/commands.h"
#include "coordinator/qctl/context.h"

namespace qsweep::qctl {
namespace {

// From --token, or the first line of --token-file: a command line can be seen
// by others of the machine.
absl::StatusOr<JoinTokenText> TokenOf(const Context& context) {
  const Arguments& arguments = context.arguments();
  std::string text = arguments.Get("token");
  if (text.empty() && arguments.Has("token-file")) {
    QSWEEP_ASSIGN_OR_RETURN(
        text, ReadTokenFile(context.AbsolutePath(arguments.Get("token-file"))));
  }
  if (text.empty()) {
    return MakeError(kBadCommandLine,
                     "qctl login needs --token or --token-file", "--token",
                     "an admin makes one: qctl tokens create --role submit");
  }
  return ParseJoinToken(text);
}

std::string NameOf(const Environment& environment) {
  const std::string user = environment.Get("USER");
  return user.empty() ? "qctl" : user;
}

absl::StatusOr<ExitCode> Login(Context& context) {
  const Arguments& arguments = context.arguments();
  QSWEEP_ASSIGN_OR_RETURN(const JoinTokenText token, TokenOf(context));
  QSWEEP_ASSIGN_OR_RETURN(const Endpoint endpoint,
                          ParseEndpoint(arguments.Get("HOST:PORT")));
  if (endpoint.unix_socket()) {
    return MakeError(kBadCommandLine, "a socket needs no login", "HOST:PORT",
                     "use --dir DIR or --server unix:PATH");
  }
  const std::string path = context.LoginPath(endpoint.address);
  std::error_code error;
  const std::filesystem::path folder =
      std::filesystem::path(path).parent_path();
  std::filesystem::create_directories(folder, error);
  if (error) {
    return MakeError(kCannotWrite, error.message(), folder.string(),
                     "set XDG_CONFIG_HOME to a folder you may write");
  }
  const std::string name = arguments.Has("name")
                               ? arguments.Get("name")
                               : NameOf(context.environment());
  QSWEEP_ASSIGN_OR_RETURN(const Credential credential,
                          JoinCoordinator(endpoint.address, token, name, path));
  Table table;
  table.kind = "Login";
  table.record = true;
  table.columns = {{"server", "server"}, {"file", "kept in"}};
  table.rows = {{credential.address, path}};
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  context.SuggestNext(
      {absl::StrCat("export QCTL_SERVER=", credential.address),
       absl::StrCat("qctl jobs --server ", credential.address)});
  return ExitCode::kOk;
}

}  // namespace

std::vector<Command> LoginCommands() {
  return {
      {.path = {"login"},
       .group = kAccessGroup,
       .summary = "Joins a coordinator on another machine, with a token.",
       .examples = {{"qctl login sweeps.example.org:7680 --token qsw-join-...",
                     ""},
                    {"qctl login 10.0.0.7:7680 --token-file token.txt", ""}},
       .positionals = {{"HOST:PORT", "where the coordinator listens"}},
       .flags = {{"token", 0, "TOKEN", "join token an admin gave you"},
                 {"name", 0, "N", "who you are, in the list of tokens"}},
       .notes =
           "The server must first prove that it is the one the token names. "
           "Then its certificate\nis pinned and an access token of your own "
           "kept in a file that --server and\nQCTL_SERVER find.",
       .run = Login},
  };
}

}  // namespace qsweep::qctl
