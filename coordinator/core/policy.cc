#include "coordinator/core/policy.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "coordinator/core/estimate.h"

namespace qsweep {
namespace {

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

  bool below_floor() const { return static_cast<double>(held) < floor(); }
  bool above_floor() const { return static_cast<double>(held) > floor(); }
  bool above_share() const {
    return static_cast<double>(held) > std::ceil(share - kRounding);
  }

 private:
  // Of six workers the share of 0.6 beside 0.8 and 0.4 is not quite two.
  static constexpr double kRounding = 1e-9;
  double floor() const { return std::floor(share + kRounding); }
};

// A job that has work and nobody on it rises with time.
int64_t PriorityOf(const Job& job, const Settings& settings, const Now& now) {
  absl::Duration waited = now.steady - std::min(job.waiting_since, now.steady);
  if (job.state == v1::JOB_STATE_QUEUED) {  // a restart takes nothing away
    waited = std::max(waited, now.wall - job.created_at);
  }
  constexpr double kClassesMax = 100;  // bounds what a clock jump can do
  return job.priority +
         static_cast<int64_t>(std::clamp(
             absl::FDivDuration(waited, settings.ageing), 0.0, kClassesMax));
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

std::optional<TaskId> BestTaskOfJob(const State& state, const Job& job,
                                    const Worker& worker,
                                    const Settings& settings) {
  if (!WhyNotRequired(job, worker).empty()) {
    return std::nullopt;
  }
  const Digest* bound = BoundModel(state, worker);
  std::optional<TaskId> best;
  int best_level = -1;
  const Digest* last_model = nullptr;  // its groups stand together
  int level = 0;
  for (const auto& [group, tasks] : job.ready) {
    const Digest& model = state.group(group).model_digest;
    if (last_model == nullptr || *last_model != model) {
      constexpr int kBound = 3;
      last_model = &model;
      level = bound != nullptr && *bound == model ? kBound
                                                  : Residency(worker, model);
    }
    // A worker that has a task gets none of another model in any case. That it
    // might have to leave for a model that is being loaded keeps it from a task
    // ahead, so that it is free soon after the load.
    if (level <= best_level || (level == 0 && bound == nullptr &&
                                IsLoadedByAnother(state, worker, model))) {
      continue;
    }
    int too_long = 0;
    for (const TaskId id : tasks) {
      const Task& task = state.task(id);
      if (!WhyNotFit(state, task, worker, settings).empty()) {
        // Nor will the rest of its group, unless one is short enough for what
        // is left of the worker's life.
        constexpr int kLooks = 100;
        if (worker.state->lifetime_left_ms() == 0 || ++too_long == kLooks) {
          break;
        }
        continue;
      }
      if (!IsForOthers(state, task, worker, settings)) {
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

double WeightOf(const std::string& owner, const Settings& settings) {
  const auto weight = settings.weights.find(owner);
  return weight == settings.weights.end() ? 1 : weight->second;
}

// Of the owners with a candidate. A worker that takes no new task counts for
// nobody.
Standings MakeStandings(const State& state,
                        const std::vector<Candidate>& candidates,
                        const Settings& settings) {
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
  double weights = 0;
  for (const auto& [name, owner] : standings) {
    weights += WeightOf(name, settings);
  }
  for (auto& [name, owner] : standings) {
    owner.share =
        static_cast<double>(workers) * WeightOf(name, settings) / weights;
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

// Who is below the floor comes first: of several who hold nothing the oldest
// would else get each worker that leaves for one with a larger share.
bool IsDueBefore(const Standing& a, const Standing& b) {
  return a.below_floor() != b.below_floor()
             ? a.below_floor()
             : static_cast<double>(a.held) * b.share <
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
                  candidates, IsDueBefore,
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
        (next == nullptr || IsDueBefore(owner.jobs.at(candidate.job->number),
                                        owner.jobs.at(next->job->number)))) {
      next = &candidate;
    }
  }
  return *next;
}

}  // namespace

size_t LeasesMax(const Worker& worker) {
  return worker.state == nullptr
             ? 0
             : std::min<size_t>(worker.state->credits(),
                                kLeasesPerDevice *
                                    std::max<size_t>(worker.devices.size(), 1));
}

bool HasCredit(const Worker& worker) {
  return worker.liveness == WorkerLiveness::kLive && worker.state != nullptr &&
         worker.mode == WorkerMode::kOpen &&
         worker.leases.size() < LeasesMax(worker);
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
    const std::optional<TaskId> task =
        BestTaskOfJob(state, job, worker, settings);
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
      Choose(worker, MakeStandings(state, candidates, settings), candidates);
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
