// What is to be run: sharing, tasks. In which slices: submit_planner_slices.cc.
// What becomes of it: submit_planner_mutations.cc.
#include "coordinator/core/submit_planner.h"

#include <algorithm>
#include <memory>
#include <set>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error_codes.h"

namespace qsweep {
namespace {

constexpr double kSecondsMax = 1e9;  // thirty years

}  // namespace

void SubmitPlanner::Plan(const State& state, const PlanSlice& slice,
                         const PanelStatuses& statuses) {
  const SubmitPanel& panel = prepared_.panels[slice.panel];
  const size_t num_keys = slice.num_configurations * slice.num_documents;
  QSWEEP_CHECK(statuses.size() == num_keys);
  std::vector<bool> missing(panel.configurations.size() * slice.num_documents);
  const size_t offset = slice.first_configuration * slice.num_documents;
  int64_t reused = 0;
  for (size_t i = 0; i < num_keys; ++i) {
    const bool measured = statuses[i] != v1::ROW_STATUS_UNSPECIFIED;
    if (measured && statuses[i] != v1::ROW_STATUS_OK) {
      const size_t d = slice.first_document + i % slice.num_documents;
      skipped_.emplace(panel.evaluation, panel.documents[d].digest);
    }
    missing[offset + i] = !measured || !reuse_;
    reused += missing[offset + i] ? 0 : 1;
  }
  const auto keys = static_cast<int64_t>(num_keys);
  missing_ += keys - reused;
  plan_.set_measurements(plan_.measurements() + num_keys);
  plan_.set_measurements_reused(plan_.measurements_reused() +
                                static_cast<uint64_t>(reused));
  ShareLiveTasks(state, slice, missing);
  MakeTasks(state, slice, std::move(missing));
  plan_.set_estimated_seconds(std::min(seconds_, kSecondsMax));
}

bool SubmitPlanner::MayShare(const State& state, const Task& task) const {
  if (task.IsOf(number_)) {
    return true;
  }
  // A fresh job's tasks are its own: it may begin its plan again with others,
  // and when it is tried again it has no claim on what others measured.
  return reuse_ && std::ranges::none_of(task.jobs, [&state](JobNumber number) {
           return state.job(number).fresh;
         });
}

void SubmitPlanner::ShareLiveTasks(const State& state, const PlanSlice& slice,
                                   std::vector<bool>& missing) {
  const SubmitPanel& panel = prepared_.panels[slice.panel];
  const Digest& model =
      prepared_.models[static_cast<size_t>(panel.model_index)].digest;
  for (size_t d = 0; d < slice.num_documents; ++d) {
    const Digest& document = panel.documents[slice.first_document + d].digest;
    for (const TaskId id :
         state.LiveTasksOn(model, panel.evaluation, document)) {
      const Task& task = state.task(id);
      if (MayShare(state, task)) {
        ShareTask(state, slice, d, task, missing);
      }
    }
  }
}

void SubmitPlanner::ShareTask(const State& state, const PlanSlice& slice,
                              size_t d, const Task& task,
                              std::vector<bool>& missing) {
  int64_t covered = 0;
  for (const int c : IndexesOf(slice.panel, state.group(task.group))) {
    const size_t key = static_cast<size_t>(c) * slice.num_documents + d;
    covered += missing[key] ? 1 : 0;
    missing[key] = false;
  }
  if (covered > 0) {
    shared_[task.id] += covered;
    CountShared(state, slice.panel, task);
  }
}

const std::vector<int>& SubmitPlanner::IndexesOf(size_t panel,
                                                 const TaskGroup& group) {
  const auto [known, fresh] =
      indexes_of_.try_emplace(std::pair(panel, group.id));
  if (!fresh) {
    return known->second;
  }
  auto& position = position_of_[panel];
  if (position.empty()) {
    const auto& configurations = prepared_.panels[panel].configurations;
    for (size_t c = 0; c < configurations.size(); ++c) {
      position.emplace(configurations[c], static_cast<int>(c));
    }
  }
  for (const Digest& configuration : group.configurations) {
    const auto found = position.find(configuration);
    if (found != position.end()) {
      known->second.push_back(found->second);
    }
  }
  std::ranges::sort(known->second);
  return known->second;
}

void SubmitPlanner::CountShared(const State& state, size_t panel,
                                const Task& task) {
  if (!seen_.insert(task.id).second) {
    return;
  }
  shares_leased_ |= task.state == v1::TASK_STATE_LEASED;
  const bool own = task.jobs.size() == 1 && task.jobs.front() == number_;
  if (!own) {
    plan_.set_tasks_shared(plan_.tasks_shared() + 1);
    return;
  }
  const SubmitPanel& of = prepared_.panels[panel];
  const auto model = static_cast<size_t>(of.model_index);
  const std::vector<int>& indexes = IndexesOf(panel, state.group(task.group));
  CountCalibrations(panel, indexes);
  CountPlanned(panel,
               {.configurations = indexes,
                .estimated_seconds = task.estimated_seconds,
                .layer_evaluations = tries_[model].Of(indexes),
                .layer_evaluations_naive = tries_[model].NaiveOf(indexes)});
}

void SubmitPlanner::CountPlanned(size_t panel, const PlannedTask& task) {
  const Rates& rates = rates_[panel];
  seconds_ += rates.gflops_total > 0
                  ? task.estimated_seconds * rates.gflops / rates.gflops_total
                  : 0;
  plan_.set_tasks(plan_.tasks() + 1);
  plan_.set_layer_evaluations(plan_.layer_evaluations() +
                              static_cast<uint64_t>(task.layer_evaluations));
  plan_.set_layer_evaluations_naive(
      plan_.layer_evaluations_naive() +
      static_cast<uint64_t>(task.layer_evaluations_naive));
}

void SubmitPlanner::MakeTasks(const State& state, const PlanSlice& slice,
                              std::vector<bool> missing) {
  const SubmitPanel& panel = prepared_.panels[slice.panel];
  const auto first = panel.documents.begin() +
                     static_cast<std::ptrdiff_t>(slice.first_document);
  const PlanInput input{
      .tries = &tries_[static_cast<size_t>(panel.model_index)],
      .documents = {first,
                    first + static_cast<std::ptrdiff_t>(slice.num_documents)},
      .missing = std::move(missing),
      .gflops = rates_[slice.panel].gflops,
      .reading_seconds = rates_[slice.panel].reading_seconds};
  for (const PlannedTask& planned : PlanTasks(input, settings_)) {
    NewTask task{.group = GroupOf(state, slice.panel, planned.configurations),
                 .content_key = ContentKey(panel, slice, planned),
                 .estimated_seconds = planned.estimated_seconds,
                 .num_measurements = static_cast<int64_t>(
                     planned.configurations.size() * planned.documents.size())};
    for (const int d : planned.documents) {
      const PlanDocument& document = input.documents[static_cast<size_t>(d)];
      task.documents.push_back(
          {.digest = document.digest,
           .language_index = static_cast<uint32_t>(document.language)});
    }
    tasks_.push_back(std::move(task));
    CountPlanned(slice.panel, planned);
  }
}

TaskGroupId SubmitPlanner::GroupOf(const State& state, size_t index,
                                   const std::vector<int>& configurations) {
  const SubmitPanel& panel = prepared_.panels[index];
  const auto [it, inserted] =
      group_of_.try_emplace(std::pair(index, configurations));
  if (!inserted) {
    return it->second;
  }
  it->second = TaskGroupId(state.next_group().value() +
                           static_cast<int64_t>(groups_.size()));
  const size_t m = static_cast<size_t>(panel.model_index);
  auto prototype = std::make_shared<v1::TaskSpec>();
  *prototype->mutable_model() = prepared_.spec->models(panel.model_index);
  prototype->set_model_digest(prepared_.models[m].digest.bytes());
  prototype->set_evaluation(panel.evaluation);
  prototype->set_compute(prepared_.spec->compute());
  prototype->set_memory_bytes(EstimateMemoryBytes(prepared_.models[m]));
  prototype->set_estimated_gflops(rates_[index].gflops);
  prototype->set_weight_bytes(
      static_cast<uint64_t>(prepared_.models[m].stored_bytes()));
  prototype->set_estimated_weight_bandwidth(rates_[index].weight_bandwidth);
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
  AddCalibrations(prepared_.expansion.models[m], configurations, *prototype);
  CountCalibrations(index, configurations);
  groups_.push_back(
      TaskGroupAdded{.id = it->second, .prototype = std::move(prototype)});
  return it->second;
}

// Workers make their codes at the same time, each all of them; the slowest says
// how long.
void SubmitPlanner::CountCalibrations(size_t index,
                                      const std::vector<int>& configurations) {
  const auto m = static_cast<size_t>(prepared_.panels[index].model_index);
  if (prepared_.calibration_tokens[m].empty() ||
      rates_[index].gflops_total == 0) {
    return;
  }
  double flops = 0;
  for (const int c : configurations) {
    flops += calibrations_[m].Add(prepared_.expansion.models[m]
                                      .configurations[static_cast<size_t>(c)]
                                      .configuration,
                                  prepared_.calibration_tokens[m]);
  }
  plan_.set_calibration_seconds(std::min(
      plan_.calibration_seconds() + flops / (rates_[index].gflops * 1e9),
      kSecondsMax));
}

// The calibrations that the configurations need, their languages after those of
// the documents.
void SubmitPlanner::AddCalibrations(const ExpandedModel& model,
                                    const std::vector<int>& configurations,
                                    v1::TaskSpec& prototype) const {
  std::set<uint64_t> needed;
  for (const int c : configurations) {
    for (const auto& scheme :
         model.configurations[static_cast<size_t>(c)].configuration.schemes) {
      if (scheme && scheme->calibrated()) {
        needed.insert(scheme->calibration_texts);
        break;  // a configuration has one quantizer
      }
    }
  }
  for (const ExpandedCalibration& from : prepared_.expansion.calibrations) {
    if (!needed.contains(from.texts)) {
      continue;
    }
    const int first = prototype.languages_size();
    for (const ExpandedCalibration::Language& language : from.languages) {
      v1::TaskLanguage* to = prototype.add_languages();
      to->set_language(language.language);
      to->set_artifact_digest(language.artifact.bytes());
    }
    v1::TaskCalibration* calibration = prototype.add_calibrations();
    for (const ExpandedCalibration::Document& document : from.documents) {
      v1::TaskDocument* to = calibration->add_documents();
      to->set_digest(document.digest.bytes());
      to->set_language_index(static_cast<uint32_t>(first + document.language));
    }
  }
}

Digest SubmitPlanner::ContentKey(const SubmitPanel& panel,
                                 const PlanSlice& slice,
                                 const PlannedTask& task) const {
  std::set<Digest> configurations;
  for (const int c : task.configurations) {
    configurations.insert(panel.configurations[static_cast<size_t>(c)]);
  }
  std::set<Digest> documents;
  for (const int d : task.documents) {
    documents.insert(
        panel.documents[slice.first_document + static_cast<size_t>(d)].digest);
  }
  return TaskContentKey(panel.evaluation, configurations, documents,
                        reuse_ ? "" : prepared_.uuid.bytes());
}

absl::Status SubmitPlanner::Check() const {
  if (prepared_.spec->policy().reuse() == v1::REUSE_REQUIRE && missing_ > 0) {
    return MakeError(kMeasurementsMissing,
                     absl::StrCat(missing_, " of ", plan_.measurements(),
                                  " measurements are missing"),
                     "policy.reuse", "Submit with reuse: auto to run them.");
  }
  if (static_cast<int64_t>(plan_.tasks()) > settings_.max_tasks_per_job) {
    return MakeError(
        kExpandsTooFar,
        absl::StrCat("the job needs ", plan_.tasks(), " tasks, more than ",
                     settings_.max_tasks_per_job));
  }
  return absl::OkStatus();
}

}  // namespace qsweep
