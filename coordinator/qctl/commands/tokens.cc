#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "common/base/digest.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/base/token_text.h"
#include "common/job/role.h"
#include "coordinator/qctl/commands/commands.h"
#include "coordinator/qctl/context.h"
#include "coordinator/qctl/names.h"

namespace qsweep::qctl {
namespace {

constexpr absl::Duration kDefaultTtl = absl::Hours(24);
// A time, or null for 0: never.
Value TimeOrNever(int64_t micros) {
  return micros == 0 ? Value() : Value(TimeOf(micros));
}

std::string StateOf(const v1::Token& token, absl::Time now) {
  if (token.revoked_at_us() != 0) {
    return "revoked";
  }
  if (token.expires_at_us() != 0 && TimeOf(token.expires_at_us()) <= now) {
    return "expired";
  }
  const bool used = token.kind() == v1::TOKEN_KIND_JOIN && !token.reusable() &&
                    token.uses() > 0;
  return used ? "used" : "valid";
}

Table TokenTable(const std::vector<v1::Token>& tokens, absl::Time now) {
  Table table;
  table.kind = "TokenList";
  table.name_prefix = "token/";
  table.columns = {
      {"token", "TOKEN", Form::kNumber},
      {"kind", "KIND"},
      {"role", "ROLE"},
      {"name", "NAME"},
      {"state", "STATE"},
      {"uses", "USES", Form::kNumber},
      {"joined_with", "JOINED WITH", Form::kNumber, Audience::kWide},
      {"reusable", "REUSABLE", Form::kText, Audience::kWide},
      {"created_by", "BY"},
      {"created_at", "AGE", Form::kAge},
      {"expires_at", "EXPIRES"},
      {"revoked_at", "REVOKED", Form::kText, Audience::kWide}};
  for (const v1::Token& token : tokens) {
    const bool join = token.kind() == v1::TOKEN_KIND_JOIN;
    table.rows.push_back(
        {absl::StrCat(token.token_id()), join ? "join" : "access",
         std::string(RoleName(token.role())), token.name(), StateOf(token, now),
         join ? Value(token.uses()) : Value(),
         token.joined_with() == 0 ? Value()
                                  : Value(absl::StrCat(token.joined_with())),
         join ? Value(token.reusable()) : Value(), token.created_by(),
         TimeOf(token.created_at_us()), TimeOrNever(token.expires_at_us()),
         TimeOrNever(token.revoked_at_us())});
  }
  table.empty_text = "No tokens. Make one: qctl tokens create --role worker";
  return table;
}

absl::StatusOr<v1::CreateTokenRequest> MakeCreateRequest(
    const Arguments& arguments) {
  v1::CreateTokenRequest request;
  request.set_role(RoleOf(arguments.Get("role")));
  if (request.role() == v1::ROLE_UNSPECIFIED) {
    return MakeError(kBadCommandLine, "qctl tokens create needs --role",
                     "--role", "one of read, submit, worker, admin");
  }
  const bool direct = arguments.Has("direct");
  if (direct && (arguments.Has("reusable") || arguments.Has("ttl"))) {
    return MakeError(kBadCommandLine,
                     "--ttl and --reusable are for tokens that join",
                     "--direct", "leave out --direct, or give --expires alone");
  }
  QSWEEP_ASSIGN_OR_RETURN(const absl::Duration ttl,
                          arguments.GetDuration("ttl", kDefaultTtl));
  QSWEEP_ASSIGN_OR_RETURN(
      const absl::Duration expires,
      arguments.GetDuration("expires", absl::ZeroDuration()));
  const auto ms = [](absl::Duration duration) {
    return static_cast<uint64_t>(absl::ToInt64Milliseconds(duration));
  };
  request.set_kind(direct ? v1::TOKEN_KIND_ACCESS : v1::TOKEN_KIND_JOIN);
  request.set_name(arguments.Get("name"));
  request.set_reusable(arguments.Has("reusable"));
  request.set_ttl_ms(ms(direct ? expires : ttl));
  request.set_lifetime_ms(direct ? 0 : ms(expires));
  return request;
}

// The secret is made here and shown once: the coordinator gets its SHA-256.
absl::StatusOr<ExitCode> Create(Context& context) {
  QSWEEP_ASSIGN_OR_RETURN(v1::CreateTokenRequest request,
                          MakeCreateRequest(context.arguments()));
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  const Secret secret = Secret::Make();
  request.set_secret_sha256(secret.digest().bytes());
  QSWEEP_ASSIGN_OR_RETURN(const v1::CreateTokenResponse response,
                          client->CreateToken(request));
  const v1::Token& token = response.token();
  const TokenId id(static_cast<int64_t>(token.token_id()));
  std::string text;
  if (token.kind() == v1::TOKEN_KIND_JOIN) {
    QSWEEP_ASSIGN_OR_RETURN(const Digest ca,
                            Digest::FromBytes(response.ca_sha256()));
    text = FormatToken(JoinTokenText{.ca = ca, .id = id, .secret = secret});
  } else {
    text = FormatToken(AccessTokenText{.id = id, .secret = secret});
  }
  Table table;
  table.kind = "NewToken";
  table.record = true;
  table.name_prefix = "token/";
  table.name_column = "token";
  table.columns = {{"text", "token"},
                   {"token", "number"},
                   {"role", "role"},
                   {"expires_at", "expires"}};
  table.rows = {{text, absl::StrCat(token.token_id()),
                 std::string(RoleName(token.role())),
                 TimeOrNever(token.expires_at_us())}};
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  context.Note("keep it secret: it is shown only this once");
  if (token.kind() == v1::TOKEN_KIND_JOIN) {
    context.SuggestNext({token.role() == v1::ROLE_WORKER
                             ? "qworker --server HOST:PORT --dir w --join TOKEN"
                             : "qctl login HOST:PORT --token TOKEN"});
  }
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> ListTokens(Context& context) {
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  QSWEEP_ASSIGN_OR_RETURN(const v1::ListTokensResponse response,
                          client->ListTokens({}));
  QSWEEP_RETURN_IF_ERROR(context.Print(
      TokenTable({response.tokens().begin(), response.tokens().end()},
                 context.style().now)));
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Revoke(Context& context) {
  const std::string id = context.arguments().Get("ID");
  v1::RevokeTokenRequest request;
  uint64_t number = 0;
  if (!absl::SimpleAtoi(id, &number)) {
    return MakeError(kBadValue, absl::StrCat("\"", id, "\" is not a number"),
                     "ID", "see qctl tokens list");
  }
  request.set_token_id(number);
  request.set_joined_too(context.arguments().Has("joined"));
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  QSWEEP_ASSIGN_OR_RETURN(const v1::RevokeTokenResponse response,
                          client->RevokeToken(request));
  Table table =
      TokenTable({response.revoked().begin(), response.revoked().end()},
                 context.style().now);
  table.empty_text = absl::StrCat("Token ", id, " was revoked before.");
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  return ExitCode::kOk;
}

}  // namespace

std::vector<Command> TokensCommands() {
  return {
      {.path = {"tokens", "create"},
       .group = kAccessGroup,
       .summary = "Makes a token for a person, a program or workers.",
       .examples =
           {{"qctl tokens create --role worker", "lets one worker join"},
            {"qctl tokens create --role worker --reusable --ttl 2h",
             "any number of workers, for two hours"},
            {"qctl tokens create --role read --name reviewer --expires 30d",
             ""}},
       .flags = {{"role",
                  0,
                  "ROLE",
                  "read, submit (and read), worker, admin",
                  false,
                  {"read", "submit", "worker", "admin"}},
                 {"name", 0, "N",
                  "who it is for: the owner of what it submits"},
                 {"ttl", 0, "DUR", "how long it can be used to join (24h)"},
                 {"expires", 0, "DUR",
                  "end of the access it gives, from then on (none)"},
                 {"reusable", 0, "", "may join more than once"},
                 {"direct", 0, "",
                  "a token to use as it is, with --token-file; nothing to "
                  "join"}},
       .notes = "The token is printed once; the coordinator keeps its SHA-256 "
                "only. It names the\ncoordinator's certificate, so who joins "
                "with it cannot be led to another server.",
       .run = Create},
      {.path = {"tokens", "list"},
       .group = kAccessGroup,
       .summary = "Lists tokens: who may do what, until when.",
       .examples = {{"qctl tokens", ""}, {"qctl tokens list -o wide", ""}},
       .run = ListTokens},
      {.path = {"tokens", "revoke"},
       .group = kAccessGroup,
       .summary = "Ends a token; its next call is refused.",
       .examples = {{"qctl tokens revoke 7", ""},
                    {"qctl tokens revoke 7 --joined",
                     "and all that joined with it"}},
       .positionals = {{"ID", "number of the token"}},
       .flags = {{"joined", 0, "",
                  "of a join token: also the tokens it was exchanged for"}},
       .notes = "A worker's stream ends at once. Tasks it holds are queued "
                "again when its lease\nruns out.",
       .run = Revoke},
  };
}

}  // namespace qsweep::qctl
