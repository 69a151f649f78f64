#include "tests/sim/fairness.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "coordinator/core/policy.h"

namespace qsweep::sim {
namespace {

// What decides whether a task fits is what nobody changes.
const Settings kSettings;

bool TakesTasks(const Worker& worker) {
  return worker.liveness == WorkerLiveness::kLive &&
         worker.mode == WorkerMode::kOpen && worker.state != nullptr &&
         !worker.state->draining() && !worker.state->goodbye();
}

int CountWorkers(const State& state) {
  return static_cast<int>(std::ranges::count_if(
      state.workers(), [](const auto& w) { return TakesTasks(w.second); }));
}

bool HasWork(const Job& job) {
  return !job.ready.empty() && (job.state == v1::JOB_STATE_QUEUED ||
                                job.state == v1::JOB_STATE_RUNNING);
}

std::set<std::string> OwnersWithWork(const State& state) {
  std::set<std::string> owners;
  for (const JobNumber number : state.active_jobs()) {
    if (HasWork(state.job(number))) {
      owners.insert(state.job(number).owner);
    }
  }
  return owners;
}

// A model that nobody has run yet may have to wait for its first load.
bool IsKnown(const State& state, const Digest& model) {
  return std::ranges::any_of(state.workers(), [&](const auto& entry) {
    return entry.second.liveness != WorkerLiveness::kLost &&
           entry.second.loaded == model;
  });
}

bool HasWorkFor(const State& state, const Job& job, const Worker& worker) {
  return HasWork(job) && WhyNotRequired(job, worker).empty() &&
         std::ranges::any_of(job.ready, [&](const auto& entry) {
           const auto& [group, tasks] = entry;
           return IsKnown(state, state.group(group).model_digest) &&
                  std::ranges::any_of(tasks, [&](TaskId id) {
                    const Task& task = state.task(id);
                    return MayRun(state, task, worker, kSettings) &&
                           !IsForOthers(state, task, worker, kSettings);
                  });
         });
}

}  // namespace

void GrantFairness::OnLoaded() {
  holders_.clear();
  grants_.clear();
  changed_.clear();
}

void GrantFairness::OnGranted(const LeaseGranted& grant) {
  grants_.push_back(grant);
}

GrantFairness::Holds GrantFairness::Count(const State& state) const {
  Holds holds;
  for (const auto& [uuid, worker] : state.workers()) {
    const auto holder = holders_.find(uuid);
    // Null: it ended and was deleted.
    const Job* job =
        holder == holders_.end() ? nullptr : state.FindJob(holder->second);
    if (TakesTasks(worker) && job != nullptr) {
      ++holds[job->owner];
    }
  }
  return holds;
}

std::vector<std::string> GrantFairness::AfterStep(const State& state) {
  std::set<std::string> owners = OwnersWithWork(state);
  std::vector<std::string> problems;
  if (!grants_.empty()) {
    std::set<std::string> all = owners;
    all.insert(owners_before_.begin(), owners_before_.end());
    for (const LeaseGranted& grant : grants_) {
      all.insert(state.job(grant.job).owner);
    }
    const int workers = CountWorkers(state);
    for (const LeaseGranted& grant : grants_) {
      std::string why = WhyUnfair(state, grant, Count(state), workers,
                                  static_cast<int>(all.size()));
      if (!why.empty()) {
        problems.push_back(std::move(why));
      }
      holders_[grant.worker] = grant.job;
    }
  }
  owners_before_ = std::move(owners);
  grants_.clear();
  changed_.clear();
  return problems;
}

// Which owners counted at the grant is not known, only that it were the two
// and at most owners_max: the grant is unfair when it is so for every number.
std::string GrantFairness::WhyUnfair(const State& state,
                                     const LeaseGranted& grant,
                                     const Holds& holds, int workers,
                                     int owners_max) {
  const Job& job = state.job(grant.job);
  const Worker* worker = state.FindWorker(grant.worker);
  if (job.state != v1::JOB_STATE_RUNNING || changed_.contains(grant.job) ||
      worker == nullptr || !TakesTasks(*worker)) {
    return "";
  }
  const auto held = [&holds](const std::string& owner) {
    const auto it = holds.find(owner);
    return it == holds.end() ? 0 : it->second;
  };
  const auto holder = holders_.find(grant.worker);
  const Job* held_by =
      holder == holders_.end() ? nullptr : state.FindJob(holder->second);
  const bool stays = held_by != nullptr && held_by->owner == job.owner;
  for (const JobNumber number : state.active_jobs()) {
    const Job& other = state.job(number);
    if (other.owner == job.owner || other.priority != job.priority ||
        other.state != v1::JOB_STATE_RUNNING || changed_.contains(number) ||
        !HasWorkFor(state, other, *worker)) {
      continue;
    }
    ++num_compared_;
    bool unfair = true;
    for (int owners = 2; owners <= std::max(owners_max, 2); ++owners) {
      const int floor = workers / owners;
      unfair &= stays ? held(other.owner) < floor && held(job.owner) > floor
                      : held(other.owner) < held(job.owner);
    }
    if (unfair) {
      return absl::StrCat("a lease of task ", grant.task.value(), " for ",
                          job.owner, ", who holds ", held(job.owner), " of ",
                          workers, " workers, although ", other.owner,
                          " holds ", held(other.owner));
    }
  }
  return "";
}

void FloorClock::Look(const State& state, SteadyTime now) {
  const std::set<std::string> owners = OwnersWithWork(state);
  std::map<std::string, std::set<WorkerUuid>> fitting;
  std::map<std::string, int> held;
  for (const auto& [uuid, worker] : state.workers()) {
    if (!TakesTasks(worker)) {
      continue;
    }
    if (const Job* holder = state.FindJob(worker.holder); holder != nullptr) {
      ++held[holder->owner];
    }
    for (const JobNumber number : state.active_jobs()) {
      const Job& job = state.job(number);
      const bool fits = HasWork(job) && WhyNotRequired(job, worker).empty() &&
                        std::ranges::any_of(job.ready, [&](const auto& e) {
                          return MayRun(state, state.task(*e.second.begin()),
                                        worker, kSettings);
                        });
      if (fits) {
        fitting[job.owner].insert(uuid);
      }
    }
  }
  std::map<std::string, SteadyTime> below;
  for (const std::string& owner : owners) {
    const size_t floor = fitting[owner].size() / owners.size();
    if (static_cast<size_t>(held[owner]) >= floor) {
      continue;
    }
    const auto before = below_since_.find(owner);
    const SteadyTime since =
        before == below_since_.end() ? now : before->second;
    below.emplace(owner, since);
    if (now - since > longest_) {
      longest_ = now - since;
      whose_ = owner;
    }
  }
  below_since_ = std::move(below);
}

}  // namespace qsweep::sim
