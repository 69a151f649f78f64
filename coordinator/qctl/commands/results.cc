#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/status_macros.h"
#include "coordinator/qctl/commands/commands.h"
#include "coordinator/qctl/context.h"
#include "coordinator/qctl/output/results_json.h"
#include "coordinator/qctl/output/results_rows.h"

namespace qsweep::qctl {
namespace {

constexpr int kMostResamples = 1'000'000;
constexpr int kHighestConfidence = 99;

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
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  return client->GetResults(request);
}

absl::StatusOr<ExitCode> Results(Context& context) {
  QSWEEP_ASSIGN_OR_RETURN(const v1::GetResultsResponse results,
                          AskResults(context));
  if (context.style().format == OutputFormat::kJson) {
    context.PrintRaw(ResultsToJson(results));
    return ExitCode::kOk;
  }
  QSWEEP_RETURN_IF_ERROR(context.Print(ResultRows(results)));
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
          {"resamples", 0, "N", "of the bootstrap (default 10000)"}};
}

}  // namespace

std::vector<Command> ResultsCommands() {
  std::vector<Flag> flags = {
      {"by",
       0,
       "WHAT",
       "rows of the table",
       false,
       {"layer", "layer-set", "language"}},
      {"pivot", 0, "lang", "a column per language", false, {"lang"}},
      {"top", 0, "N", "the best N only"}};
  for (Flag& flag : StatisticsFlags()) {
    flags.push_back(std::move(flag));
  }
  return {
      {.path = {"results"},
       .group = kAnswerGroup,
       .summary = "Shows which layers matter for which language.",
       .examples = {{"qctl results last --by layer", "layers, ranked"},
                    {"qctl results 12 --by language", "the gap of each"},
                    {"qctl results 12 -o csv > results.csv",
                     "every metric with its interval"}},
       .positionals = {{"JOB", "number, last, name or UUID"}},
       .flags = flags,
       .run = Results},
  };
}

}  // namespace qsweep::qctl
