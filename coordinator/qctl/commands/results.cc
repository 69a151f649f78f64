#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "coordinator/qctl/commands/commands.h"
#include "coordinator/qctl/context.h"
#include "coordinator/qctl/names.h"
#include "coordinator/qctl/output/closing_screen.h"
#include "coordinator/qctl/output/measurements.h"
#include "coordinator/qctl/output/report.h"
#include "coordinator/qctl/output/results_json.h"
#include "coordinator/qctl/output/results_rows.h"
#include "coordinator/qctl/output/results_svg.h"
#include "coordinator/qctl/output/results_text.h"

namespace qsweep::qctl {
namespace {

constexpr int kMostResamples = 1'000'000;
constexpr int kHighestConfidence = 99;
constexpr int kMostRows = 1'000'000;
constexpr absl::Duration kDefaultTimeout = absl::Minutes(2);
constexpr char kDefaultMetric[] = "relative_loss";  // of --pivot lang

// What a unit of the corpus is called.
std::string UnitName(const Arguments& arguments) {
  return arguments.Has("unit") ? arguments.Get("unit") : "unit";
}

absl::StatusOr<v1::GetResultsResponse> AskResults(Context& context) {
  const Arguments& arguments = context.arguments();
  v1::GetResultsRequest request;
  request.mutable_job()->set_text(arguments.Get("JOB"));
  request.set_ref_rule(arguments.Get("ref-rule"));
  QSWEEP_ASSIGN_OR_RETURN(const int64_t percent,
                          arguments.GetInteger("ci", 0, 1, kHighestConfidence));
  request.set_confidence(static_cast<double>(percent) / 100);
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t resamples,
      arguments.GetInteger("resamples", 0, 1, kMostResamples));
  request.set_resamples(static_cast<uint32_t>(resamples));
  QSWEEP_ASSIGN_OR_RETURN(const absl::Duration timeout,
                          arguments.GetDuration("timeout", kDefaultTimeout));
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  absl::StatusOr<v1::GetResultsResponse> results =
      client->GetResults(request, timeout);
  if (absl::IsDeadlineExceeded(results.status()) &&
      !GetErrorInfo(results.status())) {
    return MakeError(
        kResultsTimeout,
        absl::StrCat("no results within ", absl::FormatDuration(timeout)),
        "--timeout",
        "The coordinator has given up. Give it longer (--timeout 10m), or "
        "fewer --resamples.");
  }
  return results;
}

// For people, as the flags ask.
absl::StatusOr<std::string> ResultsForPeople(
    const Context& context, const v1::GetResultsResponse& results) {
  const Arguments& arguments = context.arguments();
  ResultsStyle style = {.color = context.style().color};
  QSWEEP_ASSIGN_OR_RETURN(const int64_t top,
                          arguments.GetInteger("top", 0, 1, kMostRows));
  style.top = static_cast<int>(top);
  if (arguments.Has("summary")) {
    const std::string job = absl::StrCat(results.job().job_number());
    const std::string flags = context.ServerFlags();
    return RenderClosingScreen(
        results,
        {.unit = UnitName(arguments),
         .next_commands = {
             absl::StrCat("qctl results ", job, " --by layer", flags),
             absl::StrCat("qctl plot heatmap ", job, flags),
             absl::StrCat("qctl report ", job, " --out report.html", flags)}});
  }
  if (arguments.Get("by") == "layer") {
    return RenderLayers(results, style);
  }
  if (arguments.Get("by") == "language") {
    return RenderLanguages(results);
  }
  return RenderConfigurations(results, style);
}

absl::StatusOr<ExitCode> Results(Context& context) {
  QSWEEP_ASSIGN_OR_RETURN(const v1::GetResultsResponse results,
                          AskResults(context));
  if (!HasEnded(results.job().state())) {
    context.Note(absl::StrCat("job ", results.job().job_number(), " is ",
                              JobStateName(results.job().state()), ": ",
                              results.job().measurements_done(), " of ",
                              results.job().measurements_total(),
                              " measured, so these numbers will change"));
  }
  if (context.arguments().Has("pivot")) {
    const std::string metric = context.arguments().Get("pivot");
    QSWEEP_ASSIGN_OR_RETURN(
        const Table table,
        PivotTable(results, metric == "lang" ? kDefaultMetric : metric));
    QSWEEP_RETURN_IF_ERROR(context.Print(table));
    return ExitCode::kOk;
  }
  const OutputFormat format = context.style().format;
  if (format == OutputFormat::kJson || format == OutputFormat::kYaml) {
    const Value document = ResultsDocument(results);
    context.PrintRaw(format == OutputFormat::kJson ? JsonDocument(document)
                                                   : YamlText(document));
    return ExitCode::kOk;
  }
  if (context.for_people()) {
    QSWEEP_ASSIGN_OR_RETURN(const std::string text,
                            ResultsForPeople(context, results));
    context.PrintRaw(text);
    return ExitCode::kOk;
  }
  QSWEEP_RETURN_IF_ERROR(context.Print(ResultRows(results)));
  return ExitCode::kOk;
}

// Beside the target first: a reader never sees half of a file.
absl::Status WriteTextFile(const std::string& path, const std::string& text) {
  const std::string part = path + ".part";
  std::ofstream file(part, std::ios::trunc | std::ios::binary);
  file << text;
  file.close();
  std::error_code error;
  if (file) {
    std::filesystem::rename(part, path, error);
  }
  if (!file || error) {
    std::error_code ignored;  // the first error is the one to tell
    std::filesystem::remove(part, ignored);
    return MakeError(kCannotWrite, absl::StrCat("cannot write ", path), "--out",
                     "Is the folder there, the disk full?");
  }
  return absl::OkStatus();
}

// How to make the file again, kept inside it.
std::string CommandText(const Context& context, absl::string_view command,
                        const v1::GetResultsResponse& results) {
  return absl::StrCat("qctl ", command, " ", results.job().job_number(),
                      context.ServerFlags());
}

absl::StatusOr<ExitCode> Plot(Context& context) {
  const Arguments& arguments = context.arguments();
  const bool heatmap = arguments.Get("PICTURE") == "heatmap";
  if (!heatmap && arguments.Get("PICTURE") != "criticality") {
    return MakeError(
        kBadValue,
        absl::StrCat("there is no picture \"", arguments.Get("PICTURE"), "\""),
        "PICTURE", "Use heatmap or criticality.");
  }
  QSWEEP_ASSIGN_OR_RETURN(const v1::GetResultsResponse results,
                          AskResults(context));
  if (!arguments.Has("out")) {
    const ResultsStyle style = {.color = context.style().color};
    context.PrintRaw(heatmap ? RenderHeatmap(results, style)
                             : RenderLayers(results, style));
    return ExitCode::kOk;
  }
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t panel,
      arguments.GetInteger("panel", 1, 1, std::max(1, results.panels_size())));
  const std::vector<std::string> provenance = {
      absl::StrCat(
          "command: ",
          CommandText(context, heatmap ? "plot heatmap" : "plot criticality",
                      results)),
      absl::StrCat("data digest: ", results.data_digest()),
      absl::StrCat("qsweep ", results.version(), " ", results.revision())};
  std::string svg;
  if (results.panels_size() > 0) {
    const v1::ResultPanel& shown = results.panels(static_cast<int>(panel) - 1);
    svg = heatmap ? HeatmapSvg(MakeHeatmap(shown), provenance)
                  : LayerBarsSvg(MakeLayerBars(shown), provenance);
  }
  if (svg.empty()) {
    return MakeError(kWrongState, "there is nothing to draw yet", "JOB",
                     "qctl watch shows how far the job is.");
  }
  const std::string path = context.AbsolutePath(arguments.Get("out"));
  QSWEEP_RETURN_IF_ERROR(WriteTextFile(path, svg));
  context.Note(absl::StrCat("wrote ", path));
  return ExitCode::kOk;
}

// English names of the languages, where the corpora are known.
std::map<std::string, std::string> LanguageNames(
    CoordinatorClient& client, const v1::GetResultsResponse& results) {
  std::map<std::string, std::string> names;
  for (const v1::ResultPanel& panel : results.panels()) {
    v1::ListCorporaRequest request;
    request.set_name(panel.corpus());
    const absl::StatusOr<v1::ListCorporaResponse> corpora =
        client.ListCorpora(request);
    if (!corpora.ok()) {
      continue;  // a report without names is still a report
    }
    for (const v1::Corpus& corpus : corpora->corpora()) {
      for (const v1::CorpusLanguage& language : corpus.languages()) {
        if (!language.name().empty()) {
          names[language.language()] = language.name();
        }
      }
    }
  }
  return names;
}

absl::StatusOr<ExitCode> Report(Context& context) {
  const Arguments& arguments = context.arguments();
  QSWEEP_ASSIGN_OR_RETURN(const v1::GetResultsResponse results,
                          AskResults(context));
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  std::string rows = MeasurementCsvHeader();
  v1::ExportMeasurementsRequest request;
  request.mutable_job()->set_text(arguments.Get("JOB"));
  QSWEEP_RETURN_IF_ERROR(client->ExportMeasurements(
      request, [&](const v1::MeasurementBatch& batch) {
        for (const v1::MeasurementRow& row : batch.rows()) {
          absl::StrAppend(&rows, MeasurementCsvLine(row));
        }
        return true;
      }));
  const std::string path = context.AbsolutePath(
      arguments.Has("out") ? arguments.Get("out") : "report.html");
  QSWEEP_RETURN_IF_ERROR(WriteTextFile(
      path, RenderReport(results,
                         {.command = CommandText(context, "report", results),
                          .rows_csv = rows,
                          .created_at = UtcText(context.style().now),
                          .unit = UnitName(arguments),
                          .language_names = LanguageNames(*client, results)})));
  context.Note(absl::StrCat("wrote ", path));
  return ExitCode::kOk;
}

std::vector<Flag> StatisticsFlags() {
  return {{"ref-rule",
           0,
           "RULE",
           "a reference that lost nothing counts as, in the earlier work's "
           "ratio",
           false,
           {"one", "inf", "zero"}},
          {"ci", 0, "PERCENT", "confidence of the intervals (default 95)"},
          {"resamples", 0, "N", "of the bootstrap (default 10000)"},
          {"timeout", 0, "TIME",
           "give up after this long, like 300s (default 2m)"}};
}

}  // namespace

std::vector<Command> ResultsCommands() {
  const Positional job = {"JOB", "number, last, name or UUID"};
  const Flag unit = {"unit", 0, "NAME",
                     "what a document of the corpus is called: article"};
  std::vector<Flag> flags = {
      {"by",
       0,
       "WHAT",
       "configurations, single layers by rank, or languages",
       false,
       {"layer-set", "layer", "language"}},
      {"summary", 0, "", "in words: what can be said, and what cannot"},
      {"pivot", 0, "METRIC",
       "a column per language: recovery, ppl, ...; lang is relative_loss"},
      {"top", 0, "N", "the best N only"},
      unit};
  std::vector<Flag> plot_flags = {
      {"term", 0, "", "in the terminal (the default without --out)"},
      {"out", 0, "FILE", "as SVG"},
      {"panel", 0, "N", "of several models or quantizers (default 1)"}};
  std::vector<Flag> report_flags = {
      {"out", 0, "FILE", "where to (default report.html)"}, unit};
  for (const Flag& flag : StatisticsFlags()) {
    flags.push_back(flag);
    plot_flags.push_back(flag);
    report_flags.push_back(flag);
  }
  return {
      {.path = {"results"},
       .group = kAnswerGroup,
       .summary = "Shows which layers matter for which language.",
       .examples = {{"qctl results last --by layer", "layers, ranked"},
                    {"qctl results last --summary", "the answer in words"},
                    {"qctl results 12 --by language", "the gap of each"},
                    {"qctl results 12 --pivot recovery", "layers x languages"},
                    {"qctl results 12 -o csv > results.csv",
                     "every metric with its interval"}},
       .positionals = {job},
       .flags = flags,
       .run = Results},
      {.path = {"plot"},
       .group = kAnswerGroup,
       .summary = "Draws a heatmap of layers and languages, or the layers.",
       .examples = {{"qctl plot heatmap last", "in the terminal"},
                    {"qctl plot criticality 12 --out layers.svg",
                     "layers by rank, as a file"}},
       .positionals = {{"PICTURE", "heatmap or criticality"}, job},
       .flags = plot_flags,
       .run = Plot},
      {.path = {"report"},
       .group = kAnswerGroup,
       .summary = "Writes one HTML file: verdict, pictures, tables, rows.",
       .examples = {{"qctl report last", "report.html here"},
                    {"qctl report 12 --out sweep.html --unit article",
                     "elsewhere"}},
       .positionals = {job},
       .flags = report_flags,
       .run = Report},
  };
}

}  // namespace qsweep::qctl
