#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "coordinator/qctl/commands/commands.h"
#include "coordinator/qctl/context.h"
#include "coordinator/qctl/names.h"

namespace qsweep::qctl {
namespace {

constexpr int kDefaultLimit = 50;
constexpr int kMostRows = 100000;

Table TaskTable() {
  Table table;
  table.kind = "TaskList";
  table.name_prefix = "task/";
  table.columns = {
      {"task", "TASK", Form::kNumber},
      {"state", "STATE"},
      {"model", "MODEL"},
      {"configurations", "CONFIGS", Form::kNumber},
      {"documents", "DOCUMENTS", Form::kNumber},
      {"languages", "LANGUAGES"},
      {"worker", "WORKER"},
      {"attempts", "TRY", Form::kNumber},
      {"failed", "FAILED", Form::kNumber, Audience::kWide},
      {"lost", "LOST", Form::kNumber, Audience::kWide},
      {"preempted", "PREEMPTED", Form::kNumber, Audience::kWide},
      {"fraction", "PROGRESS", Form::kBar},
      {"estimated_seconds", "EST", Form::kDuration, Audience::kWide},
      {"reason", "REASON"},
  };
  return table;
}

std::vector<Value> TaskRow(const v1::TaskSummary& task) {
  const std::string state = TaskStateName(task);
  const bool done = task.state() == v1::TASK_STATE_DONE;
  // The fraction is of a phase: a loaded model is not a finished task.
  const bool loading = state == "leased";
  return {
      absl::StrCat(task.task_id()),
      state,
      task.model(),
      task.configurations(),
      task.documents(),
      task.languages(),
      task.worker(),
      task.epoch(),
      task.failed(),
      task.lost(),
      task.preempted(),
      done      ? 1.0
      : loading ? 0.0
                : task.fraction(),
      task.estimated_seconds(),
      loading && task.reason().empty() ? "loading the model" : task.reason()};
}

absl::StatusOr<ExitCode> List(Context& context) {
  v1::ListTasksRequest request;
  const std::string job = context.arguments().Get("job");
  if (!job.empty()) {
    request.mutable_job()->set_text(job);
  }
  const std::vector<std::string> wanted = context.arguments().GetList("state");
  for (const std::string& name : wanted) {
    const std::vector<v1::TaskState> states = TaskStatesOf(name);
    if (states.empty()) {
      return MakeError(kBadValue, absl::StrCat("no task state \"", name, "\""),
                       "--state",
                       "queued, leased, running, succeeded, failed, cancelled "
                       "or blocked");
    }
    for (const v1::TaskState state : states) {
      request.add_states(state);
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t limit,
      context.arguments().GetInteger("limit", kDefaultLimit, 1, kMostRows));
  request.set_limit(static_cast<uint32_t>(limit));
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  QSWEEP_ASSIGN_OR_RETURN(const v1::ListTasksResponse response,
                          client->ListTasks(request));
  Table table = TaskTable();
  for (const v1::TaskSummary& task : response.tasks()) {
    // "leased" and "running" are one stored state: told apart here.
    if (wanted.empty() || std::find(wanted.begin(), wanted.end(),
                                    TaskStateName(task)) != wanted.end()) {
      table.rows.push_back(TaskRow(task));
    }
  }
  table.empty_text = "No such tasks.";
  table.extra = {{"total", response.total()}};
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  if (static_cast<uint64_t>(response.tasks_size()) < response.total()) {
    context.Note(absl::StrCat("showing ", table.rows.size(), " of ",
                              response.total(), "   (--limit N)"));
  }
  return ExitCode::kOk;
}

Value::List Strings(
    const google::protobuf::RepeatedPtrField<std::string>& from) {
  Value::List list;
  for (const std::string& text : from) {
    list.push_back(text);
  }
  return list;
}

Table FitTable(const v1::ExplainTaskResponse& response) {
  Table table;
  table.kind = "TaskFit";
  table.columns = {
      {"worker", "WORKER"}, {"fit", "FITS"}, {"reasons", "WHY NOT"}};
  for (const v1::WorkerFit& worker : response.workers()) {
    const std::string fits = !worker.reasons().empty() ? "no"
                             : worker.busy()           ? "busy"
                                                       : "yes";
    table.rows.push_back({worker.worker(), fits, Strings(worker.reasons())});
  }
  table.empty_text = "No worker is attached.";
  Value::List attempts;
  for (const v1::TaskAttempt& attempt : response.attempts()) {
    attempts.push_back(
        absl::StrCat(attempt.epoch(), " ", attempt.worker(), " ",
                     attempt.end().empty() ? "runs" : attempt.end()));
  }
  table.extra = {{"task", absl::StrCat(response.task().task_id())},
                 {"state", TaskStateName(response.task())},
                 {"sentences", Strings(response.sentences())},
                 {"attempts", attempts}};
  return table;
}

absl::StatusOr<ExitCode> Explain(Context& context) {
  v1::ExplainTaskRequest request;
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t task,
      context.arguments().GetInteger("TASK", 0, 1,
                                     std::numeric_limits<int64_t>::max()));
  request.set_task_id(static_cast<uint64_t>(task));
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  QSWEEP_ASSIGN_OR_RETURN(const v1::ExplainTaskResponse response,
                          client->ExplainTask(request));
  context.Note(
      absl::StrCat("Task ", task, " is ", TaskStateName(response.task()), "."));
  for (const std::string& sentence : response.sentences()) {
    context.Note(sentence);
  }
  QSWEEP_RETURN_IF_ERROR(context.Print(FitTable(response)));
  return ExitCode::kOk;
}

}  // namespace

std::vector<Command> TasksCommands() {
  return {
      {.path = {"tasks", "list"},
       .group = kLookGroup,
       .summary = "Lists tasks and where they run.",
       .examples = {{"qctl tasks list --job last", ""},
                    {"qctl tasks list --state running,failed -o wide", ""}},
       .flags = {{"job", 0, "JOB", "of one job (default: all)"},
                 {"state", 0, "S,...",
                  "queued, leased, running, succeeded, failed, cancelled, "
                  "blocked"},
                 {"limit", 0, "N", "at most N tasks (default 50)"}},
       .run = List},
      {.path = {"tasks", "explain"},
       .group = kLookGroup,
       .summary = "Says why a task is where it is, and what would change it.",
       .examples = {{"qctl tasks explain 1049", ""},
                    {"qctl tasks explain 1049 -o json", ""}},
       .positionals = {{"TASK", "its number (qctl tasks list)"}},
       .run = Explain},
  };
}

}  // namespace qsweep::qctl
