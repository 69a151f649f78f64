#include "coordinator/core/policy.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace qsweep {
namespace {

template <typename Repeated>
bool Lists(const Repeated& values, const std::string& wanted) {
  return std::ranges::find(values, wanted) != values.end();
}

// 2: in memory, 1: on disk, 0: cold.
int Residency(const Worker& worker, const Digest& model) {
  const std::string bytes = model.bytes();
  int level = 0;
  for (const v1::ResidentModel& resident : worker.state->models()) {
    if (resident.digest() == bytes) {
      level = std::max(
          level, resident.level() == v1::ResidentModel::LEVEL_MEMORY ? 2 : 1);
    }
  }
  return level;
}

constexpr double kGiB = 1024.0 * 1024 * 1024;

// Of its largest device; 0: not said.
uint64_t MemoryOf(const Worker& worker) {
  uint64_t memory = 0;
  for (const v1::Device& device : worker.devices) {
    memory = std::max(memory, device.memory_bytes());
  }
  return memory;
}

bool TakesTasks(const Worker& worker) {
  return worker.liveness == WorkerLiveness::kLive &&
         worker.mode == WorkerMode::kOpen && worker.state != nullptr &&
         !worker.state->draining() && !worker.state->goodbye();
}

// A job with work for the worker.
struct Candidate {
  const Job* job;
  TaskId task;
  int64_t priority;
};

// Workers held and the share of them, of one owner or one job.
struct Standing {
  int64_t held = 0;
  double share = 0;

  bool below_floor() const {
    return static_cast<double>(held) < std::floor(share);
  }
  bool above_floor() const {
    return static_cast<double>(held) > std::floor(share);
  }
  bool above_share() const {
    return static_cast<double>(held) > std::ceil(share);
  }
};

int64_t PriorityOf(const Job& job, const Settings& settings, const Now& now) {
  if (job.state != v1::JOB_STATE_QUEUED) {
    return job.priority;
  }
  const absl::Duration waited =
      std::max(now.wall - job.created_at, absl::ZeroDuration());
  constexpr double kClassesMax = 100;  // bounds what a clock jump can do
  return job.priority +
         static_cast<int64_t>(std::min(
             absl::FDivDuration(waited, settings.ageing), kClassesMax));
}

// The model the worker is bound to by the leases it holds; nothing: none.
const Digest* BoundModel(const State& state, const Worker& worker) {
  if (worker.leases.empty()) {
    return nullptr;
  }
  return &state.group(state.task(*worker.leases.begin()).group).model_digest;
}

// A model that nobody has run yet is loaded by one worker first: a model that
// does not load, or a download that fills the disk, then costs one machine.
bool IsLoadedByAnother(const State& state, const Worker& worker,
                       const Digest& model) {
  bool another = false;
  for (const auto& [uuid, other] : state.workers()) {
    if (other.liveness == WorkerLiveness::kLost) {
      continue;
    }
    if (other.loaded == model ||
        (other.state != nullptr && Residency(other, model) > 0)) {
      return false;
    }
    const Digest* loading = BoundModel(state, other);
    another |= &other != &worker && loading != nullptr && *loading == model;
  }
  return another;
}

bool FailedOn(const Task& task, const WorkerUuid& worker) {
  return std::ranges::any_of(task.grants, [&worker](const Grant& grant) {
    return grant.worker == worker &&
           (grant.end == LeaseEnd::kFailed || grant.end == LeaseEnd::kStalled);
  });
}

std::optional<TaskId> BestTaskOfJob(const State& state, const Job& job,
                                    const Worker& worker) {
  const Digest* bound = BoundModel(state, worker);
  std::optional<TaskId> best;
  int best_level = -1;
  for (const auto& [group, tasks] : job.ready) {
    const Digest& model = state.group(group).model_digest;
    constexpr int kBound = 3;
    const int level =
        bound != nullptr && *bound == model ? kBound : Residency(worker, model);
    if (level <= best_level ||
        (level == 0 && IsLoadedByAnother(state, worker, model))) {
      continue;
    }
    for (const TaskId id : tasks) {
      const Task& task = state.task(id);
      if (!WhyNotFit(state, task, worker).empty()) {
        break;  // nor will the rest of its group: all are one size
      }
      if (!IsForOthers(state, task, worker)) {
        best = id;
        best_level = level;
        break;
      }
    }
  }
  return best;
}

struct OwnerStanding : Standing {
  std::map<JobNumber, Standing> jobs;  // those with a candidate
};
using Standings = std::map<std::string, OwnerStanding>;

// Of the owners with a candidate. A worker that takes no new task counts for
// nobody.
Standings MakeStandings(const State& state,
                        const std::vector<Candidate>& candidates) {
  Standings standings;
  for (const Candidate& candidate : candidates) {
    standings[candidate.job->owner].jobs[candidate.job->number];
  }
  int64_t workers = 0;
  for (const auto& [uuid, worker] : state.workers()) {
    if (!TakesTasks(worker)) {
      continue;
    }
    ++workers;
    const Job* holder = state.FindJob(worker.holder);
    const auto owner =
        holder == nullptr ? standings.end() : standings.find(holder->owner);
    if (owner == standings.end()) {
      continue;
    }
    ++owner->second.held;
    if (const auto job = owner->second.jobs.find(holder->number);
        job != owner->second.jobs.end()) {
      ++job->second.held;
    }
  }
  for (auto& [name, owner] : standings) {
    owner.share =
        static_cast<double>(workers) / static_cast<double>(standings.size());
    for (auto& [number, job] : owner.jobs) {
      job.share = owner.share / static_cast<double>(owner.jobs.size());
    }
  }
  return standings;
}

// Whether a worker of `own` goes to another of `all`.
template <typename Entries>
bool MustMove(const Standing& own, const Entries& all) {
  return own.above_share() ||
         (own.above_floor() && std::ranges::any_of(all, [](const auto& entry) {
            return entry.second.below_floor();
          }));
}

bool HoldsLess(const Standing& a, const Standing& b) {
  return static_cast<double>(a.held) * b.share <
         static_cast<double>(b.held) * a.share;
}

// First whose worker it is, then for which of his jobs; both stay what they
// are unless they must not. Candidates come by age, which decides ties.
const Candidate& Choose(const Worker& worker, const Standings& standings,
                        const std::vector<Candidate>& candidates) {
  const auto held = std::ranges::find_if(candidates, [&](const Candidate& c) {
    return c.job->number == worker.holder;
  });
  const bool stays = held != candidates.end() &&
                     !MustMove(standings.at(held->job->owner), standings);
  const std::string& name =
      stays ? held->job->owner
            : std::ranges::min_element(
                  candidates, HoldsLess,
                  [&](const Candidate& c) -> const Standing& {
                    return standings.at(c.job->owner);
                  })
                  ->job->owner;
  const OwnerStanding& owner = standings.at(name);
  if (stays && !MustMove(owner.jobs.at(held->job->number), owner.jobs)) {
    return *held;
  }
  const Candidate* next = nullptr;
  for (const Candidate& candidate : candidates) {
    if (candidate.job->owner == name &&
        (next == nullptr || HoldsLess(owner.jobs.at(candidate.job->number),
                                      owner.jobs.at(next->job->number)))) {
      next = &candidate;
    }
  }
  return *next;
}

}  // namespace

bool IsForOthers(const State& state, const Task& task, const Worker& worker) {
  return task.failed > 0 && FailedOn(task, worker.uuid) &&
         std::ranges::any_of(state.workers(), [&](const auto& entry) {
           return !FailedOn(task, entry.first) &&
                  WhyNotFit(state, task, entry.second).empty();
         });
}

std::vector<std::string> WhyNotFit(const State& state, const Task& task,
                                   const Worker& worker) {
  std::vector<std::string> reasons;
  if (worker.liveness != WorkerLiveness::kLive || worker.hello == nullptr ||
      worker.state == nullptr) {
    reasons.push_back("the worker is not attached");
    return reasons;
  }
  if (worker.mode == WorkerMode::kQuarantined) {
    reasons.push_back(
        absl::StrCat("the worker is quarantined: ", worker.mode_reason));
  }
  if (worker.mode == WorkerMode::kDraining || worker.state->draining() ||
      worker.state->goodbye()) {
    reasons.push_back("the worker takes no new task");
  }
  const TaskGroup& group = state.group(task.group);
  if (!Lists(worker.hello->evaluations(), group.evaluation_name)) {
    reasons.push_back(absl::StrCat("the worker's engine does not have ",
                                   group.evaluation_name));
  }
  for (const std::string& method : group.methods) {
    if (!Lists(worker.hello->methods(), method)) {
      reasons.push_back(
          absl::StrCat("the worker's engine does not have ", method));
    }
  }
  const uint64_t memory = MemoryOf(worker);
  if (memory > 0 && group.prototype->memory_bytes() > memory) {
    reasons.push_back(absl::StrFormat(
        "it needs %.1f GiB of memory, the worker has %.1f GiB",
        static_cast<double>(group.prototype->memory_bytes()) / kGiB,
        static_cast<double>(memory) / kGiB));
  }
  const double lifetime_left =
      static_cast<double>(worker.state->lifetime_left_ms()) / 1000;
  if (lifetime_left > 0 && lifetime_left < task.estimated_seconds) {
    reasons.push_back(absl::StrFormat(
        "the worker ends in %.0f s, the task takes about %.0f s", lifetime_left,
        task.estimated_seconds));
  }
  return reasons;
}

bool HasCredit(const Worker& worker) {
  return worker.liveness == WorkerLiveness::kLive && worker.state != nullptr &&
         worker.mode == WorkerMode::kOpen &&
         worker.leases.size() < worker.state->credits();
}

std::optional<Pick> PickTask(const State& state, const Worker& worker,
                             const Settings& settings, const Now& now) {
  if (!HasCredit(worker)) {
    return std::nullopt;
  }
  std::vector<Candidate> candidates;
  int64_t top = 0;
  for (const JobNumber number : state.active_jobs()) {
    const Job& job = state.job(number);
    if (job.state != v1::JOB_STATE_QUEUED &&
        job.state != v1::JOB_STATE_RUNNING) {
      continue;
    }
    const std::optional<TaskId> task = BestTaskOfJob(state, job, worker);
    if (!task) {
      continue;
    }
    const int64_t priority = PriorityOf(job, settings, now);
    top = candidates.empty() ? priority : std::max(top, priority);
    candidates.push_back({.job = &job, .task = *task, .priority = priority});
  }
  std::erase_if(candidates,
                [top](const Candidate& c) { return c.priority < top; });
  if (candidates.empty()) {
    return std::nullopt;
  }
  const Candidate& chosen =
      Choose(worker, MakeStandings(state, candidates), candidates);
  // A task of another model waits until the worker is free: meanwhile it gets
  // nothing, or those whose turn it is not would keep it for ever.
  const Digest* bound = BoundModel(state, worker);
  const Task& task = state.task(chosen.task);
  if (bound != nullptr && *bound != state.group(task.group).model_digest) {
    return std::nullopt;
  }
  return Pick{.task = task.id, .job = chosen.job->number};
}

}  // namespace qsweep
