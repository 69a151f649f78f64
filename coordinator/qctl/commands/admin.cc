// What keeps a coordinator's database safe.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/status_macros.h"
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
  uint64_t workers = 0;
  v1::CollectGarbageResponse response;
  do {
    QSWEEP_ASSIGN_OR_RETURN(response, client->CollectGarbage(request));
    jobs += response.jobs();
    tasks += response.tasks();
    workers += response.workers();
  } while (response.more());
  Table table;
  table.kind = "GarbageCollection";
  table.columns = {{"jobs", dry ? "JOBS TO DELETE" : "JOBS", Form::kNumber},
                   {"tasks", "TASKS", Form::kNumber},
                   {"workers", "WORKERS", Form::kNumber},
                   {"results_bytes", "RESULTS HELD", Form::kBytes},
                   {"results_freed_bytes", "RESULTS FREED", Form::kBytes}};
  // Of the last call; none from a coordinator of an older version.
  const auto known = [](bool has, uint64_t count) {
    return has ? Value(count) : Value();
  };
  table.rows.push_back(
      {jobs, tasks, known(response.has_workers(), workers),
       known(response.has_results_bytes(), response.results_bytes()),
       known(response.has_results_freed_bytes(),
             response.results_freed_bytes())});
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  context.Note(dry ? "nothing was deleted; leave out --dry-run. The newest job "
                     "is kept in any case"
                   : "measurements stay: what they measured is not run again. "
                     "So does the newest job");
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
       .notes = "With their tasks, events and computed results. Measurements "
                "stay, so nothing is\nmeasured again. The newest job is never "
                "deleted. Results are what DIR/analysis.db\nholds of all jobs; "
                "the file keeps its size, what is freed is filled again. "
                "Lost\nworkers that no attempt names are forgotten, too.",
       .run = CollectGarbage},
  };
}

}  // namespace qsweep::qctl
