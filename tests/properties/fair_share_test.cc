// Who gets which worker, over random owners, priorities, workers and demands.
#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "coordinator/core/lease.h"
#include "rapidcheck/gtest.h"
#include "tests/properties/sweep_cases.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

struct FarmWorker {
  int credits = 1;
  bool nf4 = false;  // its engine has it
  bool draining = false;
  std::set<int> models;  // on its disk
};

struct FarmTask {
  std::set<int> jobs;  // subscribers
  int model = 0;
  bool nf4 = false;  // needs it
};

struct FarmJob {
  int owner = 0;
  int priority = 0;
  bool paused = false;
};

// Numbers are from 0, those of State from 1.
struct Farm {
  std::vector<FarmJob> jobs;
  std::vector<FarmTask> tasks;
  std::vector<FarmWorker> workers;
};

std::string WorkerText(size_t worker) { return absl::StrCat("w", worker); }
std::string ModelText(int model) { return absl::StrCat("m", model); }

void showValue(const Farm& farm, std::ostream& out) {
  for (const FarmJob& job : farm.jobs) {
    out << "job of " << job.owner << ", priority " << job.priority
        << (job.paused ? ", paused\n" : "\n");
  }
  for (const FarmTask& task : farm.tasks) {
    out << "task of jobs";
    for (const int job : task.jobs) {
      out << " " << job;
    }
    out << ", model " << task.model << (task.nf4 ? ", nf4\n" : "\n");
  }
  for (const FarmWorker& worker : farm.workers) {
    out << "worker with " << worker.credits << " credits"
        << (worker.nf4 ? ", nf4" : "") << (worker.draining ? ", draining" : "")
        << ", " << worker.models.size() << " models\n";
  }
}

rc::Gen<Farm> AnyFarm() {
  return rc::gen::exec([] {
    Farm farm;
    const int num_jobs = *rc::gen::inRange(1, 6);
    for (int i = 0; i < num_jobs; ++i) {
      farm.jobs.push_back({.owner = *rc::gen::inRange(0, 3),
                           .priority = *rc::gen::inRange(-1, 2),
                           .paused = *rc::gen::inRange(0, 5) == 4});
    }
    const int num_tasks = *rc::gen::inRange(num_jobs, 16);
    for (int i = 0; i < num_tasks; ++i) {
      FarmTask& task = farm.tasks.emplace_back();
      task.jobs.insert(i < num_jobs ? i : *rc::gen::inRange(0, num_jobs));
      if (*rc::gen::inRange(0, 4) == 3) {
        task.jobs.insert(*rc::gen::inRange(0, num_jobs));
      }
      task.model = *rc::gen::inRange(0, 3);
      task.nf4 = *rc::gen::inRange(0, 4) == 3;
    }
    const int num_workers = *rc::gen::inRange(1, 7);
    for (int i = 0; i < num_workers; ++i) {
      farm.workers.push_back({.credits = *rc::gen::inRange(0, 3),
                              .nf4 = *rc::gen::arbitrary<bool>(),
                              .draining = *rc::gen::inRange(0, 6) == 5,
                              .models = *AnySubset(3)});
    }
    return farm;
  });
}

State StateOf(const Farm& farm) {
  StateBuilder builder;
  for (const FarmJob& job : farm.jobs) {
    builder.Job(
        {.owner = absl::StrCat("owner ", job.owner),
         .priority = job.priority,
         .state = job.paused ? v1::JOB_STATE_PAUSED : v1::JOB_STATE_QUEUED});
  }
  for (size_t i = 0; i < farm.tasks.size(); ++i) {
    const FarmTask& task = farm.tasks[i];
    TaskOptions options{
        .jobs = {},
        .model = ModelText(task.model),
        .quantizers = {task.nf4 ? "nf4:group=64" : "rtn:bits=4"},
        .documents = {absl::StrCat("d", i)}};
    for (const int job : task.jobs) {
      options.jobs.push_back(job + 1);
    }
    builder.Task(options);
  }
  for (size_t i = 0; i < farm.workers.size(); ++i) {
    const FarmWorker& worker = farm.workers[i];
    WorkerOptions options{.credits = static_cast<uint32_t>(worker.credits),
                          .draining = worker.draining};
    if (worker.nf4) {
      options.methods.push_back("nf4");
    }
    for (const int model : worker.models) {
      options.models.emplace_back(ModelText(model),
                                  v1::ResidentModel::LEVEL_DISK);
    }
    builder.Worker(WorkerText(i), options);
  }
  return builder.Build();
}

// What has been given to whom, by the test's own account.
class Ledger {
 public:
  explicit Ledger(const Farm& farm) : farm_(farm) {}

  // What the worker could begin with if it held nothing: task -> the jobs on
  // whose behalf. A model on no disk is loaded by one worker first.
  std::map<size_t, std::set<int>> Placeable(size_t worker) const {
    std::map<size_t, std::set<int>> placeable;
    const FarmWorker& w = farm_.workers[worker];
    for (size_t t = 0; t < farm_.tasks.size(); ++t) {
      const FarmTask& task = farm_.tasks[t];
      if (taken_.contains(t) || w.draining || (task.nf4 && !w.nf4) ||
          IsLoadedElsewhere(worker, task.model)) {
        continue;
      }
      for (const int job : task.jobs) {
        if (!farm_.jobs[static_cast<size_t>(job)].paused) {
          placeable[t].insert(job);
        }
      }
    }
    return placeable;
  }

  int Held(size_t worker) const {
    return static_cast<int>(std::ranges::count_if(
        taken_, [&](const auto& entry) { return entry.second == worker; }));
  }
  std::optional<int> ModelOf(size_t worker) const {
    for (const auto& [task, by] : taken_) {
      if (by == worker) {
        return farm_.tasks[task].model;
      }
    }
    return std::nullopt;
  }
  bool Take(size_t task, size_t worker) {
    return taken_.emplace(task, worker).second;
  }

 private:
  bool IsLoadedElsewhere(size_t worker, int model) const {
    const bool on_a_disk =
        std::ranges::any_of(farm_.workers, [model](const FarmWorker& other) {
          return other.models.contains(model);
        });
    return !on_a_disk && std::ranges::any_of(taken_, [&](const auto& entry) {
      return entry.second != worker && farm_.tasks[entry.first].model == model;
    });
  }

  const Farm& farm_;
  std::map<size_t, size_t> taken_;  // task -> worker
};

// Grants what DecideLease gives; nothing: it gives nothing.
std::optional<LeaseGranted> GrantTo(State& state, const std::string& worker,
                                    const Settings& settings) {
  const auto decision =
      DecideLease(state, TestWorker(worker), settings, TestNow());
  RC_ASSERT(decision.reply.status() == absl::OkStatus());
  for (const Mutation& mutation : decision.mutations) {
    state.Apply(mutation);
  }
  const auto granted = Only<LeaseGranted>(decision.mutations);
  RC_ASSERT(granted.size() == (decision.reply->has_value() ? 1u : 0u));
  return granted.empty() ? std::nullopt : std::optional(granted.front());
}

void CheckGrant(const Farm& farm, Ledger& ledger, size_t worker,
                const LeaseGranted& granted) {
  const auto task = static_cast<size_t>(granted.task.value() - 1);
  const int job = static_cast<int>(granted.job.value() - 1);
  const auto placeable = ledger.Placeable(worker);
  RC_ASSERT(placeable.contains(task));
  RC_ASSERT(placeable.at(task).contains(job));
  RC_ASSERT(ledger.Held(worker) < farm.workers[worker].credits);
  const std::optional<int> bound = ledger.ModelOf(worker);
  RC_ASSERT(!bound || *bound == farm.tasks[task].model);
  for (const auto& [other, jobs] : placeable) {
    for (const int of : jobs) {
      RC_ASSERT(farm.jobs[static_cast<size_t>(of)].priority <=
                farm.jobs[static_cast<size_t>(job)].priority);
    }
  }
  RC_ASSERT(ledger.Take(task, worker));  // each once: never above demand
}

RC_GTEST_PROP(DecideLease, LeavesNoWorkerIdle_WhileAnyTaskIsPlaceable, ()) {
  const Farm farm = *AnyFarm();
  State state = StateOf(farm);
  Ledger ledger(farm);
  std::set<size_t> asking;
  for (size_t i = 0; i < farm.workers.size(); ++i) {
    asking.insert(i);
  }
  while (!asking.empty()) {
    const size_t worker = *rc::gen::elementOf(asking);
    const auto granted = GrantTo(state, WorkerText(worker), kSettings);
    if (granted) {
      CheckGrant(farm, ledger, worker, *granted);
    } else {
      asking.erase(worker);
      RC_ASSERT(ledger.Held(worker) > 0 || farm.workers[worker].credits == 0 ||
                ledger.Placeable(worker).empty());
    }
  }
  RC_ASSERT(CheckInvariants(state) == std::vector<std::string>());
}

// Owners who all have more work than there are workers.
struct Crowd {
  int num_workers = 1;
  std::vector<int> weights;   // of owners, in tenths
  std::vector<int> num_jobs;  // of each owner
  std::vector<int> holds;     // of workers: the job that has it at first
  int owner_of(int job) const {
    int owner = 0;
    while (job >= num_jobs[static_cast<size_t>(owner)]) {
      job -= num_jobs[static_cast<size_t>(owner++)];
    }
    return owner;
  }
};

void showValue(const Crowd& crowd, std::ostream& out) {
  out << crowd.num_workers << " workers;";
  for (size_t i = 0; i < crowd.weights.size(); ++i) {
    out << " owner of " << crowd.num_jobs[i] << " jobs with weight "
        << crowd.weights[i] << "/10;";
  }
  out << " held by jobs";
  for (const int job : crowd.holds) {
    out << " " << job;
  }
}

rc::Gen<Crowd> AnyCrowd() {
  return rc::gen::exec([] {
    Crowd crowd;
    crowd.num_workers = *rc::gen::inRange(1, 9);
    const int owners = *rc::gen::inRange(1, 6);
    int jobs = 0;
    for (int i = 0; i < owners; ++i) {
      // Shares below one worker beside larger ones, and whole ones.
      crowd.weights.push_back(*rc::gen::element(1, 2, 3, 4, 6, 8, 10, 30));
      crowd.num_jobs.push_back(*rc::gen::inRange(1, 4));
      jobs += crowd.num_jobs.back();
    }
    const int first_holders = *rc::gen::inRange(1, jobs + 1);
    for (int i = 0; i < crowd.num_workers; ++i) {
      crowd.holds.push_back(*rc::gen::inRange(0, first_holders));
    }
    return crowd;
  });
}

State StateOf(const Crowd& crowd) {
  StateBuilder builder;
  int jobs = 0;
  for (size_t owner = 0; owner < crowd.num_jobs.size(); ++owner) {
    for (int i = 0; i < crowd.num_jobs[owner]; ++i, ++jobs) {
      builder.Job({.owner = absl::StrCat("owner ", owner)});
    }
  }
  const int each = crowd.num_workers + 1;
  for (int job = 0; job < jobs; ++job) {
    for (int i = 0; i < each; ++i) {
      builder.Task(
          {.jobs = {job + 1}, .documents = {absl::StrCat(job, "-", i)}});
    }
  }
  for (int i = 0; i < crowd.num_workers; ++i) {
    const std::string name = WorkerText(static_cast<size_t>(i));
    builder.Worker(
        name,
        {.credits = 1, .models = {{"model", v1::ResidentModel::LEVEL_DISK}}});
    builder.Lease(crowd.holds[static_cast<size_t>(i)] * each + 1 + i, name);
  }
  return builder.Build();
}

// Workers held by each owner.
std::vector<int> HeldByOwners(const State& state, const Crowd& crowd) {
  std::vector<int> held(crowd.weights.size());
  for (const auto& [uuid, worker] : state.workers()) {
    const int job = static_cast<int>(worker.holder.value() - 1);
    ++held[static_cast<size_t>(crowd.owner_of(job))];
  }
  return held;
}

RC_GTEST_PROP(DecideLease, GivesEachOwnerTheFloorOfTheShare, ()) {
  const Crowd crowd = *AnyCrowd();
  State state = StateOf(crowd);
  Settings settings;
  int weights = 0;
  for (size_t i = 0; i < crowd.weights.size(); ++i) {
    settings.weights[absl::StrCat("owner ", i)] = crowd.weights[i] / 10.0;
    weights += crowd.weights[i];
  }
  // Each worker finishes its task and asks for another, in any order. After
  // three tasks of each the floors hold, and then for good.
  for (int round = 0; round < 6; ++round) {
    std::vector<size_t> order;
    for (int i = 0; i < crowd.num_workers; ++i) {
      const auto place = *rc::gen::inRange<size_t>(0, order.size() + 1);
      order.insert(order.begin() + static_cast<std::ptrdiff_t>(place),
                   static_cast<size_t>(i));
    }
    for (const size_t i : order) {
      const Worker& worker = *state.FindWorker(TestWorker(WorkerText(i)));
      const TaskId task = *worker.leases.begin();
      for (const Mutation& mutation :
           DecideLeaseEnd(state, task, LeaseEnd::kPreempted, "", true, settings,
                          TestNow())) {
        state.Apply(mutation);
      }
      RC_ASSERT(GrantTo(state, WorkerText(i), settings).has_value());
    }
    if (round < 2) {
      continue;
    }
    const std::vector<int> held = HeldByOwners(state, crowd);
    for (size_t owner = 0; owner < held.size(); ++owner) {
      RC_LOG() << "round " << round << ": owner " << owner << " holds "
               << held[owner] << "\n";
      RC_ASSERT(held[owner] >=
                crowd.num_workers * crowd.weights[owner] / weights);
    }
  }
}

}  // namespace
}  // namespace qsweep::testing
