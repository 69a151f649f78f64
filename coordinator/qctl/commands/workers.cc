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

absl::StatusOr<ExitCode> List(Context& context) {
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  QSWEEP_ASSIGN_OR_RETURN(const v1::ListWorkersResponse response,
                          client->ListWorkers({}));
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
  for (const v1::WorkerSummary& worker : response.workers()) {
    table.rows.push_back(WorkerRow(worker));
  }
  table.empty_text = "No workers yet. Start one here: qctl up --workers 1";
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  return ExitCode::kOk;
}

}  // namespace

std::vector<Command> WorkersCommands() {
  return {
      {.path = {"workers", "list"},
       .group = kLookGroup,
       .summary = "Lists workers, their devices and what they run.",
       .examples = {{"qctl workers", ""}, {"qctl workers list -o wide", ""}},
       .run = List},
  };
}

}  // namespace qsweep::qctl
