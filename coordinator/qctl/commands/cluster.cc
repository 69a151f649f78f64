#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/clock.h"
#include "common/base/status_macros.h"
#include "coordinator/qctl/commands/commands.h"
#include "coordinator/qctl/context.h"
#include "coordinator/qctl/local_cluster.h"

namespace qsweep::qctl {
namespace {

constexpr int kMostWorkers = 64;
constexpr int kMostThreads = 1024;
constexpr int kHighestPort = 65535;
constexpr absl::Duration kDownPatience = absl::Seconds(10);

Value::List ProcessList(const std::vector<ClusterProcess>& processes) {
  Value::List list;
  for (const ClusterProcess& process : processes) {
    list.push_back(Value::Object{{"name", process.name},
                                 {"pid", process.pid},
                                 {"started", process.started}});
  }
  return list;
}

// "worker-1, worker-2"; "" for none.
std::string NamesOf(const std::vector<ClusterProcess>& processes,
                    bool started) {
  std::vector<std::string> names;
  for (const ClusterProcess& process : processes) {
    if (process.started == started) {
      names.push_back(process.name);
    }
  }
  return absl::StrJoin(names, ", ");
}

absl::StatusOr<ExitCode> Up(Context& context) {
  const Arguments& arguments = context.arguments();
  ClusterOptions options;
  options.dir = context.ClusterDir();
  options.binary_dir = context.environment().binary_dir;
  QSWEEP_ASSIGN_OR_RETURN(const int64_t workers,
                          arguments.GetInteger("workers", 1, 0, kMostWorkers));
  QSWEEP_ASSIGN_OR_RETURN(const int64_t threads,
                          arguments.GetInteger("threads", 0, 1, kMostThreads));
  QSWEEP_ASSIGN_OR_RETURN(const int64_t port,
                          arguments.GetInteger("port", 0, 1, kHighestPort));
  options.workers = static_cast<int>(workers);
  options.threads = static_cast<int>(threads);
  options.port = static_cast<int>(port);
  const SteadyTime begin = Clock::Real().SteadyNow();
  QSWEEP_ASSIGN_OR_RETURN(const Cluster cluster, StartCluster(options));
  const std::string started = NamesOf(cluster.processes, true);
  const std::string kept = NamesOf(cluster.processes, false);
  Table table;
  table.kind = "Cluster";
  table.record = true;
  table.columns = {
      {"server", "server"},
      {"dir", "folder"},
      {"token_file", "token"},
      {"logs", "logs"},
      {"started_names", "started", Form::kText, Audience::kPeople},
      {"kept_names", "ran already", Form::kText, Audience::kPeople},
      {"processes", "processes", Form::kText, Audience::kMachines},
      {"seconds", "ready after", Form::kDuration}};
  table.name_column = "server";
  table.rows = {{cluster.server, options.dir, options.dir + "/token",
                 options.dir + "/logs", started, kept,
                 ProcessList(cluster.processes),
                 absl::ToDoubleSeconds(Clock::Real().SteadyNow() - begin)}};
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  const std::string flags = context.ServerFlags();
  context.SuggestNext({absl::StrCat("qctl corpora add NAME PATH", flags),
                       absl::StrCat("qctl down", flags)});
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Down(Context& context) {
  const std::string dir = context.ClusterDir();
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<std::string> stopped,
                          StopCluster(dir, kDownPatience));
  Table table;
  table.kind = "StoppedProcessList";
  table.columns = {{"name", "STOPPED"}};
  table.empty_text = absl::StrCat("Nothing runs in ", dir, ".");
  for (const std::string& name : stopped) {
    table.rows.push_back({name});
  }
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  if (!stopped.empty()) {
    context.Note(absl::StrCat("measurements stay in ", dir));
    context.SuggestNext({absl::StrCat("qctl up", context.ServerFlags())});
  }
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Status(Context& context) {
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  QSWEEP_ASSIGN_OR_RETURN(const v1::GetStatusResponse status,
                          client->GetStatus({}));
  Table table;
  table.kind = "Status";
  table.record = true;
  table.name_column = "server";
  table.columns = {{"server", "server"},
                   {"version", "version"},
                   {"revision", "revision"},
                   {"uptime_seconds", "up", Form::kDuration},
                   {"coordinator_epoch", "starts so far", Form::kNumber},
                   {"jobs_running", "jobs running", Form::kNumber},
                   {"tasks_ready", "tasks waiting", Form::kNumber},
                   {"tasks_leased", "tasks at workers", Form::kNumber},
                   {"workers_live", "workers live", Form::kNumber},
                   {"database_bytes", "database", Form::kBytes},
                   {"wal_bytes", "write-ahead log", Form::kBytes},
                   {"sqlite_version", "sqlite"}};
  table.rows = {
      {client->endpoint().address, status.version(), status.revision(),
       static_cast<double>(status.uptime_ms()) / 1000,
       status.coordinator_epoch(), status.jobs_running(), status.tasks_ready(),
       status.tasks_leased(), status.workers_live(), status.database_bytes(),
       status.wal_bytes(), status.sqlite_version()}};
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  for (const std::string& warning : status.warnings()) {
    context.Note(warning);
  }
  if (status.workers_live() == 0) {
    context.Note("no worker is live: nothing will run until one joins");
  }
  return ExitCode::kOk;
}

}  // namespace

std::vector<Command> ClusterCommands() {
  return {
      {.path = {"up"},
       .group = kStartGroup,
       .summary = "Starts a coordinator and workers on this machine.",
       .examples = {{"qctl up", "one worker on all cores, in ./.qsweep"},
                    {"qctl up --dir /data/sweeps --workers 2 --threads 4", ""},
                    {"qctl up --port 7680",
                     "workers of other programs may join too"}},
       .flags = {{"workers", 0, "N",
                  "workers to have (default 1); they share cores and memory"},
                 {"threads", 0, "N",
                  "of each worker (default: the cores, shared)"},
                 {"port", 0, "P", "listen on 127.0.0.1:P besides the socket"}},
       .notes = "Starts only what is missing, returns when everything is "
                "ready. The processes go on\nin the background; their logs are "
                "in DIR/logs.",
       .run = Up},
      {.path = {"down"},
       .group = kStartGroup,
       .summary = "Stops what `up` started; measurements stay.",
       .examples = {{"qctl down", ""}, {"qctl down --dir /data/sweeps", ""}},
       .run = Down},
      {.path = {"status"},
       .group = kStartGroup,
       .summary = "Shows whether the coordinator answers, and what it does.",
       .examples = {{"qctl status", ""}, {"qctl status -o json", ""}},
       .run = Status},
  };
}

}  // namespace qsweep::qctl
