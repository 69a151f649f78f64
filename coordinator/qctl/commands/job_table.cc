#include "coordinator/qctl/commands/job_table.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/job/job_spec.h"
#include "coordinator/qctl/names.h"

namespace qsweep::qctl {
namespace {

double Progress(const v1::JobSummary& job) {
  return job.measurements_total() == 0
             ? 0
             : static_cast<double>(job.measurements_done()) /
                   static_cast<double>(job.measurements_total());
}

Value TimeOrNull(int64_t microseconds) {
  return microseconds == 0 ? Value() : Value(TimeOf(microseconds));
}

Value::Object Labels(const v1::JobSummary& job) {
  // A proto map has no order: sorted, so that the same job prints the same.
  const std::map<std::string, std::string> sorted(job.labels().begin(),
                                                  job.labels().end());
  Value::Object object;
  for (const auto& [name, value] : sorted) {
    object.emplace_back(name, value);
  }
  return object;
}

Value::List Texts(const google::protobuf::RepeatedPtrField<std::string>& from) {
  return Value::List(from.begin(), from.end());
}

// Patterns as the spec file writes them.
Value::List LayerSets(const v1::JobSpec& spec) {
  Value::List list;
  for (const v1::LayerSetPattern& pattern : spec.layer_sets()) {
    switch (pattern.pattern_case()) {
      case v1::LayerSetPattern::kProtect:
        list.push_back(absl::StrCat("protect ", pattern.protect()));
        break;
      case v1::LayerSetPattern::kQuantize:
        list.push_back(absl::StrCat("quantize ", pattern.quantize()));
        break;
      default:
        list.push_back(pattern.literal());
    }
  }
  return list;
}

Value::List Evaluations(const v1::JobSpec& spec) {
  Value::List list;
  for (const v1::EvaluationRequest& request : spec.evals()) {
    list.push_back(absl::StrCat(
        request.eval(),
        request.samples() > 0 ? absl::StrCat(":samples=", request.samples())
                              : "",
        request.max_tokens() > 0
            ? absl::StrCat(":max-tokens=", request.max_tokens())
            : ""));
  }
  return list;
}

Value::List Models(const v1::GetJobResponse& response) {
  Value::List list;
  for (const v1::ModelDescription& model : response.models()) {
    list.push_back(absl::StrCat(model.name(), " (", model.layers(), " layers, ",
                                ShortHex(model.digest()), ")"));
  }
  return list;
}

Value::List CorpusLanguages(const v1::Corpus& corpus) {
  Value::List list;
  for (const v1::CorpusLanguage& language : corpus.languages()) {
    list.push_back(language.language());
  }
  return list;
}

}  // namespace

Table JobTable() {
  Table table;
  table.kind = "JobList";
  table.name_column = "uuid";
  table.name_prefix = "job/";
  table.columns = {
      {"number", "JOB", Form::kNumber},
      {"uuid", "UUID", Form::kShortId, Audience::kWide},
      {"name", "NAME"},
      {"kind", "KIND"},
      {"state", "STATE"},
      {"progress", "PROGRESS", Form::kBar},
      {"measured", "MEASURED", Form::kText, Audience::kPeople},
      {"measurements_total", "TOTAL", Form::kNumber, Audience::kMachines},
      {"measurements_done", "DONE", Form::kNumber, Audience::kMachines},
      {"measurements_reused", "REUSED", Form::kNumber, Audience::kWide},
      {"documents_skipped", "SKIPPED", Form::kNumber, Audience::kWide},
      {"tasks", "TASKS", Form::kText, Audience::kPeople},
      {"tasks_total", "TASKS", Form::kNumber, Audience::kMachines},
      {"tasks_done", "TASKS DONE", Form::kNumber, Audience::kMachines},
      {"tasks_leased", "AT WORKERS", Form::kNumber, Audience::kWide},
      {"tasks_failed", "FAILED", Form::kNumber, Audience::kWide},
      {"created_at", "AGE", Form::kAge},
      {"finished_at", "ENDED", Form::kAge, Audience::kWide},
      {"owner", "OWNER", Form::kText, Audience::kWide},
      {"labels", "LABELS", Form::kText, Audience::kWide},
      {"reason", "REASON"},
  };
  return table;
}

std::vector<Value> JobRow(const v1::JobSummary& job) {
  return {
      absl::StrCat(job.job_number()),
      UuidText(job.job_uuid()),
      job.name(),
      JobKindName(job.kind()),
      JobStateName(job.state()),
      Progress(job),
      absl::StrCat(
          WithThousands(static_cast<int64_t>(job.measurements_done())), " of ",
          WithThousands(static_cast<int64_t>(job.measurements_total()))),
      job.measurements_total(),
      job.measurements_done(),
      job.measurements_reused(),
      job.documents_skipped(),
      absl::StrCat(job.tasks_done(), "/", job.tasks_total()),
      job.tasks_total(),
      job.tasks_done(),
      job.tasks_leased(),
      job.tasks_failed(),
      TimeOf(job.created_at_us()),
      TimeOrNull(job.finished_at_us()),
      job.owner(),
      Labels(job),
      job.reason()};
}

Value::Object PlanObject(const v1::JobPlan& plan) {
  return {{"configurations", plan.configurations()},
          {"documents", plan.documents()},
          {"languages", plan.languages()},
          {"measurements", plan.measurements()},
          {"measurements_reused", plan.measurements_reused()},
          {"tasks", plan.tasks()},
          {"tasks_shared", plan.tasks_shared()},
          {"layer_evaluations", plan.layer_evaluations()},
          {"layer_evaluations_naive", plan.layer_evaluations_naive()},
          {"estimated_seconds", plan.estimated_seconds()},
          {"calibration_seconds", plan.calibration_seconds()},
          {"notes", Texts(plan.notes())}};
}

Table JobRecord(const v1::GetJobResponse& response) {
  Table table = JobTable();
  table.kind = "Job";
  table.record = true;
  std::vector<Value> row = JobRow(response.summary());
  const v1::JobSpec& spec = response.spec();
  const std::pair<Column, Value> more[] = {
      {{"models", "models"}, Models(response)},
      {{"quantizers", "quantizers"}, Texts(spec.quantizers())},
      {{"replicates", "replicates", Form::kNumber},
       std::max(spec.replicates(), 1u)},
      {{"layer_sets", "layer sets"}, LayerSets(spec)},
      {{"layers", "layers"}, spec.layers()},
      {{"evals", "evaluations"}, Evaluations(spec)},
      {{"corpus", "corpus"}, response.corpus().name()},
      {{"corpus_digest", "corpus digest", Form::kText, Audience::kMachines},
       HexText(response.corpus().digest())},
      {{"languages", "languages"}, CorpusLanguages(response.corpus())},
      {{"reference", "reference"}, spec.reference()},
      {{"seed", "seed", Form::kNumber}, spec.seed()},
      {{"plan", "plan", Form::kText, Audience::kMachines},
       PlanObject(response.plan())},
      {{"plan_text", "plan", Form::kText, Audience::kPeople},
       absl::StrCat(
           response.plan().configurations(), " configurations x ",
           response.plan().documents(), " documents in ",
           response.plan().languages(),
           response.plan().languages() == 1 ? " language" : " languages")},
      {{"notes", "notes", Form::kText, Audience::kPeople},
       absl::StrJoin(response.plan().notes(), "; ")},
  };
  for (const auto& [column, value] : more) {
    table.columns.push_back(column);
    row.push_back(value);
  }
  for (Column& column : table.columns) {
    for (char& letter : column.title) {
      letter = static_cast<char>(
          absl::ascii_tolower(static_cast<unsigned char>(letter)));
    }
    if (column.form == Form::kShortId) {
      column.form = Form::kText;
    }
  }
  table.rows = {std::move(row)};
  return table;
}

}  // namespace qsweep::qctl
