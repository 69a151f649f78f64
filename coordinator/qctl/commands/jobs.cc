#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "coordinator/qctl/commands/commands.h"
#include "coordinator/qctl/commands/job_table.h"
#include "coordinator/qctl/context.h"
#include "coordinator/qctl/names.h"
#include "coordinator/qctl/selector.h"

namespace qsweep::qctl {
namespace {

constexpr int kDefaultLimit = 50;
constexpr int kMostRows = 10000;

absl::StatusOr<ExitCode> List(Context& context) {
  v1::ListJobsRequest request;
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t limit,
      context.arguments().GetInteger("limit", kDefaultLimit, 1, kMostRows));
  request.set_limit(static_cast<uint32_t>(limit));
  for (const std::string& name : context.arguments().GetList("state")) {
    const std::vector<v1::JobState> states = JobStatesOf(name);
    if (states.empty()) {
      return MakeError(kBadValue, absl::StrCat("no job state \"", name, "\""),
                       "--state",
                       "queued, running, succeeded, failed or cancelled");
    }
    for (const v1::JobState state : states) {
      request.add_states(state);
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  QSWEEP_ASSIGN_OR_RETURN(const v1::ListJobsResponse response,
                          client->ListJobs(request));
  Table table = JobTable();
  for (const v1::JobSummary& job : response.jobs()) {
    table.rows.push_back(JobRow(job));
  }
  table.empty_text = request.states().empty()
                         ? "No jobs yet. Submit one: qctl submit --help"
                         : "No jobs in this state.";
  table.extra = {{"total", response.total()}};
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  if (static_cast<uint64_t>(response.jobs_size()) < response.total()) {
    context.Note(absl::StrCat("showing ", response.jobs_size(), " of ",
                              response.total(), "   (--limit N)"));
  }
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Show(Context& context) {
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  v1::GetJobRequest request;
  request.mutable_job()->set_text(context.arguments().Get("JOB"));
  QSWEEP_ASSIGN_OR_RETURN(const v1::GetJobResponse response,
                          client->GetJob(request));
  QSWEEP_RETURN_IF_ERROR(context.Print(JobRecord(response)));
  const v1::JobSummary& job = response.summary();
  const std::string flags = context.ServerFlags();
  const std::string number = absl::StrCat(job.job_number());
  context.SuggestNext({HasEnded(job.state())
                           ? absl::StrCat("qctl results ", number, flags)
                           : absl::StrCat("qctl watch ", number, flags),
                       absl::StrCat("qctl tasks list --job ", number, flags)});
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Cancel(Context& context) {
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<std::string> selectors,
                          ExpandSelectors(context.arguments().GetAll("JOB")));
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  Table table = JobTable();
  for (const std::string& selector : selectors) {
    v1::CancelJobRequest request;
    request.mutable_job()->set_text(selector);
    request.set_reason(context.arguments().Get("reason"));
    QSWEEP_ASSIGN_OR_RETURN(const v1::CancelJobResponse response,
                            client->CancelJob(request));
    table.rows.push_back(JobRow(response.summary()));
  }
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  context.Note(
      "rows measured so far are kept: the same spec goes on from "
      "there");
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Control(Context& context, v1::JobAction action,
                                 int32_t priority, const std::string& note) {
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<std::string> selectors,
                          ExpandSelectors(context.arguments().GetAll("JOB")));
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  Table table = JobTable();
  for (const std::string& selector : selectors) {
    v1::ControlJobRequest request;
    request.mutable_job()->set_text(selector);
    request.set_action(action);
    request.set_priority(priority);
    request.set_reason(context.arguments().Get("reason"));
    QSWEEP_ASSIGN_OR_RETURN(const v1::ControlJobResponse response,
                            client->ControlJob(request));
    table.rows.push_back(JobRow(response.summary()));
  }
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  if (!note.empty()) {
    context.Note(note);
  }
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Pause(Context& context) {
  return Control(context, v1::JOB_ACTION_PAUSE, 0,
                 "tasks that run go on; 'qctl jobs resume' starts the rest");
}
absl::StatusOr<ExitCode> Resume(Context& context) {
  return Control(context, v1::JOB_ACTION_RESUME, 0, "");
}
absl::StatusOr<ExitCode> Stop(Context& context) {
  return Control(context, v1::JOB_ACTION_STOP, 0,
                 "tasks that run may finish, the others are dropped");
}
absl::StatusOr<ExitCode> Retry(Context& context) {
  return Control(context, v1::JOB_ACTION_RETRY, 0,
                 "only what failed or is missing runs again");
}
absl::StatusOr<ExitCode> Priority(Context& context) {
  constexpr int64_t kMost = 1000;
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t priority,
      context.arguments().GetInteger("to", 0, -kMost, kMost));
  return Control(context, v1::JOB_ACTION_PRIORITY,
                 static_cast<int32_t>(priority), "");
}

const Positional kJobs = {"JOB", "jobs; ranges like 10-12 are accepted", true,
                          true};

}  // namespace

std::vector<Command> JobsCommands() {
  return {
      {.path = {"jobs", "list"},
       .group = kLookGroup,
       .summary = "Lists jobs, newest first.",
       .examples = {{"qctl jobs", ""},
                    {"qctl jobs list --state running,queued", ""},
                    {"qctl jobs list -o csv --columns number,name,state", ""}},
       .flags = {{"state", 0, "S,...",
                  "planning, queued, running, succeeded, failed, cancelled"},
                 {"limit", 0, "N", "at most N jobs (default 50)"}},
       .run = List},
      {.path = {"jobs", "show"},
       .group = kLookGroup,
       .summary = "Shows a job: its spec, plan and progress.",
       .examples = {{"qctl jobs show last", ""},
                    {"qctl jobs show 12 -o json", ""}},
       .positionals = {{"JOB",
                        "number, last, name or UUID (qctl help "
                        "selectors)"}},
       .run = Show},
      {.path = {"jobs", "cancel"},
       .group = kRunGroup,
       .summary = "Cancels jobs; what was measured is kept.",
       .examples = {{"qctl jobs cancel last", ""},
                    {"qctl jobs cancel 10-12 14 --reason \"wrong corpus\"",
                     ""}},
       .positionals = {{"JOB", "jobs; ranges like 10-12 are accepted", true,
                        true}},
       .flags = {{"reason", 0, "TEXT", "shown with the job"}},
       .run = Cancel},
      {.path = {"jobs", "pause"},
       .group = kRunGroup,
       .summary = "Leases nothing more of a job until it is resumed.",
       .examples = {{"qctl jobs pause last", ""}},
       .positionals = {kJobs},
       .flags = {{"reason", 0, "TEXT", "shown with the job"}},
       .run = Pause},
      {.path = {"jobs", "resume"},
       .group = kRunGroup,
       .summary = "Goes on with a paused job.",
       .examples = {{"qctl jobs resume last", ""}},
       .positionals = {kJobs},
       .run = Resume},
      {.path = {"jobs", "stop"},
       .group = kRunGroup,
       .summary = "Ends a job when the tasks that run have finished.",
       .examples = {{"qctl jobs stop 12", ""}},
       .positionals = {kJobs},
       .flags = {{"reason", 0, "TEXT", "shown with the job"}},
       .run = Stop},
      {.path = {"jobs", "retry"},
       .group = kRunGroup,
       .summary = "Runs again exactly what failed or is missing.",
       .examples = {{"qctl jobs retry last", ""},
                    {"qctl jobs retry 10-12", ""}},
       .positionals = {kJobs},
       .notes = "A job that failed or was cancelled goes on under its number; "
                "failed tasks get new budgets. What was measured is kept.",
       .run = Retry},
      {.path = {"jobs", "priority"},
       .group = kRunGroup,
       .summary = "Changes the priority of a job; larger goes first.",
       .examples = {{"qctl jobs priority 12 --to 5", ""}},
       .positionals = {kJobs},
       .flags = {{"to", 0, "P", "-1000 to 1000 (default 0)"}},
       .run = Priority},
  };
}

}  // namespace qsweep::qctl
