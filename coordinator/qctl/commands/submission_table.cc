#include "coordinator/qctl/commands/submission_table.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "coordinator/qctl/commands/job_table.h"
#include "coordinator/qctl/names.h"

namespace qsweep::qctl {
namespace {

std::string PlanSentence(const v1::JobPlan& plan) {
  std::string text =
      absl::StrCat(WithThousands(static_cast<int64_t>(plan.tasks())),
                   plan.tasks() == 1 ? " task queued" : " tasks queued");
  if (plan.tasks_shared() > 0) {
    absl::StrAppend(&text, ", ", plan.tasks_shared(),
                    " shared with other jobs");
  }
  return absl::StrCat(
      text, ", ", WithThousands(static_cast<int64_t>(plan.measurements())),
      " measurements, ",
      WithThousands(static_cast<int64_t>(plan.measurements_reused())),
      " of them reused");
}

std::string ModelText(const v1::ModelDescription& model) {
  return absl::StrCat(model.name(), " (", model.family(), ", ", model.layers(),
                      " layers, digest ", ShortHex(model.digest()), ")");
}

std::string DurationText(double seconds) {
  return FormatForPeople(seconds, Form::kDuration, absl::Time());
}

std::string TimeText(const v1::JobPlan& plan) {
  if (plan.tasks() == 0) {
    return plan.tasks_shared() > 0
               ? "none of its own: tasks of other jobs bring the rest"
               : "none: all is measured already";
  }
  if (plan.estimated_seconds() <= 0) {
    return "unknown: no worker that may run it is attached";
  }
  std::string text =
      absl::StrCat("about ", DurationText(plan.estimated_seconds()),
                   " on the workers attached now");
  if (plan.calibration_seconds() > 0) {
    absl::StrAppend(&text, "; plus about ",
                    DurationText(plan.calibration_seconds()),
                    " of calibration on each that has no codes yet");
  }
  return text;
}

}  // namespace

Table SubmissionTable(const v1::SubmitJobRequest& request,
                      const v1::SubmitJobResponse& response) {
  Table table;
  table.kind = "Submission";
  table.name_column = "uuid";
  table.name_prefix = "job/";
  table.columns = {{"number", "JOB", Form::kNumber},
                   {"uuid", "UUID", Form::kShortId},
                   {"name", "NAME"},
                   {"existed", "existed", Form::kText, Audience::kMachines},
                   {"plan", "plan", Form::kText, Audience::kMachines},
                   {"sentence", "PLAN", Form::kText, Audience::kPeople}};
  table.rows = {{absl::StrCat(response.job_number()),
                 UuidText(request.job_uuid()), request.spec().name(),
                 response.existed(), PlanObject(response.plan()),
                 response.existed() ? "this job was queued before"
                                    : PlanSentence(response.plan())}};
  return table;
}

Table PlanTable(const v1::SubmitJobRequest& request, const v1::JobPlan& plan) {
  const auto count = [](uint64_t number) {
    return WithThousands(static_cast<int64_t>(number));
  };
  Value::List models;
  for (const v1::ModelDescription& model : request.models()) {
    models.push_back(ModelText(model));
  }
  Table table;
  table.kind = "Plan";
  table.record = true;
  table.columns = {
      {"models", "model"},
      {"plan", "plan", Form::kText, Audience::kMachines},
      {"configurations", "configurations", Form::kText, Audience::kPeople},
      {"measurements", "measurements", Form::kText, Audience::kPeople},
      {"tasks", "tasks", Form::kText, Audience::kPeople},
      {"work", "layer evaluations", Form::kText, Audience::kPeople},
      {"time", "time", Form::kText, Audience::kPeople},
      {"notes", "notes", Form::kText, Audience::kPeople}};
  table.rows = {
      {models, PlanObject(plan), count(plan.configurations()),
       absl::StrCat(count(plan.measurements()), " = ",
                    count(plan.configurations()), " x ",
                    count(plan.documents()), " documents in ", plan.languages(),
                    plan.languages() == 1 ? " language; " : " languages; ",
                    count(plan.measurements_reused()), " are there already"),
       absl::StrCat(count(plan.tasks()), ", ", count(plan.tasks_shared()),
                    " of other jobs"),
       absl::StrCat(count(plan.layer_evaluations()), " instead of ",
                    count(plan.layer_evaluations_naive()),
                    " one configuration at a time"),
       TimeText(plan), absl::StrJoin(plan.notes(), "; ")}};
  return table;
}

}  // namespace qsweep::qctl
