#include "coordinator/core/policy.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::optional<int64_t> Picked(const State& state, const std::string& worker,
                              Now now = TestNow(),
                              const Settings& settings = kSettings) {
  const auto pick =
      PickTask(state, *state.FindWorker(TestWorker(worker)), settings, now);
  return pick ? std::optional(pick->task.value()) : std::nullopt;
}

TEST(PickTask, PrefersPriority_ThenOldest) {
  EXPECT_EQ(Picked(StateBuilder()
                       .Job()
                       .Job({.priority = 1})
                       .Task()
                       .Task({.jobs = {2}, .documents = {"d3"}})
                       .Worker("w")
                       .Build(),
                   "w"),
            2);
  EXPECT_EQ(Picked(StateBuilder()
                       .Job()
                       .Job()
                       .Task({.jobs = {2}})
                       .Task({.documents = {"d3"}})
                       .Worker("w")
                       .Build(),
                   "w"),
            2);
}

TEST(PickTask, LiftsWaitingJob_WhenItAges) {
  const State state = StateBuilder()
                          .Job({.priority = 1, .state = v1::JOB_STATE_RUNNING})
                          .Job()
                          .Task()
                          .Task({.jobs = {2}, .documents = {"d3"}})
                          .Worker("w")
                          .Build();
  EXPECT_EQ(Picked(state, "w", TestNow(absl::Minutes(9))), 1);
  EXPECT_EQ(Picked(state, "w", TestNow(absl::Minutes(20))), 2);
  // A wall clock that jumped back ages nothing.
  EXPECT_EQ(Picked(state, "w", TestNow(-absl::Hours(24))), 1);
}

TEST(PickTask, PrefersResidentModel) {
  const auto picked = [](v1::ResidentModel::Level level) {
    return Picked(
        StateBuilder()
            .Job()
            .Task({.model = "cold"})
            .Task({.model = "disk"})
            .Task({.model = "warm"})
            .Worker("w", {.models = {{"disk", v1::ResidentModel::LEVEL_DISK},
                                     {"warm", level}}})
            .Build(),
        "w");
  };
  EXPECT_EQ(picked(v1::ResidentModel::LEVEL_MEMORY), 3);
  EXPECT_EQ(picked(v1::ResidentModel::LEVEL_DISK), 2);
}

// The most a message can say; one device has use for two.
TEST(PickTask, GivesNoWorkerMoreThanItsDevicesHaveUseFor) {
  StateBuilder builder;
  builder.Job();
  for (int i = 0; i < 4; ++i) {
    builder.Task({.documents = {absl::StrCat("d", i)}});
  }
  builder.Worker("w", {.credits = std::numeric_limits<uint32_t>::max()});
  builder.Lease(1, "w");
  EXPECT_EQ(Picked(builder.Build(), "w"), 2);
  builder.Lease(2, "w");
  EXPECT_EQ(Picked(builder.Build(), "w"), std::nullopt);
}

TEST(PickTask, PrefetchesOnlyTheSameModel) {
  const State state = StateBuilder()
                          .Job()
                          .Task({.model = "a"})
                          .Task({.model = "b"})
                          .Task({.model = "a", .documents = {"d3"}})
                          .Worker("w")
                          .Lease(1, "w")
                          .Build();
  EXPECT_EQ(Picked(state, "w"), 3);
  const State one_left = StateBuilder()
                             .Job()
                             .Task({.model = "a"})
                             .Task({.model = "b"})
                             .Worker("w")
                             .Lease(1, "w")
                             .Build();
  EXPECT_EQ(Picked(one_left, "w"), std::nullopt);
}

// `held` workers held by job 1 (ann), job 2 (bob) has work too; asked for the
// first of them, which is idle again.
State Held(int held, int free_workers) {
  StateBuilder builder;
  builder.Job().Job({.owner = "bob"});
  for (int i = 0; i <= held; ++i) {
    builder.Task({.jobs = {1}, .documents = {absl::StrCat("a", i)}});
  }
  builder.Task({.jobs = {2}, .documents = {"b"}});
  for (int i = 0; i < held + free_workers; ++i) {
    builder.Worker(absl::StrCat("w", i),
                   {.models = {{"model", v1::ResidentModel::LEVEL_DISK}}});
  }
  for (int i = 0; i < held; ++i) {
    builder.Lease(i + 1, absl::StrCat("w", i));
  }
  return builder
      .Apply(LeaseEnded{.task = TaskId(1),
                        .epoch = Epoch(1),
                        .end = LeaseEnd::kPreempted,
                        .to = v1::TASK_STATE_READY})
      .Build();
}

TEST(PickTask, MovesWorker_OnlyWhenAnotherUserIsBelowItsFloor) {
  // Of two workers ann holds both, bob none: share 1 each, so one moves.
  EXPECT_EQ(Picked(Held(2, 0), "w0"), 4);
  // Ann holds one of two: she is at her share and stays.
  EXPECT_EQ(Picked(Held(1, 1), "w0"), 1);
  // One worker for two users: share 1/2, floor 0; no thrashing.
  EXPECT_EQ(Picked(Held(1, 0), "w0"), 1);
}

TEST(PickTask, SharesByWeight) {
  Settings settings;
  settings.weights = {{"ann", 3}, {"eve", 100}};  // eve has no work
  // Of four workers ann's share is three: she stays below it, moves above.
  EXPECT_EQ(Picked(Held(3, 1), "w0", TestNow(), settings), 1);
  EXPECT_EQ(Picked(Held(4, 0), "w0", TestNow(), settings), 6);
  // Without weights it is two.
  EXPECT_EQ(Picked(Held(3, 1), "w0"), 5);
}

// Of ann, bob and cleo each has a job and enough tasks; workers w0, w1, ... are
// held by the jobs `held_by`. The first one is idle again.
State HeldByJobs(const std::vector<int64_t>& held_by) {
  StateBuilder builder;
  builder.Job().Job({.owner = "bob"}).Job({.owner = "cleo"});
  for (const int64_t job : held_by) {
    builder.Task({.jobs = {job}});
  }
  for (int64_t job = 1; job <= 3; ++job) {
    builder.Task({.jobs = {job}});
  }
  for (size_t i = 0; i < held_by.size(); ++i) {
    const std::string name = absl::StrCat("w", i);
    builder.Worker(name, {.models = {{"model", v1::ResidentModel::LEVEL_DISK}}})
        .Lease(static_cast<int64_t>(i + 1), name);
  }
  return builder
      .Apply(LeaseEnded{.task = TaskId(1),
                        .epoch = Epoch(1),
                        .end = LeaseEnd::kPreempted,
                        .to = v1::TASK_STATE_READY})
      .Build();
}

TEST(PickTask, GivesAWorkerToTheUserBelowTheFloor_BeforeOthersWhoHoldNothing) {
  // Of two workers cleo has one whole: bob, who came before her, half of one.
  Settings settings;
  settings.weights = {{"cleo", 2}};
  EXPECT_EQ(Picked(HeldByJobs({1, 1}), "w0", TestNow(), settings), 5);
}

TEST(PickTask, SharesByWeight_WhenRoundingMakesAShareALittleSmaller) {
  // Of six workers cleo's share is 6 * 0.6 / 1.8: two, of which she holds one.
  Settings settings;
  settings.weights = {{"ann", 0.8}, {"bob", 0.4}, {"cleo", 0.6}};
  EXPECT_EQ(Picked(HeldByJobs({1, 1, 1, 2, 2, 3}), "w0", TestNow(), settings),
            9);
}

TEST(PickTask, GivesFreeWorkerToTheUserWhoHoldsLeast) {
  EXPECT_EQ(Picked(Held(1, 1), "w1"), 3);
}

// Of four workers three users have 4/3 each; of the third's two jobs each has
// 2/3, the floor of which is nothing.
TEST(PickTask, MovesWorker_WhenAUserWithSeveralJobsIsBelowHisFloor) {
  StateBuilder builder;
  builder.Job()
      .Job({.owner = "bob"})
      .Job({.owner = "cleo"})
      .Job({.owner = "cleo"});
  for (int job = 1; job <= 4; ++job) {
    for (int i = 0; i < 3; ++i) {
      builder.Task({.jobs = {job}, .documents = {absl::StrCat(job, " ", i)}});
    }
  }
  for (const char* worker : {"a", "b", "c", "d"}) {
    builder.Worker(worker,
                   {.models = {{"model", v1::ResidentModel::LEVEL_DISK}}});
  }
  builder.Lease(1, "a").Lease(2, "b").Lease(4, "c").Lease(5, "d");
  EXPECT_EQ(Picked(builder.Build(), "a"), 7);
  builder.Lease(7, "d");  // cleo has her worker, bob keeps one
  EXPECT_EQ(Picked(builder.Build(), "a"), 3);
}

// Else it would take the next task of its model for ever.
TEST(PickTask, LetsAWorkerRunDry_WhenATaskOfAnotherModelIsDue) {
  StateBuilder builder;
  builder.Job().Job({.owner = "bob"});
  for (int i = 0; i < 4; ++i) {
    builder.Task({.documents = {absl::StrCat("a", i)}});
  }
  builder.Task({.jobs = {2}, .model = "other"})
      .Worker("w0")
      .Worker("w1")
      .Lease(1, "w0")
      .Lease(2, "w1");
  EXPECT_EQ(Picked(builder.Build(), "w0"), std::nullopt);
  builder.Apply(LeaseEnded{.task = TaskId(1),
                           .epoch = Epoch(1),
                           .end = LeaseEnd::kPreempted,
                           .to = v1::TASK_STATE_READY});
  EXPECT_EQ(Picked(builder.Build(), "w0"), 5);
  EXPECT_EQ(Picked(builder.Build(), "w1"), std::nullopt);
  builder.Lease(5, "w0");
  EXPECT_EQ(Picked(builder.Build(), "w1"), 1);
}

TEST(WhyNotFit, NamesEachReason) {
  const State state =
      StateBuilder()
          .Job()
          .Task({.quantizers = {"rtn:bits=4", "gptq:bits=4", "fp"}})
          .Worker("w", {.evaluations = {}, .lifetime_left_ms = 1})
          .Build();
  EXPECT_THAT(WhyNotFit(state, state.task(TaskId(1)),
                        *state.FindWorker(TestWorker("w")), Settings()),
              ElementsAre(HasSubstr("aligned@1"), HasSubstr("gptq"),
                          HasSubstr("takes up to 10 s there, and 30 s")));
}

TEST(PickTask, TakesAShortTaskOfTheGroup_BeforeTheWorkerEnds) {
  const State state =
      StateBuilder()
          .Job()
          .Task({.estimated_seconds = 60})
          .Apply(TaskAdded{.id = TaskId(2),
                           .group = TaskGroupId(1),
                           .content_key = TestDigest("task 2"),
                           .documents = {{.digest = TestDigest("d3")}},
                           .estimated_seconds = 5})
          .Apply(JobTaskAdded{.job = JobNumber(1), .task = TaskId(2)})
          .Worker("w", {.lifetime_left_ms = 40'000})
          .Build();
  EXPECT_EQ(Picked(state, "w"), 2);
}

// Ann holds w0 to w2, bob w3, which loads his model: two each would be fair.
TEST(PickTask, TakesNothingAhead_WhenItMayHaveToLeaveForAModelThatIsLoading) {
  StateBuilder builder;
  builder.Job().Job({.owner = "bob"});
  for (int i = 0; i < 5; ++i) {
    builder.Task({.documents = {absl::StrCat("a", i)}});
  }
  for (int i = 0; i < 3; ++i) {
    builder.Task(
        {.jobs = {2}, .model = "new", .documents = {absl::StrCat("b", i)}});
  }
  for (const char* worker : {"w0", "w1", "w2"}) {
    builder.Worker(worker,
                   {.models = {{"model", v1::ResidentModel::LEVEL_MEMORY}}});
  }
  const State state = builder.Worker("w3")
                          .Lease(1, "w0")
                          .Lease(2, "w1")
                          .Lease(3, "w2")
                          .Lease(6, "w3")
                          .Build();
  EXPECT_EQ(Picked(state, "w0"), std::nullopt);
  // With nothing to do it goes on with its own until the model is loaded.
  const State idle = After(state, {LeaseEnded{.task = TaskId(1),
                                              .epoch = Epoch(1),
                                              .end = LeaseEnd::kPreempted,
                                              .to = v1::TASK_STATE_READY}});
  EXPECT_EQ(Picked(idle, "w0"), 1);
}

TEST(PickTask, LoadsANewModelOnOneWorkerFirst) {
  StateBuilder builder;
  builder.Job()
      .Task()
      .Task({.documents = {"d3"}})
      .Worker("a")
      .Worker("b")
      .Lease(1, "a");
  const State loading = builder.Build();
  EXPECT_EQ(Picked(loading, "b"), std::nullopt);
  EXPECT_EQ(Picked(loading, "a"), 2);
  v1::TaskProgress runs;
  runs.set_phase(v1::TASK_PHASE_RUN);
  const State running =
      After(loading, {LeaseRenewed{.task = TaskId(1),
                                   .epoch = Epoch(1),
                                   .session = TestSession("a"),
                                   .progress = runs}});
  EXPECT_EQ(Picked(running, "b"), 2);
}

TEST(PickTask, SparesAWorkerTheTaskItFailed_WhileAnotherFits) {
  StateBuilder builder;
  builder.Job().Task().Worker("a").Lease(1, "a").Apply(
      LeaseEnded{.task = TaskId(1),
                 .epoch = Epoch(1),
                 .end = LeaseEnd::kFailed,
                 .to = v1::TASK_STATE_READY});
  EXPECT_EQ(Picked(builder.Build(), "a"), 1);  // there is no other
  builder.Worker("b");
  EXPECT_EQ(Picked(builder.Build(), "a"), std::nullopt);
  EXPECT_EQ(Picked(builder.Build(), "b"), 1);
}

TEST(PickTask, GivesATaskBack_WhenNoOtherWorkerIsAdmitted) {
  v1::Requirements require;
  require.set_memory_bytes(uint64_t{14} << 30);
  StateBuilder builder;
  builder.Job({.require = require})
      .Job({.state = v1::JOB_STATE_PAUSED})
      .Task({.jobs = {1, 2}})
      .Worker("large", {.memory_bytes = uint64_t{16} << 30})
      .Worker("small", {.memory_bytes = uint64_t{8} << 30})
      .Lease(1, "large")
      .Apply(LeaseEnded{.task = TaskId(1),
                        .epoch = Epoch(1),
                        .end = LeaseEnd::kFailed,
                        .to = v1::TASK_STATE_READY});
  EXPECT_EQ(Picked(builder.Build(), "small"), std::nullopt);
  EXPECT_EQ(Picked(builder.Build(), "large"), 1);
}

TEST(PickTask, KeepsToWhatTheJobRequires) {
  const auto picked = [](const v1::Requirements& require,
                         const WorkerOptions& worker) {
    return Picked(StateBuilder()
                      .Job({.require = require})
                      .Task()
                      .Worker("w", worker)
                      .Build(),
                  "w");
  };
  v1::Requirements require;
  require.add_gpus("t4");
  require.add_gpus("A100");
  EXPECT_EQ(picked(require, {.device = "cuda:0 Tesla T4"}), 1);
  EXPECT_EQ(picked(require, {.device = "NVIDIA A100-SXM4-40GB"}), 1);
  for (const char* other : {"cpu", "NVIDIA A10", "NVIDIA T400", "A1000"}) {
    EXPECT_EQ(picked(require, {.device = other}), std::nullopt) << other;
  }
  require.Clear();
  require.set_memory_bytes(uint64_t{14} << 30);
  EXPECT_EQ(picked(require, {.memory_bytes = uint64_t{14} << 30}), 1);
  EXPECT_EQ(picked(require, {.memory_bytes = (uint64_t{14} << 30) - 1}),
            std::nullopt);
  require.Clear();
  require.set_compute_capability(80);
  EXPECT_EQ(picked(require, {.compute_capability = 80}), 1);
  EXPECT_EQ(picked(require, {.compute_capability = 75}), std::nullopt);
}

TEST(PickTask, GivesTasksToDevicesThatComputeInTheirMode) {
  const auto picked = [](v1::Compute compute, const WorkerOptions& worker) {
    return Picked(StateBuilder()
                      .Job({.compute = compute})
                      .Task()
                      .Worker("w", worker)
                      .Build(),
                  "w");
  };
  const WorkerOptions cpu = {
      .device = "cpu", .compute_capability = 0, .computes = {v1::COMPUTE_BF16}};
  const WorkerOptions gpu = {.computes = {v1::COMPUTE_FP16}};
  EXPECT_EQ(picked(v1::COMPUTE_FP32, cpu), 1);
  EXPECT_EQ(picked(v1::COMPUTE_FP32, gpu), 1);
  EXPECT_EQ(picked(v1::COMPUTE_BF16, cpu), 1);
  EXPECT_EQ(picked(v1::COMPUTE_BF16, gpu), std::nullopt);
  EXPECT_EQ(picked(v1::COMPUTE_FP16, cpu), std::nullopt);
  EXPECT_EQ(picked(v1::COMPUTE_FP16, gpu), 1);
}

TEST(WhyNotRequired, NamesTheModeThatIsMissing) {
  const State state =
      StateBuilder().Job({.compute = v1::COMPUTE_BF16}).Worker("w").Build();
  EXPECT_THAT(WhyNotRequired(state.job(JobNumber(1)),
                             *state.FindWorker(TestWorker("w"))),
              ElementsAre("job 1 computes in bf16, the worker's Tesla T4 does "
                          "not"));
}

TEST(WhyNotRequired, AsksForAllOfOneDevice) {
  v1::Requirements require;
  require.add_gpus("T4");
  require.set_memory_bytes(uint64_t{14} << 30);
  State state = StateBuilder().Job({.require = require}).Worker("w").Build();
  const Job& job = state.job(JobNumber(1));
  Worker worker = *state.FindWorker(TestWorker("w"));
  worker.devices.front().set_memory_bytes(uint64_t{8} << 30);  // a T4
  v1::Device cpu;
  cpu.set_kind("cpu");
  cpu.set_name("T4 of a CPU");
  cpu.set_memory_bytes(uint64_t{64} << 30);
  worker.devices.push_back(cpu);
  EXPECT_THAT(WhyNotRequired(job, worker), Not(IsEmpty()));
  worker.devices.front().set_memory_bytes(uint64_t{16} << 30);
  EXPECT_THAT(WhyNotRequired(job, worker), IsEmpty());
}

TEST(WhyNotRequired, NamesTheNumberThatDoesNotFit) {
  v1::Requirements require;
  require.add_gpus("A100");
  require.set_memory_bytes(uint64_t{14} << 30);
  require.set_compute_capability(80);
  const State state = StateBuilder()
                          .Job({.require = require})
                          .Worker("w", {.memory_bytes = uint64_t{8} << 30})
                          .Build();
  EXPECT_THAT(
      WhyNotRequired(state.job(JobNumber(1)),
                     *state.FindWorker(TestWorker("w"))),
      ElementsAre("job 1 asks for A100, the worker has Tesla T4",
                  "job 1 asks for 14.0 GiB of memory, the worker has 8.0 GiB",
                  "job 1 asks for compute capability 8.0, the worker has 7.5"));
}

TEST(PickTask, LiftsAJobThatNobodyIsOn_AsItAges) {
  State state = StateBuilder()
                    .Job({.priority = 1, .state = v1::JOB_STATE_RUNNING})
                    .Job({.state = v1::JOB_STATE_RUNNING})
                    .Task()
                    .Task({.jobs = {2}, .documents = {"d3"}})
                    .Worker("w")
                    .Build();
  EXPECT_EQ(Picked(state, "w", TestNow(absl::Hours(1))), 1);
  state.Apply(JobWaits{.job = JobNumber(2), .since = TestNow().steady});
  EXPECT_EQ(Picked(state, "w", TestNow(absl::Minutes(19))), 1);
  EXPECT_EQ(Picked(state, "w", TestNow(absl::Minutes(20))), 2);
}

}  // namespace
}  // namespace qsweep::testing
