#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

#include "common/base/error_codes.h"
#include "common/base/private_file.h"
#include "common/base/status_macros.h"
#include "common/base/token_text.h"
#include "common/rpc/credential.h"
#include "coordinator/qctl/commands/commands.h"
#include "coordinator/qctl/context.h"

namespace qsweep::qctl {
namespace {

// Where the new secret lies until the user has it.
absl::StatusOr<std::string> PendingPath(const Context& context,
                                        const std::string& address, TokenId id,
                                        const std::string& to) {
  if (!to.empty()) {
    return to + ".new";
  }
  const std::string folder =
      absl::StrCat(context.environment().StateDir(), "/rotations");
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return MakeError(kCannotWrite, error.message(), folder,
                     "set XDG_STATE_HOME to a folder you may write, or give "
                     "--to FILE");
  }
  return absl::StrCat(folder, "/", absl::StrReplaceAll(address, {{"/", "%"}}),
                      "-", id.value());
}

std::string TextOf(TokenId id, const Secret& secret) {
  return FormatToken(AccessTokenText{.id = id, .secret = secret});
}

// A rotation that has begun.
struct Rotation {
  Secret secret;                // the new one; no user has seen it
  std::optional<Secret> shown;  // the token's since a try that did not end
};

// Follows the token in a line of the file.
constexpr absl::string_view kShown = " shown";

// Its secret is on disk before it is sent: after a lost answer the same command
// goes on with it. One that a user may have seen only opens the door for the
// next: to give it again would leave the token with the secret that is to end.
absl::StatusOr<Rotation> BeginRotation(const std::string& path, TokenId id) {
  QSWEEP_ASSIGN_OR_RETURN(const std::optional<std::string> kept,
                          ReadPrivateFile(path));
  std::optional<Secret> shown;
  for (absl::string_view line :
       absl::StrSplit(kept.value_or(""), '\n', absl::SkipWhitespace())) {
    const bool was_shown = absl::ConsumeSuffix(&line, kShown);
    const auto token = ParseAccessToken(line);
    if (!token.ok() || token->id != id) {
      continue;
    }
    if (!was_shown) {
      return Rotation{.secret = token->secret, .shown = shown};
    }
    shown = token->secret;
  }
  const Secret secret = Secret::Make();
  const std::string first =
      shown ? absl::StrCat(TextOf(id, *shown), kShown, "\n") : "";
  QSWEEP_RETURN_IF_ERROR(
      WritePrivateFile(path, absl::StrCat(first, TextOf(id, secret), "\n")));
  return Rotation{.secret = secret, .shown = shown};
}

bool IsTextOf(const std::string& token, TokenId id) {
  const auto text = ParseAccessToken(token);
  return text.ok() && text->id == id;
}

absl::StatusOr<v1::RotateTokenResponse> Rotate(Context& context,
                                               Endpoint endpoint, TokenId id,
                                               const Rotation& rotation) {
  v1::RotateTokenRequest request;
  request.set_token_id(static_cast<uint64_t>(id.value()));
  request.set_secret_sha256(rotation.secret.digest().bytes());
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  auto response = client->RotateToken(request);
  if (!IsTextOf(endpoint.token, id)) {
    return response;
  }
  // The caller's own token, rotated by a try that did not end: whoever shows
  // the secret it has now may ask again.
  for (const std::optional<Secret>& secret :
       {std::optional(rotation.secret), rotation.shown}) {
    if (secret && absl::IsUnauthenticated(response.status())) {
      endpoint.token = TextOf(id, *secret);
      response = CoordinatorClient(endpoint).RotateToken(request);
    }
  }
  return response;
}

// A login with this token goes on with the new one.
absl::Status RenewLogin(const std::string& path, TokenId id,
                        const std::string& token) {
  QSWEEP_ASSIGN_OR_RETURN(std::optional<Credential> login,
                          ReadCredential(path));
  if (!login.has_value() || !IsTextOf(login->token, id)) {
    return absl::OkStatus();
  }
  login->token = token;
  return WriteCredential(path, *login);
}

absl::StatusOr<ExitCode> RotateToken(Context& context) {
  const std::string text = context.arguments().Get("ID");
  int64_t number = 0;
  if (!absl::SimpleAtoi(text, &number) || number <= 0) {
    return MakeError(kBadValue, absl::StrCat("\"", text, "\" is not a number"),
                     "ID", "see qctl tokens list");
  }
  const TokenId id(number);
  std::string path = context.arguments().Get("to");
  path = path.empty() ? path : context.AbsolutePath(path);
  QSWEEP_ASSIGN_OR_RETURN(const Endpoint endpoint, context.FindEndpoint());
  QSWEEP_ASSIGN_OR_RETURN(const std::string pending,
                          PendingPath(context, endpoint.address, id, path));
  QSWEEP_ASSIGN_OR_RETURN(const Rotation rotation, BeginRotation(pending, id));
  QSWEEP_ASSIGN_OR_RETURN(const v1::RotateTokenResponse response,
                          Rotate(context, endpoint, id, rotation));
  const std::string token = TextOf(id, rotation.secret);
  QSWEEP_RETURN_IF_ERROR(
      RenewLogin(context.LoginPath(endpoint.address), id, token));
  QSWEEP_RETURN_IF_ERROR(
      WritePrivateFile(pending, absl::StrCat(token, kShown, "\n")));
  if (!path.empty()) {
    QSWEEP_RETURN_IF_ERROR(WritePrivateFile(path, token + "\n"));
  }
  Table table;
  table.kind = "RotatedToken";
  table.record = true;
  table.columns = {{"token", "number"},
                   {"name", "name"},
                   {"text", path.empty() ? "token" : "kept in"}};
  table.rows = {{absl::StrCat(number), response.token().name(),
                 path.empty() ? token : path}};
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  std::error_code error;  // one that stays says that it was shown
  std::filesystem::remove(pending, error);
  context.Note("the old secret is refused from now on");
  return ExitCode::kOk;
}

}  // namespace

std::vector<Command> RotateTokenCommands() {
  return {
      {.path = {"admin", "rotate-token"},
       .group = kAccessGroup,
       .summary = "Gives a token another secret; the old one ends at once.",
       .examples = {{"qctl admin rotate-token 7", ""},
                    {"qctl admin rotate-token 7 --to ~/token", ""}},
       .positionals = {{"ID", "number of the token"}},
       .flags = {{"to", 0, "FILE", "keep it there, instead of printing it"}},
       .notes = "Number, role, name and end of the token stay. After a lost "
                "answer the same command\ngoes on, also with one's own token; "
                "a secret that was shown is never given again.\nA login that "
                "has the token is renewed.",
       .run = RotateToken},
  };
}

}  // namespace qsweep::qctl
