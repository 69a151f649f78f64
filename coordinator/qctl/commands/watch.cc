#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/status_macros.h"
#include "coordinator/qctl/commands/commands.h"
#include "coordinator/qctl/commands/job_table.h"
#include "coordinator/qctl/commands/watcher.h"
#include "coordinator/qctl/follow.h"
#include "coordinator/qctl/names.h"

namespace qsweep::qctl {
namespace {

// An event as an object of -o jsonl.
Value::Object EventObject(const v1::WatchEvent& event) {
  if (event.has_durable()) {
    const v1::DurableEvent& durable = event.durable();
    return {{"type", "event"},
            {"seq", absl::StrCat(durable.seq())},
            {"time", TimeOf(durable.time_us())},
            {"kind", durable.kind()},
            {"task", durable.task_id() == 0
                         ? Value()
                         : Value(absl::StrCat(durable.task_id()))},
            {"worker", durable.worker()},
            {"from", durable.from()},
            {"to", durable.to()},
            {"reason", durable.reason()}};
  }
  const v1::TaskProgressFrame& frame = event.progress();
  Value::List partial;
  for (const v1::PartialMetric& metric : frame.progress().partial()) {
    const auto index = static_cast<int>(metric.configuration_index());
    partial.push_back(
        Value::Object{{"layer_set", index < frame.layer_sets_size()
                                        ? Value(frame.layer_sets(index))
                                        : Value()},
                      {"language", metric.language()},
                      {"nll_sum", metric.nll_sum()},
                      {"nll_fp_sum", metric.nll_fp_sum()},
                      {"tokens", metric.tokens()}});
  }
  return {{"type", "progress"},
          {"task", absl::StrCat(frame.task_id())},
          {"worker", frame.worker()},
          {"fraction", frame.progress().fraction()},
          {"text", frame.progress().text()},
          {"partial", std::move(partial)}};
}

Value::Object SummaryObject(const v1::JobSummary& job) {
  const Table table = JobTable();
  const std::vector<Value> row = JobRow(job);
  Value::Object object = {{"type", "job"}};
  for (size_t i = 0; i < table.columns.size(); ++i) {
    if (table.columns[i].audience != Audience::kPeople) {
      object.emplace_back(table.columns[i].name, row[i]);
    }
  }
  return object;
}

// A JSON object per line, or YAML documents: the job, then what happens.
absl::StatusOr<v1::JobSummary> StreamObjects(Context& context,
                                             const std::string& selector,
                                             absl::Duration timeout) {
  const bool yaml = context.style().format == OutputFormat::kYaml;
  const auto print = [&](const Value& object) {
    context.PrintRaw(yaml ? "---\n" + YamlText(object)
                          : JsonText(object) + "\n");
  };
  bool attached = false;
  const auto on_summary = [&](const v1::JobSummary& job) {
    if (!attached) {
      attached = true;
      DetachOnInterrupt(context, job);
    }
    print(SummaryObject(job));
  };
  return FollowJob(
      context, selector, timeout,
      {.on_event =
           [&](const v1::WatchEvent& event) { print(EventObject(event)); },
       .on_summary = on_summary,
       .stop = [](const v1::JobSummary&) { return false; }});
}

absl::StatusOr<ExitCode> Watch(Context& context) {
  const std::string job = context.arguments().Get("JOB").empty()
                              ? "last"
                              : context.arguments().Get("JOB");
  QSWEEP_ASSIGN_OR_RETURN(
      const absl::Duration timeout,
      context.arguments().GetDuration("timeout", absl::InfiniteDuration()));
  if (!context.for_people()) {
    QSWEEP_ASSIGN_OR_RETURN(const v1::JobSummary streamed,
                            StreamObjects(context, job, timeout));
    return OutcomeOf(streamed);
  }
  const Environment& environment = context.environment();
  QSWEEP_ASSIGN_OR_RETURN(const v1::JobSummary summary,
                          WatchOnto(context, job, timeout, *environment.out,
                                    environment.out_is_terminal));
  NoteOutcome(context, summary);
  return OutcomeOf(summary);
}

// Whether `--for succeeded` cannot come true any more.
bool CannotSucceed(const v1::JobSummary& job) {
  return job.tasks_failed() > 0 || job.documents_skipped() > 0 ||
         (HasEnded(job.state()) && job.state() != v1::JOB_STATE_SUCCEEDED);
}

absl::StatusOr<ExitCode> Wait(Context& context) {
  const Arguments& arguments = context.arguments();
  QSWEEP_ASSIGN_OR_RETURN(
      const absl::Duration timeout,
      arguments.GetDuration("timeout", absl::InfiniteDuration()));
  const bool for_success = arguments.Get("for") == "succeeded";
  bool attached = false;
  QSWEEP_ASSIGN_OR_RETURN(
      const v1::JobSummary job,
      FollowJob(context, arguments.Get("JOB"), timeout,
                {.on_event = [](const v1::WatchEvent&) {},
                 .on_summary =
                     [&](const v1::JobSummary& summary) {
                       if (!attached) {
                         attached = true;
                         DetachOnInterrupt(context, summary);
                       }
                     },
                 .stop =
                     [&](const v1::JobSummary& summary) {
                       return for_success && CannotSucceed(summary);
                     }}));
  Table table = JobTable();
  table.rows = {JobRow(job)};
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  if (context.for_people()) {
    NoteOutcome(context, job);
  }
  return OutcomeOf(job);
}

}  // namespace

std::vector<Command> WatchCommands() {
  const Flag timeout = {"timeout", 0, "TIME",
                        "exit with 124 after this long, like 300s or 2h"};
  return {
      {.path = {"watch"},
       .group = kRunGroup,
       .summary = "Shows a job as it runs: progress, first numbers, time left.",
       .examples = {{"qctl watch", "the newest job"},
                    {"qctl watch 12 > log.txt", "lines instead of a screen"},
                    {"qctl watch 12 -o jsonl", "every event, for programs"}},
       .positionals = {{"JOB", "number, last (default), name or UUID", false}},
       .flags = {timeout},
       .notes = "Ctrl-C detaches; the job goes on. Exit codes: qctl help "
                "exit-codes.",
       .run = Watch},
      {.path = {"wait"},
       .group = kRunGroup,
       .summary = "Waits until a job has ended; the exit code says how.",
       .examples = {{"qctl wait last --timeout 300s", ""},
                    {"qctl wait job/7f3a91c2-0d53-4f0e-8a55-2f6f0c1b7a10 "
                     "--for succeeded",
                     "fails as soon as it cannot succeed any more"}},
       .positionals = {{"JOB", "number, last, name or UUID"}},
       .flags = {{"for",
                  0,
                  "WHAT",
                  "what to wait for",
                  false,
                  {"done", "succeeded"}},
                 timeout},
       .notes = "Exit codes: 0 succeeded, 7 tasks failed or documents were "
                "skipped, 8 cancelled,\n124 timeout, 130 Ctrl-C (the job goes "
                "on).",
       .run = Wait},
  };
}

}  // namespace qsweep::qctl
