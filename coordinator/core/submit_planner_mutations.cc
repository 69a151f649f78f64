// What a plan does to the state: the job, its tasks, its first state.
#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "coordinator/core/retry.h"
#include "coordinator/core/submit_planner.h"

namespace qsweep {
namespace {

constexpr size_t kDocuments = 2000;  // written in one step, of a large job
constexpr int64_t kClearedPerPlanned = 2;  // tasks, in the time of a slice

}  // namespace

void SubmitPlanner::Begin(Draft& draft) {
  if (!exists_) {
    AddJob(draft);
    return;
  }
  documents_added_ = prepared_.num_documents();
  if (at_once_) {
    Reopen(draft);
  } else {
    ReopenJob(draft, draft.state().job(number_), PlanNow());
  }
}

bool SubmitPlanner::Clear(Draft& draft) {
  const auto& tasks = draft.state().job(number_).tasks;
  auto entry = tasks.upper_bound(cleared_);
  const int64_t most = kClearedPerPlanned * settings_.plan_slice_tasks;
  for (int64_t i = 0; i < most && entry != tasks.end(); ++i, ++entry) {
    cleared_ = entry->first;
    if (draft.state().task(cleared_).given_up()) {
      draft.Add(JobTaskRemoved{.job = number_, .task = cleared_});
    } else if (entry->second > 0) {
      draft.Add(JobTaskAdded{.job = number_,
                             .task = cleared_,
                             .num_measurements = -int64_t{entry->second}});
    }
  }
  if (entry != tasks.end()) {
    return true;
  }
  draft.Add(JobPlanningResumed{.job = number_, .plan = PlanNow()});
  return false;
}

// Of a large job what is known before its slices are planned.
std::shared_ptr<const v1::JobPlan> SubmitPlanner::PlanNow() const {
  auto plan = std::make_shared<v1::JobPlan>(plan_);
  plan->set_measurements(static_cast<uint64_t>(num_keys_));
  return plan;
}

bool SubmitPlanner::AddDocuments(Draft& draft) {
  std::vector<JobDocument> documents =
      DocumentsFrom(documents_added_, kDocuments);
  if (documents.empty()) {
    return false;
  }
  const auto first = static_cast<int>(documents_added_);
  documents_added_ += documents.size();
  draft.Add(JobDocumentsAdded{.job = number_,
                              .first_ordinal = first,
                              .documents = std::move(documents)});
  return true;
}

std::vector<JobDocument> SubmitPlanner::DocumentsFrom(size_t first,
                                                      size_t count) const {
  std::vector<JobDocument> documents;
  const Expansion& expansion = prepared_.expansion;
  size_t before = 0;  // documents of earlier evaluations
  for (size_t e = 0; e < expansion.evaluations.size(); ++e) {
    const auto& all = expansion.evaluations[e].documents;
    const size_t end = std::min(before + all.size(), first + count);
    for (size_t i = std::max(before, first); i < end; ++i) {
      const ExpandedDocument& from = all[i - before];
      const int position =
          expansion.languages[static_cast<size_t>(from.language)];
      documents.push_back(
          {.eval_index = static_cast<int>(e),
           .language = prepared_.corpus->languages(position).language(),
           .id = from.id,
           .digest = from.digest});
    }
    before += all.size();
  }
  return documents;
}

void SubmitPlanner::AddJob(Draft& draft) {
  JobAdded job{.number = number_,
               .uuid = prepared_.uuid,
               .spec_digest = prepared_.spec_digest,
               .owner = prepared_.owner,
               .created_at = draft.now().wall,
               .spec = prepared_.spec,
               .plan = PlanNow(),
               .corpus = prepared_.corpus_digest,
               .documents_skipped = static_cast<int64_t>(skipped_.size())};
  std::set<Digest> added;
  for (size_t m = 0; m < prepared_.models.size(); ++m) {
    const Digest& digest = prepared_.models[m].digest;
    job.models.push_back(digest);
    if (!draft.state().models().contains(digest) &&
        added.insert(digest).second) {
      draft.Add(
          ModelAdded{.digest = digest, .model = prepared_.model_protos[m]});
    }
    for (const auto& expanded : prepared_.expansion.models[m].configurations) {
      const Configuration& from = expanded.configuration;
      job.configurations.push_back(
          {.model_index = static_cast<int>(m),
           .digest = from.digest,
           .quantizer = from.quantizer_text,
           .layer_set = expanded.written_layer_set,
           .resolved = from.layer_set_text,
           .canonical = CanonicalSpelling(prepared_.models[m], from),
           .baseline = from.baseline(),
           .unprotected = from.unprotected,
           .single_layer = from.single_layer,
           .overhead_params = from.overhead.params,
           .overhead_layers = from.overhead.layers,
           .overhead_kept = from.overhead.kept,
           .overhead_bytes = from.overhead.bytes});
    }
  }
  for (const SubmitPanel& panel : prepared_.panels) {
    job.evaluations.push_back({.model_index = panel.model_index,
                               .eval_index = panel.eval_index,
                               .text = panel.evaluation});
  }
  const size_t documents = at_once_ ? prepared_.num_documents() : kDocuments;
  job.documents = DocumentsFrom(0, documents);
  documents_added_ = job.documents.size();
  draft.Add(std::move(job));
  draft.AddJobEvent(number_, {.kind = "job_submitted", .to = "PLANNING"});
}

// Of its old tasks a small job keeps those that are DONE.
void SubmitPlanner::Reopen(Draft& draft) {
  const Job& job = draft.state().job(number_);
  std::vector<TaskId> given_up;
  for (const auto& [id, measurements] : job.tasks) {
    if (draft.state().task(id).state != v1::TASK_STATE_DONE) {
      given_up.push_back(id);
    } else {
      plan_.set_measurements_reused(plan_.measurements_reused() -
                                    static_cast<uint64_t>(measurements));
    }
  }
  ReopenJob(draft, job, PlanNow());
  for (const TaskId id : given_up) {
    draft.Add(JobTaskRemoved{.job = number_, .task = id});
  }
}

void SubmitPlanner::AddTasks(Draft& draft) {
  for (TaskGroupAdded& group : groups_) {
    draft.Add(std::move(group));
  }
  for (const auto& [id, measurements] : shared_) {
    draft.Add(JobTaskAdded{
        .job = number_, .task = id, .num_measurements = measurements});
  }
  TaskId next = draft.state().next_task();
  for (const NewTask& task : tasks_) {
    AddTask(draft, task, next);
  }
  DropTasks();
}

void SubmitPlanner::DropTasks() {
  groups_.clear();
  shared_.clear();
  tasks_.clear();
}

void SubmitPlanner::AddTask(Draft& draft, const NewTask& task,
                            TaskId& next) const {
  const Task* known = draft.state().FindGivenUp(task.content_key);
  if (known != nullptr) {
    // Cancelled or given up before. Of a job planned again it was removed.
    ReviveTask(draft, *known, number_);
  } else {
    draft.Add(TaskAdded{
        .id = next,
        .group = task.group,
        .content_key = task.content_key,
        .documents = task.documents,
        .estimated_seconds = static_cast<float>(task.estimated_seconds)});
  }
  draft.Add(JobTaskAdded{.job = number_,
                         .task = known == nullptr ? next : TaskId(known->id),
                         .num_measurements = task.num_measurements});
  if (known == nullptr) {
    next = next.Next();
  }
}

void SubmitPlanner::Start(Draft& draft) const {
  if (exists_) {  // what others measured meanwhile may have been skipped
    draft.Add(JobActivated{.job = number_,
                           .plan = PlanNow(),
                           .documents_skipped = documents_skipped()});
  }
  if (plan_.tasks() == 0 && plan_.tasks_shared() == 0) {
    MoveTo(draft, v1::JOB_STATE_SUCCEEDED, "job_succeeded",
           documents_skipped() == 0 ? "everything was measured already"
                                    : SkippedText(documents_skipped()));
  } else if (shares_leased_) {
    MoveTo(draft, v1::JOB_STATE_RUNNING, "job_running", "");
  } else {
    MoveTo(draft, v1::JOB_STATE_QUEUED, "job_queued", "");
  }
}

void SubmitPlanner::Activate(Draft& draft, int64_t documents_skipped) {
  const Job& job = draft.state().job(number_);
  draft.Add(JobActivated{.job = number_,
                         .plan = std::make_shared<const v1::JobPlan>(plan_),
                         .documents_skipped = documents_skipped});
  if (job.num_tasks(v1::TASK_STATE_LEASED) > 0) {
    MoveTo(draft, v1::JOB_STATE_RUNNING, "job_running", "");
  } else if (job.tasks_live() > 0) {
    MoveTo(draft, v1::JOB_STATE_QUEUED, "job_queued", "");
  } else if (job.num_tasks(v1::TASK_STATE_QUARANTINED) > 0) {
    MoveTo(draft, v1::JOB_STATE_FAILED, "job_failed",
           absl::StrCat(job.num_tasks(v1::TASK_STATE_QUARANTINED), " of ",
                        job.tasks.size(), " tasks failed"));
  } else {
    MoveTo(draft, v1::JOB_STATE_SUCCEEDED, "job_succeeded",
           documents_skipped > 0 ? SkippedText(documents_skipped)
           : job.tasks.empty()   ? "everything was measured already"
                                 : "");
  }
}

void SubmitPlanner::MoveTo(Draft& draft, v1::JobState state,
                           absl::string_view kind,
                           const std::string& reason) const {
  draft.Add(JobStateChanged{.job = number_,
                            .state = state,
                            .reason = reason,
                            .time = draft.now().wall});
  draft.AddJobEvent(number_, {.kind = kind,
                              .from = "PLANNING",
                              .to = ShortName(state),
                              .reason = reason});
}

}  // namespace qsweep
