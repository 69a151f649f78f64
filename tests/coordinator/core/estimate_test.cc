#include "coordinator/core/estimate.h"

#include <optional>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/core/policy.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

SpeedSample Sample(double gflops, double load_seconds = 0,
                   const std::string& device = "Tesla T4") {
  return {.model = TestDigest("model"),
          .operation = "aligned@1",
          .device = device,
          .gflops = gflops,
          .load_seconds = load_seconds};
}

TEST(Speeds, GiveWhatNineInTenKeep_OfTheNewest) {
  Speeds speeds;
  const auto gflops = [&speeds] {
    return speeds.Gflops(TestDigest("model"), "aligned@1", "Tesla T4");
  };
  speeds.Add(Sample(100));
  speeds.Add(Sample(100));
  EXPECT_FALSE(gflops());  // two say nothing
  for (int i = 1; i <= 11; ++i) {
    speeds.Add(Sample(i, 100 - i));
  }
  EXPECT_EQ(gflops(), 2);
  EXPECT_EQ(speeds.LoadSeconds(TestDigest("model"), "Tesla T4"), 98);
  for (int i = 0; i < 32; ++i) {
    speeds.Add(Sample(50));
  }
  EXPECT_EQ(gflops(), 50);
  EXPECT_FALSE(speeds.Gflops(TestDigest("model"), "aligned@1", "cpu"));
  EXPECT_FALSE(speeds.Gflops(TestDigest("other"), "aligned@1", "Tesla T4"));
  speeds.Add(Sample(0));  // a report without times teaches nothing
  EXPECT_EQ(gflops(), 50);
}

TEST(Speeds, GiveTheBandwidthThatNineInTenReach) {
  Speeds speeds;
  for (int i = 1; i <= 11; ++i) {
    SpeedSample sample = Sample(0);
    sample.weight_bandwidth = i * 1e9;
    speeds.Add(sample);
  }
  EXPECT_EQ(speeds.WeightBandwidth(TestDigest("model"), "Tesla T4"), 2e9);
  EXPECT_FALSE(speeds.WeightBandwidth(TestDigest("model"), "cpu"));
}

// A task of 600 GFLOP, foreseen at 60 GFLOP/s, on a worker that measured 30.
State OneTask(double lifetime_left_seconds = 0) {
  StateBuilder builder;
  builder.Job().Task({.estimated_gflops = 60, .estimated_seconds = 10});
  builder.Worker("w", {.lifetime_left_ms =
                           static_cast<uint64_t>(lifetime_left_seconds * 1000),
                       .gflops = 30});
  return builder.Build();
}

Expected ExpectedIn(const State& state) {
  return ExpectedOn(state, state.task(TaskId(1)),
                    *state.FindWorker(TestWorker("w")), kSettings);
}

TEST(ExpectedOn, GoesByTheWorkersOwnMeasurement_BeforeHistory) {
  const Expected expected = ExpectedIn(OneTask());
  EXPECT_EQ(expected.run, absl::Seconds(20));
  EXPECT_EQ(expected.load, kSettings.default_load);
}

// Attempts of another task of the model took 5 s and 40 s to load.
State Taught(State state, int attempts = 3, double run_seconds = 5) {
  for (int i = 0; i < attempts; ++i) {
    const TaskId task = state.next_task();
    state.Apply(TaskAdded{.id = task,
                          .group = TaskGroupId(1),
                          .content_key = TestDigest("t" + std::to_string(i)),
                          .documents = {{.digest = TestDigest("d9")}},
                          .estimated_seconds = 10});
    state.Apply(JobTaskAdded{.job = JobNumber(1), .task = task});
    state.Apply(LeaseGranted{.task = task,
                             .epoch = Epoch(1),
                             .job = JobNumber(1),
                             .worker = TestWorker("w"),
                             .session = TestSession("w")});
    ResultCommitted done{
        .task = task, .epoch = Epoch(1), .worker = TestWorker("w")};
    done.report.set_run_seconds(run_seconds);
    done.report.set_load_seconds(40);
    done.speed = MakeSpeedSample(state.group(state.task(task).group),
                                 state.task(task).estimated_seconds,
                                 state.FindWorker(TestWorker("w"))->devices,
                                 done.report, absl::Seconds(40 + run_seconds));
    state.Apply(done);
  }
  return state;
}

TEST(ExpectedOn, GoesByWhatAttemptsTook) {
  const Expected expected = ExpectedIn(Taught(OneTask()));
  EXPECT_EQ(expected.run, absl::Seconds(5));
  EXPECT_EQ(expected.load, absl::Seconds(40));
}

// The task reads 4 GB besides, in 2 of its 10 s.
State OneTaskThatReads() {
  StateBuilder builder;
  builder.Job().Task({.estimated_gflops = 60,
                      .estimated_seconds = 10,
                      .weight_bytes = 4'000'000'000,
                      .estimated_weight_bandwidth = 2e9});
  builder.Worker("w", {.gflops = 30});
  return builder.Build();
}

TEST(ExpectedOn, ReadsTheWeightsAtTheirOwnSpeed) {
  // 480 GFLOP at 30, and 4 GB at 1 GB/s.
  EXPECT_EQ(ExpectedIn(OneTaskThatReads()).run, absl::Seconds(16 + 4));
}

TEST(MakeSpeedSample, TellsComputingFromReading) {
  const State state = OneTaskThatReads();
  v1::TaskReport report;
  report.set_run_seconds(9);
  report.set_weight_seconds(1);
  report.set_weight_bytes(3'000'000'000);  // of the layers
  const auto sample = [&] {
    return MakeSpeedSample(state.group(state.task(TaskId(1)).group), 10, {},
                           report, absl::Seconds(10));
  };
  EXPECT_DOUBLE_EQ(sample().gflops, 480. / 8);
  EXPECT_DOUBLE_EQ(sample().weight_bandwidth, 3e9);
  report.clear_weight_seconds();  // a worker that does not say
  EXPECT_DOUBLE_EQ(sample().gflops, 480. / 9);
  EXPECT_EQ(sample().weight_bandwidth, 0);
}

TEST(MakeSpeedSample, LearnsNothingOfTimesThatWereNot) {
  const State state = OneTaskThatReads();
  const auto sample = [&](double run, double weights, double load,
                          std::optional<absl::Duration> held) {
    v1::TaskReport report;
    report.set_run_seconds(run);
    report.set_weight_seconds(weights);
    report.set_weight_bytes(1'000);
    report.set_load_seconds(load);
    const SpeedSample made = MakeSpeedSample(
        state.group(state.task(TaskId(1)).group), 10, {}, report, held);
    EXPECT_EQ(made.model, TestDigest("model"));
    return std::vector<bool>{made.gflops > 0, made.weight_bandwidth > 0,
                             made.load_seconds > 0};
  };
  using ::testing::Each;
  EXPECT_THAT(sample(6, 1, 4, absl::Seconds(10)), Each(true));
  EXPECT_THAT(sample(6, 1, 4, absl::Seconds(8)), Each(false));
  EXPECT_THAT(sample(1e9, 1, 4, absl::Seconds(10)), Each(false));
  EXPECT_THAT(sample(6, 1, 1e9, absl::Seconds(10)), Each(false));
  EXPECT_THAT(sample(0.1, 0.05, 0.1, std::nullopt), Each(false));  // late
  // It waited for the weights longer than it ran.
  EXPECT_EQ(sample(6, 7, 4, absl::Seconds(10)),
            (std::vector<bool>{false, false, true}));
}

TEST(ExpectedOn, BelievesFewAttemptsTenTimesTheOwnMeasurement) {
  const auto run = [](int attempts, double run_seconds) {
    return ExpectedIn(Taught(OneTask(), attempts, run_seconds)).run;
  };
  EXPECT_EQ(run(3, 150), absl::Seconds(150));
  EXPECT_EQ(run(3, 1e6), absl::Seconds(200));
  EXPECT_EQ(run(9, 1e6), absl::Seconds(200));
  EXPECT_EQ(run(3, 1e-6), absl::Seconds(2));
  EXPECT_EQ(run(10, 1e4), absl::Seconds(1e4));
  EXPECT_EQ(run(10, 1e9), absl::Seconds(200'000));
}

TEST(ExpectedOn, BelievesFewLoadsHalfAnHour) {
  State state = OneTask();
  const auto add = [&state](int times) {
    for (int i = 0; i < times; ++i) {
      const TaskId task = state.next_task();
      state.Apply(TaskAdded{.id = task, .group = TaskGroupId(1)});
      state.Apply(JobTaskAdded{.job = JobNumber(1), .task = task});
      state.Apply(LeaseGranted{.task = task,
                               .epoch = Epoch(1),
                               .job = JobNumber(1),
                               .worker = TestWorker("w")});
      state.Apply(ResultCommitted{
          .task = task,
          .epoch = Epoch(1),
          .worker = TestWorker("w"),
          .speed = Sample(
              0, 1e9, DeviceType(state.FindWorker(TestWorker("w"))->devices))});
    }
  };
  add(3);
  EXPECT_EQ(ExpectedIn(state).load, kSettings.fetch_deadline);
  add(7);
  EXPECT_EQ(ExpectedIn(state).load, 10'000 * kSettings.default_load);
}

// Else nobody with a time limit would ever try the task again.
TEST(WhyNotFit, LetsATaskBeTried_ThatFewCalledTooLong) {
  const State state = Taught(OneTask(600), 3, 1e6);
  EXPECT_THAT(WhyNotFit(state, state.task(TaskId(1)),
                        *state.FindWorker(TestWorker("w")), kSettings),
              ::testing::IsEmpty());
}

TEST(WhyNotFit, CountsTheLoadAgainstTheTimeLeft) {
  const auto fits = [](double lifetime_left_seconds) {
    const State state = Taught(OneTask(lifetime_left_seconds));
    return WhyNotFit(state, state.task(TaskId(1)),
                     *state.FindWorker(TestWorker("w")), kSettings)
        .empty();
  };
  EXPECT_TRUE(fits(45));
  EXPECT_FALSE(fits(44.9));
}

TEST(RunLimit, IsTenTimesTheUsual_ButNeverShort) {
  EXPECT_EQ(RunLimit({.run = absl::Seconds(5)}, kSettings), absl::Minutes(10));
  EXPECT_EQ(RunLimit({.run = absl::Minutes(5)}, kSettings), absl::Minutes(50));
  EXPECT_EQ(ProgressLimit({.run = absl::Minutes(5)}, kSettings),
            kSettings.progress_deadline);
  EXPECT_EQ(ProgressLimit({.run = absl::Hours(1)}, kSettings),
            absl::Minutes(10));
}

TEST(RunLimit, IsAWeekAtMost) {
  const Expected endless{.run = absl::Hours(24 * 365)};
  EXPECT_EQ(RunLimit(endless, kSettings), absl::Hours(24 * 7));
  EXPECT_EQ(ProgressLimit(endless, kSettings), kSettings.fetch_deadline);
}

}  // namespace
}  // namespace qsweep::testing
