// What keeps a coordinator's database safe.
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"
#include "common/base/private_file.h"
#include "common/base/status_macros.h"
#include "common/base/token_text.h"
#include "coordinator/qctl/commands/commands.h"
#include "coordinator/qctl/context.h"

namespace qsweep::qctl {
namespace {

constexpr absl::Duration kOlderThan = absl::Hours(24 * 30);
constexpr int kKept = 7;
constexpr int kMostKept = 1000;

absl::StatusOr<ExitCode> Backup(Context& context) {
  QSWEEP_ASSIGN_OR_RETURN(const int64_t keep, context.arguments().GetInteger(
                                                  "keep", kKept, 1, kMostKept));
  v1::BackupRequest request;
  request.set_keep(static_cast<uint32_t>(keep));
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  QSWEEP_ASSIGN_OR_RETURN(const v1::BackupResponse response,
                          client->Backup(request));
  Table table;
  table.kind = "Backup";
  table.columns = {{"path", "BACKUP"},
                   {"bytes", "BYTES", Form::kNumber},
                   {"removed", "REMOVED", Form::kNumber}};
  table.rows.push_back(
      {response.path(), response.bytes(), response.removed_size()});
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  context.Note(
      "on the coordinator's machine; checked. To use it: stop the "
      "coordinator, then qcoordinator restore --dir DIR --from BACKUP");
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Check(Context& context) {
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  QSWEEP_ASSIGN_OR_RETURN(const v1::CheckDatabaseResponse response,
                          client->CheckDatabase({}));
  Table table;
  table.kind = "DatabaseCheck";
  table.columns = {{"problem", "PROBLEM"}};
  for (const std::string& problem : response.problems()) {
    table.rows.push_back({problem});
  }
  table.empty_text = "The database is sound: pages, indexes and references.";
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  return response.problems().empty() ? ExitCode::kOk : ExitCode::kFailed;
}

// The coordinator deletes some jobs a call, so that others are served.
absl::StatusOr<ExitCode> CollectGarbage(Context& context) {
  const Arguments& arguments = context.arguments();
  QSWEEP_ASSIGN_OR_RETURN(const absl::Duration age,
                          arguments.GetDuration("older-than", kOlderThan));
  const bool dry = arguments.Has("dry-run");
  v1::CollectGarbageRequest request;
  request.set_older_than_ms(
      static_cast<uint64_t>(absl::ToInt64Milliseconds(age)));
  request.set_dry_run(dry);
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  uint64_t jobs = 0;
  uint64_t tasks = 0;
  bool more = true;
  while (more) {
    QSWEEP_ASSIGN_OR_RETURN(const v1::CollectGarbageResponse response,
                            client->CollectGarbage(request));
    jobs += response.jobs();
    tasks += response.tasks();
    more = response.more();
  }
  Table table;
  table.kind = "GarbageCollection";
  table.columns = {{"jobs", dry ? "JOBS TO DELETE" : "JOBS", Form::kNumber},
                   {"tasks", "TASKS", Form::kNumber}};
  table.rows.push_back({jobs, tasks});
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  context.Note(dry ? "nothing was deleted; leave out --dry-run"
                   : "measurements stay: what they measured is not run again");
  return ExitCode::kOk;
}

// The new secret is in FILE.new before it is sent: after a lost answer the same
// command goes on with it.
absl::StatusOr<Secret> SecretFor(const std::string& path, TokenId id) {
  if (path.empty()) {
    return Secret::Make();
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::optional<std::string> kept,
                          ReadPrivateFile(path + ".new"));
  if (kept.has_value()) {
    const auto token = ParseAccessToken(absl::StripAsciiWhitespace(*kept));
    if (token.ok() && token->id == id) {
      return token->secret;
    }
  }
  const Secret secret = Secret::Make();
  QSWEEP_RETURN_IF_ERROR(WritePrivateFile(
      path + ".new",
      FormatToken(AccessTokenText{.id = id, .secret = secret}) + "\n"));
  return secret;
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
  QSWEEP_ASSIGN_OR_RETURN(const Secret secret, SecretFor(path, id));
  v1::RotateTokenRequest request;
  request.set_token_id(static_cast<uint64_t>(number));
  request.set_secret_sha256(secret.digest().bytes());
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  QSWEEP_ASSIGN_OR_RETURN(const v1::RotateTokenResponse response,
                          client->RotateToken(request));
  const std::string token =
      FormatToken(AccessTokenText{.id = id, .secret = secret});
  Table table;
  table.kind = "RotatedToken";
  table.record = true;
  table.columns = {{"token", "number"},
                   {"name", "name"},
                   {"text", path.empty() ? "token" : "kept in"}};
  table.rows = {{absl::StrCat(number), response.token().name(),
                 path.empty() ? token : path}};
  if (!path.empty()) {
    QSWEEP_RETURN_IF_ERROR(WritePrivateFile(path, token + "\n"));
    std::filesystem::remove(path + ".new");
  }
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  context.Note("the old secret is refused from now on");
  return ExitCode::kOk;
}

}  // namespace

std::vector<Command> AdminCommands() {
  return {
      {.path = {"admin", "backup"},
       .group = kOtherGroup,
       .summary = "Copies the coordinator's database while it serves.",
       .examples = {{"qctl admin backup", ""},
                    {"qctl admin backup --keep 30", ""}},
       .flags = {{"keep", 0, "N", "newest copies to keep (default 7)"}},
       .notes = "The copy lies in DIR/backups on the coordinator's machine.",
       .run = Backup},
      {.path = {"admin", "check"},
       .group = kOtherGroup,
       .summary = "Checks the coordinator's database for damage.",
       .examples = {{"qctl admin check", ""}},
       .run = Check},
      {.path = {"admin", "gc"},
       .group = kOtherGroup,
       .summary = "Deletes jobs that ended long ago.",
       .examples = {{"qctl admin gc --dry-run", "what would go"},
                    {"qctl admin gc --older-than 90d", ""}},
       .flags = {{"older-than", 0, "DUR", "since they ended (default 30d)"},
                 {"dry-run", 0, "", "only counts"}},
       .notes = "With their tasks and events. Measurements stay, so nothing is "
                "measured again. The\nnewest job is never deleted.",
       .run = CollectGarbage},
      {.path = {"admin", "rotate-token"},
       .group = kAccessGroup,
       .summary = "Gives a token another secret; the old one ends at once.",
       .examples = {{"qctl admin rotate-token 7", ""},
                    {"qctl admin rotate-token 7 --to ~/token", ""}},
       .positionals = {{"ID", "number of the token"}},
       .flags = {{"to", 0, "FILE", "keep it there, instead of printing it"}},
       .notes = "Number, role, name and end of the token stay.",
       .run = RotateToken},
  };
}

}  // namespace qsweep::qctl
