#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"

#include "coordinator/core/decision.h"
#include "coordinator/core/plan.h"
#include "coordinator/core/state.h"

namespace qsweep {
namespace {

using Problems = std::vector<std::string>;

// A live task stands at each of its documents, another at none.
bool IsCoveredRight(const State& state, const Task& task) {
  const TaskGroup& group = state.group(task.group);
  return std::ranges::all_of(task.documents, [&](const DocumentRef& ref) {
    const auto& tasks =
        state.LiveTasksOn(group.model_digest, group.prototype->evaluation(),
                          state.documents()[ref.document]);
    return std::ranges::binary_search(tasks, Compact<TaskId>(task.id)) ==
           task.live();
  });
}

void CheckTask(const State& state, const Task& task, Problems& problems) {
  const std::string name = absl::StrCat("task ", task.id.value());
  if (task.lease.has_value() != (task.state == v1::TASK_STATE_LEASED)) {
    problems.push_back(
        absl::StrCat(name, " is ", ShortName(task.state), " and ",
                     task.lease ? "has a lease" : "has no lease"));
  }
  if (task.lease) {
    const Worker* worker = state.FindWorker(task.lease->worker);
    if (worker == nullptr || !worker->leases.contains(task.id)) {
      problems.push_back(
          absl::StrCat(name, " is leased to a worker that does not know it"));
    }
    if (task.history->grants.empty() ||
        task.history->grants.back().end.has_value()) {
      problems.push_back(
          absl::StrCat(name, " is leased but its last grant has ended"));
    }
  }
  for (size_t i = 0; i + 1 < task.history->grants.size(); ++i) {
    if (!task.history->grants[i].end) {
      problems.push_back(
          absl::StrCat(name, " has two grants that have not ended"));
    }
  }
  const bool done = task.state == v1::TASK_STATE_DONE;
  if (done != task.history->result_epoch.valid() ||
      task.history->result_epoch > task.epoch()) {
    problems.push_back(absl::StrCat(
        name, " is ", ShortName(task.state), " with the result of epoch ",
        task.history->result_epoch.value(), " of ", task.epoch().value()));
  }
  if (done != (task.documents.empty() && task.num_documents() > 0)) {
    problems.push_back(absl::StrCat(name, " is ", ShortName(task.state),
                                    " with ", task.documents.size(),
                                    " documents"));
  }
  if (task.given_up() && state.FindGivenUp(task.content_key) != &task) {
    problems.push_back(
        absl::StrCat(name, " is not the one of its content key"));
  }
  const bool wanted = std::ranges::any_of(
      task.jobs, [&](JobNumber job) { return !state.job(job).terminal(); });
  if (task.live() && !wanted) {
    problems.push_back(absl::StrCat(name, " is live but no job wants it"));
  }
  if (state.FindGroup(task.group) == nullptr) {
    problems.push_back(absl::StrCat(name, " has no group"));
  } else if (!IsCoveredRight(state, task)) {
    problems.push_back(
        absl::StrCat(name, " is wrong in the index of documents"));
  }
}

void CheckJob(const State& state, const Job& job, Problems& problems) {
  const std::string name = absl::StrCat("job ", job.number.value());
  std::array<int64_t, v1::TaskState_ARRAYSIZE> by_state = {};
  std::map<TaskGroupId, absl::btree_set<Compact<TaskId>>> ready;
  int64_t done = job.measurements_reused;
  for (const auto& [id, measurements] : job.tasks) {
    const Task* task = state.FindTask(id);
    if (task == nullptr || !task->IsOf(job.number)) {
      problems.push_back(absl::StrCat(name, " wants task ", id.value(),
                                      " which does not know it"));
      continue;
    }
    ++by_state[static_cast<size_t>(task->state)];
    if (task->state == v1::TASK_STATE_READY) {
      ready[task->group].insert(id);
    }
    if (task->state == v1::TASK_STATE_DONE) {
      done += measurements;
    }
  }
  if (by_state != job.tasks_by_state || ready != job.ready) {
    problems.push_back(absl::StrCat(name, " counts its tasks wrongly"));
  }
  if (done != job.measurements_done ||
      job.measurements_done > job.measurements_total) {
    problems.push_back(absl::StrCat(
        name, " says ", job.measurements_done, " of ", job.measurements_total,
        " measurements are done; its tasks say ", done));
  }
  if (job.terminal() && job.tasks_live() > 0) {
    // A shared task may live on; a job that ended must not hold it.
    problems.push_back(absl::StrCat(name, " is ", ShortName(job.state),
                                    " and has live tasks"));
  }
  if (!job.terminal() && job.state != v1::JOB_STATE_PLANNING &&
      job.tasks_live() == 0) {
    problems.push_back(absl::StrCat(name, " is ", ShortName(job.state),
                                    " and has nothing left to run"));
  }
  if (job.state == v1::JOB_STATE_SUCCEEDED &&
      job.measurements_done != job.measurements_total) {
    problems.push_back(absl::StrCat(
        name, " succeeded but measurements are missing: ",
        job.measurements_done, " of ", job.measurements_total, " are there"));
  }
  if (job.terminal() == state.active_jobs().contains(job.number)) {
    problems.push_back(absl::StrCat(name, " is wrong in the index of jobs"));
  }
}

// Made for a job that measures anew: it may have keys that others have.
bool IsFresh(const State& state, const Task& task) {
  const TaskGroup& group = state.group(task.group);
  std::set<Digest> documents;
  for (const DocumentRef& ref : task.documents) {
    documents.insert(state.documents()[ref.document]);
  }
  return task.content_key != TaskContentKey(group.prototype->evaluation(),
                                            {group.configurations.begin(),
                                             group.configurations.end()},
                                            documents, "");
}

// No two live tasks bring one measurement.
class KeyCheck {
 public:
  explicit KeyCheck(const State& state) : state_(state) {}

  void Check(const Task& task, Problems& problems) {
    const TaskGroup& group = state_.group(task.group);
    for (const DocumentRef& ref : task.documents) {
      for (const TaskId id :
           state_.LiveTasksOn(group.model_digest, group.prototype->evaluation(),
                              state_.documents()[ref.document])) {
        const Task& other = state_.task(id);
        if (id < task.id && Overlap(group, state_.group(other.group)) &&
            !IsFresh(state_, task) && !IsFresh(state_, other)) {
          problems.push_back(absl::StrCat("tasks ", id.value(), " and ",
                                          task.id.value(),
                                          " both bring one measurement"));
          return;
        }
      }
    }
  }

 private:
  bool Overlap(const TaskGroup& a, const TaskGroup& b) {
    const auto [known, added] = overlaps_.try_emplace(std::pair(a.id, b.id));
    if (added) {
      const std::set<Digest> of_a(a.configurations.begin(),
                                  a.configurations.end());
      known->second = std::ranges::any_of(
          b.configurations,
          [&of_a](const Digest& digest) { return of_a.contains(digest); });
    }
    return known->second;
  }

  const State& state_;
  std::map<std::pair<TaskGroupId, TaskGroupId>, bool> overlaps_;
};

}  // namespace

std::vector<std::string> CheckInvariants(const State& state) {
  Problems problems;
  std::set<TaskId> leased;
  std::set<TaskId> backoff;
  KeyCheck keys(state);
  for (const auto& [id, task] : state.tasks()) {
    CheckTask(state, task, problems);
    if (task.live()) {
      keys.Check(task, problems);
    }
    if (task.state == v1::TASK_STATE_LEASED) {
      leased.insert(id);
    }
    if (task.state == v1::TASK_STATE_BACKOFF) {
      backoff.insert(id);
    }
  }
  if (leased != state.leased_tasks() || backoff != state.backoff_tasks()) {
    problems.push_back("the indexes of leased and waiting tasks are wrong");
  }
  for (const auto& [number, job] : state.jobs()) {
    CheckJob(state, job, problems);
  }
  std::array<int64_t, v1::TaskState_ARRAYSIZE> by_state = {};
  for (const auto& [id, task] : state.tasks()) {
    ++by_state[static_cast<size_t>(task.state)];
  }
  for (int i = 0; i < v1::TaskState_ARRAYSIZE; ++i) {
    if (by_state[static_cast<size_t>(i)] !=
        state.num_tasks(static_cast<v1::TaskState>(i))) {
      problems.push_back("the tasks of a state are counted wrongly");
    }
  }
  for (const auto& [uuid, worker] : state.workers()) {
    for (const TaskId id : worker.leases) {
      const Task* task = state.FindTask(id);
      if (task == nullptr || !task->lease || task->lease->worker != uuid) {
        problems.push_back(absl::StrCat("worker ", uuid.text(),
                                        " is said to hold task ", id.value(),
                                        ", which is not leased to it"));
      }
    }
  }
  return problems;
}

}  // namespace qsweep
