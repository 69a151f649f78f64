#include "coordinator/core/lists.h"

#include <algorithm>
#include <limits>
#include <set>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "coordinator/core/uuid_prefix.h"

namespace qsweep {
namespace {

constexpr uint32_t kJobsDefault = 100;
constexpr uint32_t kTasksDefault = 1000;

absl::Status Ambiguous(absl::string_view selector,
                       const std::vector<JobNumber>& jobs) {
  return MakeError(
      kAmbiguousJob,
      absl::StrCat("'", selector, "' fits jobs ",
                   absl::StrJoin(jobs, ", ",
                                 [](std::string* out, JobNumber number) {
                                   absl::StrAppend(out, number.value());
                                 })),
      "job", "Give the number or the UUID.");
}

template <typename Predicate>
std::vector<JobNumber> JobsWhere(const State& state, Predicate predicate) {
  std::vector<JobNumber> numbers;
  for (const auto& [number, job] : state.jobs()) {
    if (predicate(job)) {
      numbers.push_back(number);
    }
  }
  return numbers;
}

std::vector<JobNumber> JobsByPrefix(const State& state,
                                    absl::string_view selector) {
  const UuidPrefix prefix(selector);
  if (!prefix.valid()) {
    return {};
  }
  return JobsWhere(state,
                   [&prefix](const Job& job) { return prefix.Fits(job.uuid); });
}

std::string ModelName(const v1::ModelReference& model) {
  if (!model.id().empty()) {
    return model.id();
  }
  const absl::string_view path = absl::StripSuffix(model.path(), "/");
  const size_t slash = path.rfind('/');
  return std::string(slash == absl::string_view::npos ? path
                                                      : path.substr(slash + 1));
}

std::string LanguagesOf(const TaskGroup& group, const Task& task) {
  std::set<std::string> languages;
  for (const DocumentRef& ref : task.documents) {
    languages.insert(
        group.prototype->languages(static_cast<int>(ref.language_index))
            .language());
  }
  if (task.documents.empty()) {  // DONE: State has let go of the documents
    const v1::TaskSpec& spec = *group.prototype;
    // Those of calibrations come last.
    const int scored =
        spec.calibrations().empty()
            ? spec.languages_size()
            : static_cast<int>(
                  spec.calibrations(0).documents(0).language_index());
    for (int i = 0; i < scored; ++i) {
      languages.insert(spec.languages(i).language());
    }
  }
  return absl::StrJoin(languages, ",");
}

// Tasks of the job, or of all, in one of these states, or in any.
uint64_t CountTasks(const State& state, const Job* job,
                    const std::set<int>& states) {
  int64_t total = 0;
  for (int i = 0; i < v1::TaskState_ARRAYSIZE; ++i) {
    const auto task_state = static_cast<v1::TaskState>(i);
    if (states.empty() || states.contains(i)) {
      total += job != nullptr ? job->num_tasks(task_state)
                              : state.num_tasks(task_state);
    }
  }
  // Those that it shares with others are left out, too, for as long as it is
  // planned.
  for (const JobNumber number : state.active_jobs()) {
    const Job& active = state.job(number);
    if (job == nullptr && active.state == v1::JOB_STATE_PLANNING) {
      total -= static_cast<int64_t>(CountTasks(state, &active, states));
    }
  }
  return static_cast<uint64_t>(std::max<int64_t>(total, 0));
}

std::string WorkerStateName(const Worker& worker) {
  if (worker.liveness != WorkerLiveness::kLost &&
      worker.mode == WorkerMode::kQuarantined) {
    return "quarantined";
  }
  if (worker.liveness != WorkerLiveness::kLive && worker.state != nullptr &&
      worker.state->goodbye()) {
    return "left";
  }
  switch (worker.liveness) {
    case WorkerLiveness::kLive:
      return worker.mode == WorkerMode::kDraining ||
                     (worker.state != nullptr && worker.state->draining())
                 ? "draining"
                 : "live";
    case WorkerLiveness::kSuspect:
      return "suspect";
    case WorkerLiveness::kLost:
      break;
  }
  return "lost";
}

uint64_t Milliseconds(absl::Duration duration) {
  return static_cast<uint64_t>(
      std::max<int64_t>(absl::ToInt64Milliseconds(duration), 0));
}

}  // namespace

absl::StatusOr<JobNumber> ResolveJob(const State& state,
                                     absl::string_view selector) {
  const absl::string_view text = absl::StripPrefix(selector, "job/");
  if (text == "last" && !state.jobs().empty()) {
    return state.jobs().rbegin()->first;
  }
  int64_t number = 0;
  if (absl::SimpleAtoi(text, &number) &&
      state.FindJob(JobNumber(number)) != nullptr) {
    return JobNumber(number);
  }
  std::vector<JobNumber> found;
  if (!text.empty()) {
    found =
        JobsWhere(state, [text](const Job& job) { return job.name == text; });
  }
  if (found.empty()) {
    found = JobsByPrefix(state, text);
  }
  if (found.empty()) {
    return MakeError(kJobNotFound, absl::StrCat("no job '", selector, "'"),
                     "job", "List them with 'qctl jobs list'.");
  }
  if (found.size() > 1) {
    return Ambiguous(selector, found);
  }
  return found.front();
}

v1::JobSummary MakeJobSummary(const Job& job) {
  v1::JobSummary summary;
  summary.set_job_uuid(job.uuid.bytes());
  summary.set_job_number(static_cast<uint64_t>(job.number.value()));
  summary.set_name(job.name);
  summary.set_kind(job.kind);
  summary.set_state(job.state);
  summary.set_reason(job.reason);
  summary.set_owner(job.owner);
  summary.set_created_at_us(absl::ToUnixMicros(job.created_at));
  summary.set_finished_at_us(
      job.terminal() ? absl::ToUnixMicros(job.finished_at) : 0);
  const auto count = [](int64_t value) { return static_cast<uint64_t>(value); };
  if (job.state != v1::JOB_STATE_PLANNING) {  // half a plan is none
    summary.set_tasks_total(job.tasks.size());
    summary.set_tasks_done(count(job.num_tasks(v1::TASK_STATE_DONE)));
    summary.set_tasks_failed(count(job.num_tasks(v1::TASK_STATE_QUARANTINED)));
    summary.set_tasks_leased(count(job.num_tasks(v1::TASK_STATE_LEASED)));
  }
  summary.set_measurements_total(count(job.measurements_total));
  summary.set_measurements_done(count(job.measurements_done));
  summary.set_measurements_reused(count(job.measurements_reused));
  summary.set_documents_skipped(count(job.documents_skipped));
  summary.mutable_labels()->insert(job.labels.begin(), job.labels.end());
  return summary;
}

v1::TaskSummary MakeTaskSummary(const State& state, const Task& task) {
  const TaskGroup& group = state.group(task.group);
  v1::TaskSummary summary;
  summary.set_task_id(static_cast<uint64_t>(task.id.value()));
  summary.set_state(task.state);
  summary.set_model(ModelName(group.prototype->model()));
  summary.set_configurations(
      static_cast<uint32_t>(group.configurations.size()));
  summary.set_documents(static_cast<uint32_t>(task.num_documents()));
  summary.set_languages(LanguagesOf(group, task));
  summary.set_epoch(static_cast<uint64_t>(task.epoch().value()));
  summary.set_failed(static_cast<uint32_t>(task.history->failed));
  summary.set_lost(static_cast<uint32_t>(task.history->lost));
  summary.set_preempted(static_cast<uint32_t>(task.history->preempted));
  summary.set_reason(task.history->reason);
  summary.set_estimated_seconds(task.estimated_seconds);
  if (task.lease) {
    summary.set_phase(task.lease->progress.phase());
    summary.set_fraction(task.lease->progress.fraction());
    summary.set_worker(state.FindWorker(task.lease->worker)->name);
  } else if (task.state == v1::TASK_STATE_DONE) {
    summary.set_fraction(1);
    const Grant& grant = task.history->grants[static_cast<size_t>(
        task.history->result_epoch.value() - 1)];
    summary.set_worker(state.FindWorker(grant.worker)->name);
  }
  return summary;
}

v1::ListJobsResponse ListJobs(const State& state,
                              const v1::ListJobsRequest& request) {
  const std::set<int> wanted(request.states().begin(), request.states().end());
  const size_t limit = request.limit() == 0 ? kJobsDefault : request.limit();
  v1::ListJobsResponse response;
  uint64_t total = 0;
  for (auto it = state.jobs().rbegin(); it != state.jobs().rend(); ++it) {
    const Job& job = it->second;
    if (!wanted.empty() && !wanted.contains(job.state)) {
      continue;
    }
    ++total;
    const bool below =
        request.before_number() == 0 ||
        static_cast<uint64_t>(job.number.value()) < request.before_number();
    if (below && static_cast<size_t>(response.jobs_size()) < limit) {
      *response.add_jobs() = MakeJobSummary(job);
    }
  }
  response.set_total(total);
  return response;
}

absl::StatusOr<v1::ListTasksResponse> ListTasks(
    const State& state, const v1::ListTasksRequest& request) {
  const Job* job = nullptr;
  if (!request.job().text().empty()) {
    QSWEEP_ASSIGN_OR_RETURN(const JobNumber number,
                            ResolveJob(state, request.job().text()));
    job = state.FindJob(number);
  }
  const std::set<int> wanted(request.states().begin(), request.states().end());
  const size_t limit = request.limit() == 0 ? kTasksDefault : request.limit();
  const auto after =
      std::min<uint64_t>(request.after_task_id(),
                         uint64_t{std::numeric_limits<int64_t>::max()} - 1);
  const TaskId first(static_cast<int64_t>(after) + 1);
  v1::ListTasksResponse response;
  // False: the page is full.
  const auto add = [&](const Task& task) {
    if (wanted.empty() || wanted.contains(task.state)) {
      *response.add_tasks() = MakeTaskSummary(state, task);
    }
    return static_cast<size_t>(response.tasks_size()) < limit;
  };
  if (job != nullptr) {
    // Until its plan is whole nobody sees a part of it.
    if (job->state == v1::JOB_STATE_PLANNING) {
      return response;
    }
    for (auto it = job->tasks.lower_bound(first);
         it != job->tasks.end() && add(state.task(it->first)); ++it) {
    }
  } else {
    for (auto it = state.tasks().From(first); it != state.tasks().end(); ++it) {
      const Task& task = (*it).second;
      if (!IsBeingPlanned(state, task) && !add(task)) {
        break;
      }
    }
  }
  response.set_total(CountTasks(state, job, wanted));
  return response;
}

v1::WorkerSummary MakeWorkerSummary(const Worker& worker, const Now& now) {
  v1::WorkerSummary summary;
  summary.set_worker_uuid(worker.uuid.bytes());
  summary.set_name(worker.name);
  summary.set_state(WorkerStateName(worker));
  summary.mutable_devices()->Add(worker.devices.begin(), worker.devices.end());
  summary.set_tasks_done(static_cast<uint64_t>(worker.tasks_done));
  summary.set_build_id(worker.build_id);
  for (const TaskId id : worker.leases) {
    summary.add_held(static_cast<uint64_t>(id.value()));
  }
  if (worker.hello != nullptr) {
    summary.set_up_ms(Milliseconds(now.steady - worker.attached_at));
    summary.set_last_seen_ms(Milliseconds(now.steady - worker.seen_at));
  } else {  // not since the coordinator started
    summary.set_last_seen_ms(Milliseconds(now.wall - worker.last_seen));
  }
  if (worker.mode != WorkerMode::kOpen) {
    summary.set_note(worker.mode_reason);
  } else if (worker.state != nullptr) {
    summary.set_note(worker.state->reason());
  }
  return summary;
}

v1::ListWorkersResponse ListWorkers(const State& state, const Now& now) {
  v1::ListWorkersResponse response;
  for (const auto& [uuid, worker] : state.workers()) {
    *response.add_workers() = MakeWorkerSummary(worker, now);
  }
  return response;
}

bool IsBeingPlanned(const State& state, const Task& task) {
  return !task.jobs.empty() &&
         std::ranges::all_of(task.jobs, [&state](JobNumber number) {
           return state.job(number).state == v1::JOB_STATE_PLANNING;
         });
}

void CountStatus(const State& state, v1::GetStatusResponse& response) {
  uint64_t live = 0;
  for (const auto& [uuid, worker] : state.workers()) {
    live += worker.liveness == WorkerLiveness::kLive ? 1 : 0;
  }
  response.set_coordinator_epoch(
      static_cast<uint64_t>(state.coordinator_epoch()));
  response.set_jobs_running(state.active_jobs().size());
  response.set_tasks_ready(CountTasks(state, nullptr, {v1::TASK_STATE_READY}));
  response.set_tasks_leased(state.leased_tasks().size());
  response.set_workers_live(live);
}

}  // namespace qsweep
