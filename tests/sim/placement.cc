#include "tests/sim/placement.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/base/check.h"
#include "common/base/random.h"
#include "coordinator/core/lease.h"
#include "tests/sim/fairness.h"
#include "tests/sim/schedule.h"
#include "tests/support/state_builder.h"

namespace qsweep::sim {
namespace {

constexpr int kWorkers = 8;
constexpr int kSweeps = 6;
constexpr int kTasks = 160;  // of a sweep
constexpr int kSeeds = 10;
constexpr absl::Duration kArrival = absl::Minutes(5);
constexpr absl::Duration kTask = absl::Seconds(45);
constexpr double kSpread = 0.3;  // a task takes up to so much more or less
constexpr absl::Duration kBackAfter = absl::Minutes(2);

class Play {
 public:
  explicit Play(const PlacementOptions& options)
      : options_(options), random_(options.seed) {
    state_.Apply(CoordinatorStarted{.epoch = 1, .now = schedule_.now()});
    for (int i = 0; i < kWorkers; ++i) {
      Attach(i);
      PlanPreemption(i);
    }
    for (int i = 0; i < kSweeps; ++i) {
      schedule_.After(i * kArrival, [this, i] { AddSweep(i); });
    }
  }

  PlacementResult Run() {
    const SteadyTime began = schedule_.now();
    while (ended_ < kSweeps) {
      schedule_.RunNext();
      Grant();
      clock_.Look(state_, schedule_.now());
    }
    result_.makespan_minutes = absl::ToDoubleMinutes(schedule_.now() - began);
    result_.latency_minutes /= kSweeps;
    result_.below_floor = clock_.longest();
    // Promise 9: two loads and the task in flight.
    result_.below_floor_max = 2 * options_.load + kTask;
    return result_;
  }

 private:
  struct Machine {
    uint64_t boots = 0;
    uint64_t beats = 0;
    Digest resident;
    std::deque<TaskId> leases;  // the first one loads or runs
    bool busy = false;
  };

  Now now() {
    return {.steady = schedule_.now(), .wall = schedule_.clock().Now()};
  }
  static std::string Name(int worker) { return absl::StrCat("w", worker); }
  const Worker& worker(int i) const {
    return *state_.FindWorker(testing::TestWorker(Name(i)));
  }
  void ApplyAll(const std::vector<Mutation>& mutations) {
    for (const Mutation& mutation : mutations) {
      state_.Apply(mutation);
    }
  }

  void Attach(int i) {
    Machine& machine = machines_[i];
    const uint64_t boot = ++machine.boots;
    const testing::WorkerOptions options{.boot_seq = boot};
    const v1::Hello hello = testing::MakeHello(Name(i), options);
    state_.Apply(WorkerAttached{.worker = testing::TestWorker(Name(i)),
                                .session = testing::TestSession(Name(i)),
                                .boot = *BootId::FromBytes(hello.boot_id()),
                                .boot_seq = boot,
                                .hello = std::make_shared<v1::Hello>(hello),
                                .time = now().wall,
                                .now = schedule_.now(),
                                .deadline = SteadyTime::InfiniteFuture()});
    machine.resident = Digest();
    Report(i);
  }

  void Report(int i) {
    auto report = std::make_shared<v1::WorkerState>(
        testing::MakeReport(Name(i), {}, ++machines_[i].beats));
    if (!machines_[i].resident.empty()) {
      v1::ResidentModel& model = *report->add_models();
      model.set_digest(machines_[i].resident.bytes());
      model.set_level(v1::ResidentModel::LEVEL_MEMORY);
    }
    state_.Apply(WorkerReported{.worker = testing::TestWorker(Name(i)),
                                .state = std::move(report),
                                .now = schedule_.now(),
                                .deadline = SteadyTime::InfiniteFuture()});
  }

  void PlanPreemption(int i) {
    if (options_.preempted_every == absl::InfiniteDuration()) {
      return;
    }
    const double share = -std::log(1 - random_.Uniform());
    schedule_.After(options_.preempted_every * share, [this, i] {
      Preempt(i);
      PlanPreemption(i);
    });
  }

  // Announced: what it holds is free again at once.
  void Preempt(int i) {
    Machine& machine = machines_[i];
    for (const TaskId task : std::exchange(machine.leases, {})) {
      ApplyAll(DecideLeaseEnd(state_, task, LeaseEnd::kPreempted, "", true,
                              settings_, now()));
    }
    machine.busy = false;
    ++machine.boots;  // what it was doing is void
    state_.Apply(WorkerLivenessChanged{.worker = testing::TestWorker(Name(i)),
                                       .to = WorkerLiveness::kLost});
    schedule_.After(kBackAfter, [this, i, boots = machine.boots] {
      if (machines_[i].boots == boots) {
        Attach(i);
      }
    });
  }

  void AddSweep(int i) {
    const JobNumber job = state_.next_job();
    auto spec = std::make_shared<v1::JobSpec>();
    auto plan = std::make_shared<v1::JobPlan>();
    plan->set_measurements(kTasks);
    state_.Apply(
        JobAdded{.number = job,
                 .uuid = *JobUuid::FromBytes(
                     Digest::Of(absl::StrCat("job ", i)).bytes().substr(0, 16)),
                 .owner = absl::StrCat("user ", i),
                 .created_at = now().wall,
                 .spec = std::move(spec),
                 .plan = std::move(plan)});
    auto prototype = std::make_shared<v1::TaskSpec>();
    prototype->set_model_digest(
        testing::TestDigest(absl::StrCat("model ", i)).bytes());
    prototype->set_evaluation("aligned@1;tok=00");
    const TaskGroupId group = state_.next_group();
    state_.Apply(TaskGroupAdded{.id = group, .prototype = prototype});
    for (int t = 0; t < kTasks; ++t) {
      const TaskId task = state_.next_task();
      state_.Apply(TaskAdded{
          .id = task,
          .group = group,
          .content_key = testing::TestDigest(absl::StrCat("task ", i, " ", t)),
          .documents = {{.digest = testing::TestDigest("text")}},
          .estimated_seconds =
              static_cast<float>(absl::ToDoubleSeconds(kTask))});
      state_.Apply(
          JobTaskAdded{.job = job, .task = task, .num_measurements = 1});
    }
    state_.Apply(JobStateChanged{
        .job = job, .state = v1::JOB_STATE_QUEUED, .time = now().wall});
    arrived_[job] = schedule_.now();
  }

  void Grant() {
    bool granted = true;
    while (granted) {
      granted = false;
      for (int i = 0; i < kWorkers; ++i) {
        granted |= options_.strict ? GrantStrictly(i) : GrantByPolicy(i);
      }
    }
    for (int i = 0; i < kWorkers; ++i) {
      RunNext(i);
    }
  }

  bool GrantByPolicy(int i) {
    auto decision =
        DecideLease(state_, testing::TestWorker(Name(i)), settings_, now());
    QSWEEP_CHECK(decision.reply.ok());
    if (!decision.reply->has_value()) {
      return false;
    }
    ApplyAll(decision.mutations);
    machines_[i].leases.push_back((*decision.reply)->task);
    return true;
  }

  // Nothing to start in the own sweep: to that of the fewest workers.
  bool GrantStrictly(int i) {
    const Worker& asks = worker(i);
    if (asks.liveness != WorkerLiveness::kLive || asks.leases.size() >= 2) {
      return false;
    }
    std::map<JobNumber, int> held;
    for (const auto& [uuid, other] : state_.workers()) {
      held[other.holder] += other.liveness == WorkerLiveness::kLive;
    }
    std::optional<JobNumber> best;
    for (const JobNumber number : state_.active_jobs()) {
      if (state_.job(number).ready.empty()) {
        continue;
      }
      if (number == asks.holder) {
        best = number;
        break;
      }
      if (!best || held[number] < held[*best]) {
        best = number;
      }
    }
    if (!best || (*best != asks.holder && !asks.leases.empty())) {
      return false;
    }
    const TaskId task = *state_.job(*best).ready.begin()->second.begin();
    if (state_.job(*best).state == v1::JOB_STATE_QUEUED) {
      state_.Apply(JobStateChanged{
          .job = *best, .state = v1::JOB_STATE_RUNNING, .time = now().wall});
    }
    state_.Apply(LeaseGranted{.task = task,
                              .epoch = state_.task(task).epoch().Next(),
                              .job = *best,
                              .worker = asks.uuid,
                              .session = asks.session,
                              .granted_at = now().wall,
                              .now = schedule_.now(),
                              .deadline = SteadyTime::InfiniteFuture()});
    machines_[i].leases.push_back(task);
    return true;
  }

  void RunNext(int i) {
    Machine& machine = machines_[i];
    if (machine.busy || machine.leases.empty()) {
      return;
    }
    machine.busy = true;
    const TaskId task = machine.leases.front();
    const Digest model = state_.group(state_.task(task).group).model_digest;
    if (machine.resident == model) {
      Begin(i, task);
      return;
    }
    schedule_.After(
        options_.load, [this, i, task, model, boots = machine.boots] {
          result_.load_minutes += absl::ToDoubleMinutes(options_.load);
          if (machines_[i].boots == boots) {
            machines_[i].resident = model;
            Report(i);
            Begin(i, task);
          }
        });
  }

  void Begin(int i, TaskId task) {
    v1::TaskProgress progress;
    progress.set_phase(v1::TASK_PHASE_RUN);
    state_.Apply(LeaseRenewed{.task = task,
                              .epoch = state_.task(task).epoch(),
                              .session = worker(i).session,
                              .now = schedule_.now(),
                              .deadline = SteadyTime::InfiniteFuture(),
                              .progress = progress});
    const double factor = 1 + kSpread * (2 * random_.Uniform() - 1);
    schedule_.After(kTask * factor,
                    [this, i, task, boots = machines_[i].boots] {
                      if (machines_[i].boots == boots) {
                        Finish(i, task);
                      }
                    });
  }

  void Finish(int i, TaskId id) {
    const Task& task = state_.task(id);
    const JobNumber job = task.jobs.front();
    state_.Apply(
        ResultCommitted{.task = id,
                        .epoch = task.epoch(),
                        .payload_digest = testing::TestDigest("result"),
                        .worker = worker(i).uuid,
                        .held = schedule_.now() - task.lease->granted_at});
    machines_[i].leases.pop_front();
    machines_[i].busy = false;
    if (state_.job(job).tasks_live() == 0) {
      state_.Apply(JobStateChanged{
          .job = job, .state = v1::JOB_STATE_SUCCEEDED, .time = now().wall});
      result_.latency_minutes +=
          absl::ToDoubleMinutes(schedule_.now() - arrived_[job]);
      ++ended_;
    }
  }

  const PlacementOptions options_;
  const Settings settings_;
  Random random_;
  Schedule schedule_;
  State state_;
  FloorClock clock_;
  std::map<int, Machine> machines_;
  std::map<JobNumber, SteadyTime> arrived_;
  PlacementResult result_;
  int ended_ = 0;
};

PlacementResult Mean(PlacementOptions options) {
  PlacementResult mean;
  for (int i = 1; i <= kSeeds; ++i) {
    options.seed = static_cast<uint64_t>(i);
    const PlacementResult one = PlaySweeps(options);
    mean.makespan_minutes += one.makespan_minutes / kSeeds;
    mean.load_minutes += one.load_minutes / kSeeds;
    mean.latency_minutes += one.latency_minutes / kSeeds;
    mean.below_floor = std::max(mean.below_floor, one.below_floor);
    mean.below_floor_max = one.below_floor_max;
  }
  return mean;
}

}  // namespace

PlacementResult PlaySweeps(const PlacementOptions& options) {
  return Play(options).Run();
}

std::vector<PlacementRow> ComparePlacement() {
  std::vector<PlacementRow> rows;
  for (const absl::Duration load : {absl::Seconds(180), absl::Seconds(60)}) {
    for (const bool preempted : {false, true}) {
      PlacementOptions options{.load = load};
      if (preempted) {
        options.preempted_every = absl::Hours(2);
      }
      PlacementRow row{.load = load, .preempted = preempted};
      row.policy = Mean(options);
      options.strict = true;
      row.strict = Mean(options);
      rows.push_back(row);
    }
  }
  return rows;
}

std::string FormatPlacement(const std::vector<PlacementRow>& rows) {
  std::string text = absl::StrFormat(
      "%d workers, %d sweeps x %d tasks of about %s, one every %s; means of %d "
      "seeds\n%-6s %-9s %-7s %9s %9s %9s %9s %14s\n",
      kWorkers, kSweeps, kTasks, absl::FormatDuration(kTask),
      absl::FormatDuration(kArrival), kSeeds, "load", "preempted", "policy",
      "makespan", "loading", "ratio", "latency", "below floor");
  for (const PlacementRow& row : rows) {
    const auto line = [&](const char* name, const PlacementResult& result,
                          double ratio) {
      absl::StrAppendFormat(
          &text,
          "%-6s %-9s %-7s %7.1f m %7.1f m %9.2f %7.1f m %6.0f of %3.0f s\n",
          absl::FormatDuration(row.load), row.preempted ? "every 2 h" : "never",
          name, result.makespan_minutes, result.load_minutes, ratio,
          result.latency_minutes, absl::ToDoubleSeconds(result.below_floor),
          absl::ToDoubleSeconds(result.below_floor_max));
    };
    line("ours", row.policy, row.load_ratio());
    line("strict", row.strict, 1);
  }
  return text;
}

}  // namespace qsweep::sim
