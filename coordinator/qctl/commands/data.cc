#include <filesystem>
#include <fstream>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/rpc/retry.h"
#include "coordinator/qctl/commands/commands.h"
#include "coordinator/qctl/context.h"
#include "coordinator/qctl/output/measurements.h"

namespace qsweep::qctl {
namespace {

constexpr int kMostQueryRows = 10000;
constexpr int kMostQuerySeconds = 60;
constexpr absl::Duration kResultsPatience = absl::Minutes(1);
constexpr absl::Duration kResultsPause = absl::Milliseconds(100);

// The views queries may read; an older coordinator may lack some.
constexpr const char* kViews[] = {
    "jobs_v1",   "tasks_v1",        "attempts_v1",         "workers_v1",
    "events_v1", "measurements_v1", "job_measurements_v1", "results_v1",
    "audit_v1"};

constexpr std::pair<const char*, const char*> kQueryExamples[] = {
    {"perplexity per configuration and language, over all jobs",
     "SELECT quantizer, layer_set, lang, exp(sum(nll_sum)/sum(tokens)) AS ppl "
     "FROM measurements_v1 WHERE status='ok' GROUP BY quantizer, layer_set, "
     "lang ORDER BY lang, ppl"},
    {"what quantization costs each language, nothing protected",
     "SELECT lang, (sum(nll_sum)-sum(nll_fp_sum))/sum(tokens) AS dnll FROM "
     "measurements_v1 WHERE layer_set='none' AND status='ok' GROUP BY lang "
     "ORDER BY dnll DESC"},
    {"the loss of each layer set of job 1, as the job wrote it",
     "SELECT written, lang, (sum(nll_sum)-sum(nll_fp_sum))/sum(tokens) AS dnll "
     "FROM job_measurements_v1 WHERE job=1 AND status='ok' GROUP BY written, "
     "lang ORDER BY lang, dnll"},
    {"recovery of every layer of the newest job, with its interval",
     "SELECT layer, lang, value, ci_low, ci_high FROM results_v1 WHERE "
     "job=(SELECT max(number) FROM jobs_v1) AND metric='recovery' AND layer IS "
     "NOT NULL ORDER BY lang, value DESC"},
    {"jobs and how far they are",
     "SELECT number, name, state, measurements_done, measurements_total FROM "
     "jobs_v1 ORDER BY number DESC"},
    {"rows measured by each worker",
     "SELECT worker, count(*) AS rows_measured FROM measurements_v1 GROUP BY "
     "worker ORDER BY rows_measured DESC"},
    {"tasks that were tried more than once",
     "SELECT id, state, epoch, failed, lost, preempted, reason FROM tasks_v1 "
     "WHERE epoch > 1 ORDER BY epoch DESC"},
    {"who was refused, and who made tokens",
     "SELECT time, actor, action, subject, detail, count FROM audit_v1 ORDER "
     "BY seq DESC LIMIT 20"},
    {"the last things that happened",
     "SELECT time, job, task, worker, kind, reason FROM events_v1 ORDER BY seq "
     "DESC LIMIT 20"},
};

Value QueryValueOf(const v1::QueryValue& value) {
  switch (value.value_case()) {
    case v1::QueryValue::kInteger:
      return value.integer();
    case v1::QueryValue::kReal:
      return value.real();
    case v1::QueryValue::kText:
      return value.text();
    case v1::QueryValue::kBlob:
      return absl::BytesToHexString(value.blob());
    case v1::QueryValue::VALUE_NOT_SET:
      break;
  }
  return Value();
}

Table QueryTable(const v1::QueryResponse& response) {
  Table table;
  table.kind = "QueryResult";
  table.empty_text = "No rows.";
  table.extra = {{"truncated", response.truncated()}};
  for (const std::string& name : response.columns()) {
    table.columns.push_back({name, name});
  }
  for (const v1::QueryRow& row : response.rows()) {
    std::vector<Value>& values = table.rows.emplace_back();
    for (int i = 0; i < response.columns_size(); ++i) {
      values.push_back(i < row.values_size() ? QueryValueOf(row.values(i))
                                             : Value());
      // People read numbers right-aligned; SQL columns have no type.
      if (std::holds_alternative<int64_t>(values.back().variant()) ||
          std::holds_alternative<double>(values.back().variant())) {
        table.columns[static_cast<size_t>(i)].form = Form::kNumber;
      }
    }
  }
  return table;
}

// Asks again while results of a job that has just ended are being computed,
// until the time is up.
absl::StatusOr<v1::QueryResponse> AskQuery(Context& context,
                                           const v1::QueryRequest& request) {
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  const SteadyTime end =
      Clock::Real().SteadyNow() +
      (request.deadline_ms() == 0 ? kResultsPatience
                                  : absl::Milliseconds(request.deadline_ms()));
  while (true) {
    absl::StatusOr<v1::QueryResponse> response = client->Query(request);
    const auto error = GetErrorInfo(response.status());
    if (!error || error->code != kResultsPending.code ||
        Clock::Real().SteadyNow() >= end) {
      return response;
    }
    RealSleeper()(kResultsPause);
  }
}

absl::StatusOr<ExitCode> ListViews(Context& context) {
  Table table;
  table.kind = "ViewList";
  table.columns = {{"view", "VIEW"}, {"columns", "COLUMNS"}};
  for (const char* view : kViews) {
    v1::QueryRequest request;
    request.set_sql(absl::StrCat("SELECT * FROM ", view, " LIMIT 0"));
    const absl::StatusOr<v1::QueryResponse> response =
        AskQuery(context, request);
    if (response.ok()) {
      table.rows.push_back(
          {view, context.for_people()
                     ? Value(absl::StrJoin(response->columns(), ", "))
                     : Value(Value::List(response->columns().begin(),
                                         response->columns().end()))});
    } else if (!absl::IsInvalidArgument(response.status())) {
      return response.status();
    }
  }
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  return ExitCode::kOk;
}

absl::Status PrintExamples(Context& context) {
  if (context.for_people()) {
    for (const auto& [meaning, sql] : kQueryExamples) {
      context.PrintRaw(absl::StrCat("-- ", meaning, "\n", sql, "\n\n"));
    }
    return absl::OkStatus();
  }
  Table table;
  table.kind = "QueryExampleList";
  table.columns = {{"meaning", "MEANING"}, {"sql", "SQL"}};
  table.name_column = "sql";
  for (const auto& [meaning, sql] : kQueryExamples) {
    table.rows.push_back({meaning, sql});
  }
  return context.Print(table);
}

absl::StatusOr<ExitCode> Query(Context& context) {
  const Arguments& arguments = context.arguments();
  if (arguments.Has("tables")) {
    return ListViews(context);
  }
  if (arguments.Has("examples")) {
    QSWEEP_RETURN_IF_ERROR(PrintExamples(context));
    return ExitCode::kOk;
  }
  if (!arguments.Has("SQL")) {
    return MakeError(kBadCommandLine, "qctl query needs SQL", "SQL",
                     "qctl query --examples shows some; --tables what there "
                     "is");
  }
  v1::QueryRequest request;
  request.set_sql(arguments.Get("SQL"));
  QSWEEP_ASSIGN_OR_RETURN(const int64_t limit,
                          arguments.GetInteger("limit", 0, 1, kMostQueryRows));
  request.set_limit(static_cast<uint32_t>(limit));
  QSWEEP_ASSIGN_OR_RETURN(
      const absl::Duration timeout,
      arguments.GetDuration("timeout", absl::ZeroDuration()));
  if (timeout > absl::Seconds(kMostQuerySeconds)) {
    return MakeError(kBadValue, "a query may take at most 60 s", "--timeout");
  }
  request.set_deadline_ms(
      static_cast<uint32_t>(absl::ToInt64Milliseconds(timeout)));
  QSWEEP_ASSIGN_OR_RETURN(const v1::QueryResponse response,
                          AskQuery(context, request));
  QSWEEP_RETURN_IF_ERROR(context.Print(QueryTable(response)));
  if (response.truncated()) {
    context.Note(absl::StrCat("cut after ", response.rows_size(),
                              " rows: add LIMIT or aggregate"));
  }
  return ExitCode::kOk;
}

// Writes the rows as they come. Rows written so far: `rows`.
absl::Status WriteRows(CoordinatorClient& client, const std::string& job,
                       bool csv, std::ostream& out, uint64_t& rows) {
  v1::ExportMeasurementsRequest request;
  request.mutable_job()->set_text(job);
  if (csv) {
    out << MeasurementCsvHeader();
  }
  QSWEEP_RETURN_IF_ERROR(client.ExportMeasurements(
      request, [&](const v1::MeasurementBatch& batch) {
        for (const v1::MeasurementRow& row : batch.rows()) {
          out << (csv ? MeasurementCsvLine(row) : MeasurementJsonLine(row));
          ++rows;
        }
        return out.good();
      }));
  out.flush();
  if (!out) {
    return MakeError(kCannotWrite, "the rows could not be written", "--to",
                     "is the disk full?");
  }
  return absl::OkStatus();
}

// Into a file beside the target that takes its name when complete: a reader
// never sees half of it.
absl::Status WriteFile(CoordinatorClient& client, const std::string& job,
                       bool csv, const std::string& path, uint64_t& rows) {
  const std::string part = path + ".part";
  absl::Status status;
  {
    std::ofstream file(part, std::ios::trunc);
    if (!file) {
      return MakeError(kCannotWrite, absl::StrCat("cannot write ", path), path);
    }
    status = WriteRows(client, job, csv, file, rows);
  }
  std::error_code error;
  if (status.ok()) {
    std::filesystem::rename(part, path, error);
  }
  if (!status.ok() || error) {
    std::error_code ignored;  // the first error is the one to tell
    std::filesystem::remove(part, ignored);
  }
  return error ? MakeError(kCannotWrite, error.message(), path) : status;
}

absl::StatusOr<ExitCode> Export(Context& context) {
  const Arguments& arguments = context.arguments();
  const std::string format =
      arguments.Has("format") ? arguments.Get("format") : "csv";
  const bool csv = format == "csv";
  const std::string job = arguments.Get("JOB");
  const std::string to = arguments.Get("to");
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  // A header without rows on stdout would look like an empty job.
  v1::GetJobRequest request;
  request.mutable_job()->set_text(job);
  QSWEEP_RETURN_IF_ERROR(client->GetJob(request).status());
  uint64_t rows = 0;
  if (to.empty() || to == "-") {
    QSWEEP_RETURN_IF_ERROR(
        WriteRows(*client, job, csv, *context.environment().out, rows));
  } else {
    QSWEEP_RETURN_IF_ERROR(
        WriteFile(*client, job, csv, context.AbsolutePath(to), rows));
    context.Note(absl::StrCat("wrote ", rows, " rows to ", to));
  }
  return ExitCode::kOk;
}

}  // namespace

std::vector<Command> DataCommands() {
  return {
      {.path = {"query"},
       .group = kAnswerGroup,
       .summary = "Runs a read-only SELECT over the documented views.",
       .examples = {{"qctl query 'SELECT number, name, state FROM jobs_v1'",
                     ""},
                    {"qctl query --tables", "the views and their columns"},
                    {"qctl query --examples", "queries to start from"}},
       .positionals = {{"SQL", "one SELECT", false}},
       .flags = {{"tables", 0, "", "show the views and their columns"},
                 {"examples", 0, "", "show queries that work"},
                 {"limit", 0, "N", "at most N rows (default 10000)"},
                 {"timeout", 0, "TIME",
                  "give up after this long (default 2s)"}},
       .run = Query},
      {.path = {"export"},
       .group = kAnswerGroup,
       .summary = "Writes the measured rows of a job, mid-run too.",
       .examples = {{"qctl export last --format csv > rows.csv", ""},
                    {"qctl export 12 --format jsonl --to rows.jsonl", ""},
                    {"qctl export last | cut -d, -f1-21 | sort > identity.csv",
                     "the columns two runs must agree on"}},
       .positionals = {{"JOB", "number, last, name or UUID"}},
       .flags = {{"format", 0, "F", "of the rows", false, {"csv", "jsonl"}},
                 {"to", 0, "PATH", "a file instead of stdout; - is stdout"}},
       .run = Export},
  };
}

}  // namespace qsweep::qctl
