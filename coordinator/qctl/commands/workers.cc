#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/status_macros.h"
#include "coordinator/qctl/commands/commands.h"
#include "coordinator/qctl/context.h"
#include "coordinator/qctl/names.h"

namespace qsweep::qctl {
namespace {

constexpr double kMillisecond = 1e-3;

Value::List HeldTasks(const v1::WorkerSummary& worker) {
  Value::List tasks;
  for (const uint64_t task : worker.held()) {
    tasks.push_back(absl::StrCat(task));
  }
  return tasks;
}

Value::List DeviceNames(const v1::WorkerSummary& worker) {
  Value::List devices;
  for (const v1::Device& device : worker.devices()) {
    devices.push_back(device.name());
  }
  return devices;
}

std::vector<Value> WorkerRow(const v1::WorkerSummary& worker) {
  return {worker.name(),
          UuidText(worker.worker_uuid()),
          worker.state(),
          DeviceNames(worker),
          HeldTasks(worker),
          worker.tasks_done(),
          static_cast<double>(worker.up_ms()) * kMillisecond,
          static_cast<double>(worker.last_seen_ms()) * kMillisecond,
          worker.build_id(),
          worker.note()};
}

Table WorkerTable() {
  Table table;
  table.kind = "WorkerList";
  table.name_prefix = "worker/";
  table.columns = {{"name", "WORKER"},
                   {"uuid", "UUID", Form::kShortId, Audience::kWide},
                   {"state", "STATE"},
                   {"devices", "DEVICE"},
                   {"held", "RUNS TASK"},
                   {"tasks_done", "DONE", Form::kNumber},
                   {"up_seconds", "UP", Form::kDuration},
                   {"last_seen_seconds", "SEEN", Form::kDuration},
                   {"build_id", "BUILD", Form::kText, Audience::kWide},
                   {"note", "NOTE"}};
  return table;
}

absl::StatusOr<ExitCode> List(Context& context) {
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  QSWEEP_ASSIGN_OR_RETURN(const v1::ListWorkersResponse response,
                          client->ListWorkers({}));
  Table table = WorkerTable();
  for (const v1::WorkerSummary& worker : response.workers()) {
    table.rows.push_back(WorkerRow(worker));
  }
  table.empty_text = "No workers yet. Start one here: qctl up --workers 1";
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Control(Context& context, v1::WorkerAction action) {
  QSWEEP_ASSIGN_OR_RETURN(
      const absl::Duration deadline,
      context.arguments().GetDuration("deadline", absl::ZeroDuration()));
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  Table table = WorkerTable();
  for (const std::string& worker : context.arguments().GetAll("WORKER")) {
    v1::ControlWorkerRequest request;
    request.set_worker(worker);
    request.set_action(action);
    request.set_reason(context.arguments().Get("reason"));
    request.set_deadline_ms(
        static_cast<uint64_t>(absl::ToInt64Milliseconds(deadline)));
    QSWEEP_ASSIGN_OR_RETURN(const v1::ControlWorkerResponse response,
                            client->ControlWorker(request));
    table.rows.push_back(WorkerRow(response.worker()));
  }
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Drain(Context& context) {
  QSWEEP_ASSIGN_OR_RETURN(const ExitCode code,
                          Control(context, v1::WORKER_ACTION_DRAIN));
  context.Note(context.arguments().Has("deadline")
                   ? "it finishes what it can by then, gives the rest back and "
                     "leaves"
                   : "it finishes what it runs, then leaves");
  return code;
}
absl::StatusOr<ExitCode> Resume(Context& context) {
  return Control(context, v1::WORKER_ACTION_RESUME);
}

const Positional kWorkers = {"WORKER", "names or UUIDs", true, true};

}  // namespace

std::vector<Command> WorkersCommands() {
  return {
      {.path = {"workers", "list"},
       .group = kLookGroup,
       .summary = "Lists workers, their devices and what they run.",
       .examples = {{"qctl workers", ""}, {"qctl workers list -o wide", ""}},
       .run = List},
      {.path = {"workers", "drain"},
       .group = kRunGroup,
       .summary = "Lets workers finish what they run and leave.",
       .examples = {{"qctl workers drain kaggle-2", ""},
                    {"qctl workers drain kaggle-2 --deadline 5m", ""}},
       .positionals = {kWorkers},
       .flags = {{"reason", 0, "TEXT", "shown with the worker"},
                 {"deadline", 0, "DUR", "what still runs then is given back"}},
       .notes =
           "A coordinator that restarts remembers the drain, but no deadline "
           "that the worker had not\nheard of yet.",
       .run = Drain},
      {.path = {"workers", "resume"},
       .group = kRunGroup,
       .summary = "Gives tasks to drained or quarantined workers again.",
       .examples = {{"qctl workers resume vast-9", ""}},
       .positionals = {kWorkers},
       .notes = "A worker is quarantined when three tasks failed on it that "
                "other workers finished; ten tasks it finishes make up for "
                "one.",
       .run = Resume},
  };
}

}  // namespace qsweep::qctl
