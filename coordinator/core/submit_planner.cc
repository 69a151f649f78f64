#include "coordinator/core/submit_planner.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error_codes.h"
#include "coordinator/core/retry.h"

namespace qsweep {
namespace {

double GflopsOf(const Worker& worker, const Settings& settings) {
  double gflops = 0;
  for (const v1::Device& device : worker.devices) {
    gflops = std::max(gflops, device.gflops());
  }
  return gflops > 0 ? gflops : settings.default_gflops;
}

}  // namespace

SubmitPlanner::SubmitPlanner(const State& state, const PreparedSubmit& prepared,
                             const Settings& settings, const Now& now,
                             const Job* again)
    : state_(state),
      prepared_(prepared),
      settings_(settings),
      now_(now),
      again_(again),
      number_(again == nullptr ? state.next_job() : again->number),
      reuse_(prepared.spec->policy().reuse() != v1::REUSE_NEVER) {
  for (const auto& [uuid, worker] : state.workers()) {
    if (worker.liveness == WorkerLiveness::kLive) {
      const double gflops = GflopsOf(worker, settings);
      gflops_slowest_ =
          gflops_total_ == 0 ? gflops : std::min(gflops_slowest_, gflops);
      gflops_total_ += gflops;
    }
  }
  if (gflops_total_ == 0) {
    gflops_slowest_ = settings.default_gflops;
  }
  const Expansion& expansion = prepared.expansion;
  plan_.set_configurations(
      static_cast<uint64_t>(expansion.num_configurations()));
  plan_.set_documents(static_cast<uint64_t>(expansion.num_documents()));
  plan_.set_languages(expansion.languages.size());
  plan_.mutable_notes()->Add(expansion.notes.begin(), expansion.notes.end());
}

void SubmitPlanner::PlanPanel(const SubmitPanel& panel,
                              const PanelStatuses& statuses) {
  const size_t num_documents = panel.documents.size();
  std::vector<bool> missing(panel.configurations.size() * num_documents, true);
  QSWEEP_CHECK(statuses.size() == missing.size());
  const int64_t num_keys = static_cast<int64_t>(missing.size());
  int64_t reused = 0;
  for (size_t i = 0; i < missing.size(); ++i) {
    if (statuses[i] == v1::ROW_STATUS_UNSPECIFIED) {
      continue;
    }
    if (statuses[i] != v1::ROW_STATUS_OK) {
      skipped_.emplace(panel.evaluation,
                       panel.documents[i % num_documents].digest);
    }
    if (reuse_) {
      missing[i] = false;
      ++reused;
    }
  }
  missing_ += num_keys - reused;
  plan_.set_measurements(plan_.measurements() +
                         static_cast<uint64_t>(num_keys));
  plan_.set_measurements_reused(plan_.measurements_reused() +
                                static_cast<uint64_t>(reused));
  if (reuse_) {
    ShareLiveTasks(panel, missing);
  }
  MakeTasks(panel, std::move(missing));
  plan_.set_tasks(tasks_.size());
  plan_.set_tasks_shared(shared_.size());
  plan_.set_estimated_seconds(
      gflops_total_ > 0 ? seconds_ * gflops_slowest_ / gflops_total_ : 0);
}

void SubmitPlanner::ShareLiveTasks(const SubmitPanel& panel,
                                   std::vector<bool>& missing) {
  absl::flat_hash_map<Digest, size_t> configuration_index;
  for (size_t c = 0; c < panel.configurations.size(); ++c) {
    configuration_index.emplace(panel.configurations[c], c);
  }
  absl::flat_hash_map<Digest, size_t> document_index;
  for (size_t d = 0; d < panel.documents.size(); ++d) {
    document_index.emplace(panel.documents[d].digest, d);
  }
  const Digest& model =
      prepared_.models[static_cast<size_t>(panel.model_index)].digest;
  for (const TaskId id : state_.LiveTasksOfModel(model)) {
    const Task& task = state_.task(id);
    const TaskGroup& group = state_.group(task.group);
    if (group.prototype->evaluation() != panel.evaluation) {
      continue;
    }
    int64_t covered = 0;
    for (const Digest& configuration : group.configurations) {
      const auto c = configuration_index.find(configuration);
      if (c == configuration_index.end()) {
        continue;
      }
      for (const TaskDocumentKey& document : task.documents) {
        const auto d = document_index.find(document.digest);
        if (d == document_index.end()) {
          continue;
        }
        const size_t key = c->second * panel.documents.size() + d->second;
        covered += missing[key] ? 1 : 0;
        missing[key] = false;
      }
    }
    if (covered > 0) {
      shared_[id] += covered;
    }
  }
}

void SubmitPlanner::MakeTasks(const SubmitPanel& panel,
                              std::vector<bool> missing) {
  const size_t m = static_cast<size_t>(panel.model_index);
  PlanInput input{.model = &prepared_.models[m],
                  .documents = panel.documents,
                  .missing = std::move(missing),
                  .gflops = gflops_slowest_};
  for (const auto& expanded : prepared_.expansion.models[m].configurations) {
    input.configurations.push_back(&expanded.configuration);
  }
  for (const PlannedTask& planned : PlanTasks(input, settings_)) {
    NewTask task{.group = GroupOf(panel, planned.configurations),
                 .content_key = ContentKey(panel, planned),
                 .estimated_seconds = planned.estimated_seconds,
                 .num_measurements = static_cast<int64_t>(
                     planned.configurations.size() * planned.documents.size())};
    for (const int d : planned.documents) {
      const PlanDocument& document = panel.documents[static_cast<size_t>(d)];
      task.documents.push_back(
          {.digest = document.digest,
           .language_index = static_cast<uint32_t>(document.language)});
    }
    tasks_.push_back(std::move(task));
    seconds_ += planned.estimated_seconds;
    plan_.set_layer_evaluations(
        plan_.layer_evaluations() +
        static_cast<uint64_t>(planned.layer_evaluations));
    plan_.set_layer_evaluations_naive(
        plan_.layer_evaluations_naive() +
        static_cast<uint64_t>(planned.layer_evaluations_naive));
  }
}

TaskGroupId SubmitPlanner::GroupOf(const SubmitPanel& panel,
                                   const std::vector<int>& configurations) {
  const auto [it, inserted] =
      group_of_.try_emplace(std::pair(&panel, configurations));
  if (!inserted) {
    return it->second;
  }
  it->second = TaskGroupId(state_.next_group().value() +
                           static_cast<int64_t>(groups_.size()));
  const size_t m = static_cast<size_t>(panel.model_index);
  auto prototype = std::make_shared<v1::TaskSpec>();
  *prototype->mutable_model() = prepared_.spec->models(panel.model_index);
  prototype->set_model_digest(prepared_.models[m].digest.bytes());
  prototype->set_evaluation(panel.evaluation);
  prototype->set_compute(prepared_.spec->compute());
  prototype->set_memory_bytes(EstimateMemoryBytes(prepared_.models[m]));
  for (const int c : configurations) {
    const Configuration& configuration =
        prepared_.expansion.models[m]
            .configurations[static_cast<size_t>(c)]
            .configuration;
    v1::ConfigurationSpec* spec = prototype->add_configurations();
    spec->set_digest(configuration.digest.bytes());
    spec->set_quantizer(configuration.quantizer_text);
    spec->set_layer_set(configuration.layer_set_text);
  }
  for (const int position : prepared_.expansion.languages) {
    const v1::CorpusLanguage& from = prepared_.corpus->languages(position);
    v1::TaskLanguage* language = prototype->add_languages();
    language->set_language(from.language());
    language->set_artifact_digest(from.artifact_digest());
  }
  groups_.push_back(
      TaskGroupAdded{.id = it->second, .prototype = std::move(prototype)});
  return it->second;
}

Digest SubmitPlanner::ContentKey(const SubmitPanel& panel,
                                 const PlannedTask& task) const {
  std::set<Digest> configurations;
  for (const int c : task.configurations) {
    configurations.insert(panel.configurations[static_cast<size_t>(c)]);
  }
  std::set<Digest> documents;
  for (const int d : task.documents) {
    documents.insert(panel.documents[static_cast<size_t>(d)].digest);
  }
  DigestBuilder builder;
  builder.Update(absl::StrCat("task@1\n", panel.evaluation, "\n",
                              configurations.size(), " ", documents.size(),
                              "\n"));
  for (const Digest& digest : configurations) {
    builder.Update(digest.bytes());
  }
  for (const Digest& digest : documents) {
    builder.Update(digest.bytes());
  }
  if (!reuse_) {
    builder.Update(prepared_.uuid.bytes());  // a task of this job alone
  }
  return builder.Finish();
}

absl::Status SubmitPlanner::Check() const {
  if (prepared_.spec->policy().reuse() == v1::REUSE_REQUIRE && missing_ > 0) {
    return MakeError(kMeasurementsMissing,
                     absl::StrCat(missing_, " of ", plan_.measurements(),
                                  " measurements are missing"),
                     "policy.reuse", "Submit with reuse: auto to run them.");
  }
  if (static_cast<int64_t>(tasks_.size()) > settings_.max_tasks_per_job) {
    return MakeError(
        kExpandsTooFar,
        absl::StrCat("the job needs ", tasks_.size(), " tasks, more than ",
                     settings_.max_tasks_per_job));
  }
  return absl::OkStatus();
}

std::vector<Mutation> SubmitPlanner::TakeMutations() {
  Draft draft(state_, now_);
  if (again_ == nullptr) {
    AddJob(draft);
  } else {
    Reopen(draft);
  }
  for (TaskGroupAdded& group : groups_) {
    draft.Add(std::move(group));
  }
  for (const auto& [id, measurements] : shared_) {
    draft.Add(JobTaskAdded{
        .job = number_, .task = id, .num_measurements = measurements});
  }
  TaskId next = state_.next_task();
  for (const NewTask& task : tasks_) {
    AddTask(draft, task, next);
  }
  StartOrEnd(draft);
  return draft.Take();
}

void SubmitPlanner::AddJob(Draft& draft) const {
  JobAdded job{.number = number_,
               .uuid = prepared_.uuid,
               .spec_digest = prepared_.spec_digest,
               .owner = prepared_.owner,
               .created_at = now_.wall,
               .spec = prepared_.spec,
               .plan = std::make_shared<const v1::JobPlan>(plan_),
               .corpus = prepared_.corpus_digest,
               .documents_skipped = static_cast<int64_t>(skipped_.size())};
  std::set<Digest> added;
  for (size_t m = 0; m < prepared_.models.size(); ++m) {
    const Digest& digest = prepared_.models[m].digest;
    job.models.push_back(digest);
    if (!state_.models().contains(digest) && added.insert(digest).second) {
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
  const Expansion& expansion = prepared_.expansion;
  for (size_t e = 0; e < expansion.evaluations.size(); ++e) {
    for (const ExpandedDocument& from : expansion.evaluations[e].documents) {
      const int position =
          expansion.languages[static_cast<size_t>(from.language)];
      job.documents.push_back(
          {.eval_index = static_cast<int>(e),
           .language = prepared_.corpus->languages(position).language(),
           .id = from.id,
           .digest = from.digest});
    }
  }
  draft.Add(std::move(job));
  draft.AddJobEvent(number_, {.kind = "job_submitted", .to = "PLANNING"});
}

// Of its old tasks the job keeps those that are DONE.
void SubmitPlanner::Reopen(Draft& draft) {
  std::vector<TaskId> given_up;
  for (const auto& [id, measurements] : again_->tasks) {
    if (state_.task(id).state == v1::TASK_STATE_DONE) {
      plan_.set_measurements_reused(plan_.measurements_reused() -
                                    static_cast<uint64_t>(measurements));
    } else {
      given_up.push_back(id);
    }
  }
  ReopenJob(draft, *again_, std::make_shared<const v1::JobPlan>(plan_));
  for (const TaskId id : given_up) {
    draft.Add(JobTaskRemoved{.job = number_, .task = id});
  }
}

void SubmitPlanner::AddTask(Draft& draft, const NewTask& task,
                            TaskId& next) const {
  const Task* known = state_.FindTaskByKey(task.content_key);
  if (known != nullptr) {
    // Cancelled or given up before. Of a job planned again Reopen removed it.
    ReviveTask(draft, *known, number_);
  } else {
    draft.Add(TaskAdded{.id = next,
                        .group = task.group,
                        .content_key = task.content_key,
                        .documents = task.documents,
                        .estimated_seconds = task.estimated_seconds});
  }
  draft.Add(JobTaskAdded{.job = number_,
                         .task = known == nullptr ? next : known->id,
                         .num_measurements = task.num_measurements});
  if (known == nullptr) {
    next = next.Next();
  }
}

void SubmitPlanner::StartOrEnd(Draft& draft) const {
  v1::JobState to = v1::JOB_STATE_QUEUED;
  absl::string_view kind = "job_queued";
  std::string reason;
  if (tasks_.empty() && shared_.empty()) {
    to = v1::JOB_STATE_SUCCEEDED;
    kind = "job_succeeded";
    reason = skipped_.empty()
                 ? "everything was measured already"
                 : SkippedText(static_cast<int64_t>(skipped_.size()));
  } else if (std::ranges::any_of(shared_, [this](const auto& entry) {
               return state_.task(entry.first).state == v1::TASK_STATE_LEASED;
             })) {
    to = v1::JOB_STATE_RUNNING;
    kind = "job_running";
  }
  draft.Add(JobStateChanged{
      .job = number_, .state = to, .reason = reason, .time = now_.wall});
  draft.AddJobEvent(number_, {.kind = kind,
                              .from = "PLANNING",
                              .to = ShortName(to),
                              .reason = reason});
}

}  // namespace qsweep
