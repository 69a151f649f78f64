#include "coordinator/core/lease.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::optional<int64_t> GrantedTask(
    const Decision<std::optional<LeaseGrant>>& decision) {
  return decision.reply.ok() && decision.reply->has_value()
             ? std::optional((*decision.reply)->task.value())
             : std::nullopt;
}

v1::ReleaseTaskRequest Release(int64_t task, int64_t epoch,
                               v1::ReleaseReason reason,
                               bool retryable = true) {
  v1::ReleaseTaskRequest request;
  request.set_task_id(static_cast<uint64_t>(task));
  request.set_epoch(static_cast<uint64_t>(epoch));
  request.set_reason(reason);
  request.mutable_failure()->set_message("out of memory");
  request.mutable_failure()->mutable_detail()->set_code("QS5006");
  request.mutable_failure()->set_retryable(retryable);
  return request;
}

// A job with one task that its worker runs, after `failed` and `lost` earlier
// attempts.
State Attempted(int failed, int lost, const v1::Requirements& require = {}) {
  StateBuilder builder;
  builder.Job({.require = require}).Task().Worker("w");
  const auto end = [&](LeaseEnd why) {
    builder.Lease(1, "w");
    builder.Apply(LeaseEnded{.task = TaskId(1),
                             .epoch = builder.Build().task(TaskId(1)).epoch(),
                             .end = why,
                             .to = v1::TASK_STATE_READY});
  };
  for (int i = 0; i < failed; ++i) {
    end(LeaseEnd::kFailed);
  }
  for (int i = 0; i < lost; ++i) {
    end(LeaseEnd::kLost);
  }
  return builder.Lease(1, "w").Build();
}

TEST(DecideLease, GrantsOnlyWhatFits) {
  struct Case {
    const char* name;
    WorkerOptions worker;
    std::optional<int64_t> want;
  };
  for (const Case& c : {
           Case{"fits", {}, 1},
           Case{"older evaluation", {.evaluations = {"aligned@0"}}, {}},
           Case{"evaluation of another name",
                {.evaluations = {"hf-text@1"}},
                {}},
           Case{"method missing", {.methods = {"gptq"}}, {}},
           Case{"draining", {.draining = true}, {}},
           Case{"no credit", {.credits = 0}, {}},
           Case{"ends just in time", {.lifetime_left_ms = 40'000}, 1},
           Case{"ends too early", {.lifetime_left_ms = 39'999}, {}},
       }) {
    SCOPED_TRACE(c.name);
    const State state =
        StateBuilder().Job().Task().Worker("w", c.worker).Build();
    EXPECT_EQ(
        GrantedTask(DecideLease(state, TestWorker("w"), kSettings, TestNow())),
        c.want);
  }
}

TEST(DecideLease, GrantsWhatKeepsLargestWeights_OnlyToEnginesThatCan) {
  for (const bool can : {false, true}) {
    WorkerOptions worker;
    if (can) {
      worker.methods.push_back("top");
    }
    const State state = StateBuilder()
                            .Job()
                            .Task({.layer_set = "L0+top5%"})
                            .Worker("w", worker)
                            .Build();
    EXPECT_EQ(
        GrantedTask(DecideLease(state, TestWorker("w"), kSettings, TestNow())),
        can ? std::optional<int64_t>(1) : std::nullopt);
  }
}

TEST(DecideLease, StartsJobAndCountsEpoch_WhenGranted) {
  const State state = StateBuilder().Job().Task().Worker("w").Build();
  const auto decision =
      DecideLease(state, TestWorker("w"), kSettings, TestNow());
  EXPECT_THAT(EventsOf(decision.mutations),
              ElementsAre("1:job_running", "1:task_leased"));
  const State after = After(state, decision.mutations);
  EXPECT_THAT(CheckInvariants(after), IsEmpty());
  EXPECT_EQ(after.job(JobNumber(1)).state, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(after.task(TaskId(1)).epoch(), Epoch(1));
  EXPECT_EQ(after.task(TaskId(1)).lease->deadline,
            TestNow(kSettings.lease_ttl).steady);
}

TEST(DecideLease, GrantsNothing_WhenJobIsPausedOrPlanned) {
  for (const v1::JobState job_state :
       {v1::JOB_STATE_PAUSED, v1::JOB_STATE_PLANNING}) {
    const State state =
        StateBuilder().Job({.state = job_state}).Task().Worker("w").Build();
    const auto decision =
        DecideLease(state, TestWorker("w"), kSettings, TestNow());
    EXPECT_EQ(GrantedTask(decision), std::nullopt);
    EXPECT_THAT(decision.mutations, IsEmpty());
  }
}

TEST(DecideLease, IsNotFound_WhenWorkerIsUnknown) {
  EXPECT_TRUE(absl::IsNotFound(
      DecideLease(State(), TestWorker("w"), kSettings, TestNow())
          .reply.status()));
}

TEST(DecideRelease, ChargesTheRightBudget) {
  struct Case {
    v1::ReleaseReason reason;
    v1::TaskState state;
    int failed;
    int preempted;
  };
  for (const Case& c : {
           Case{v1::RELEASE_REASON_FAILED, v1::TASK_STATE_BACKOFF, 1, 0},
           Case{v1::RELEASE_REASON_STALLED, v1::TASK_STATE_BACKOFF, 1, 0},
           Case{v1::RELEASE_REASON_PREEMPTED, v1::TASK_STATE_READY, 0, 1},
           Case{v1::RELEASE_REASON_DRAINED, v1::TASK_STATE_READY, 0, 1},
       }) {
    SCOPED_TRACE(v1::ReleaseReason_Name(c.reason));
    const State state = Attempted(0, 0);
    const auto decision =
        DecideRelease(state, "", Release(1, 1, c.reason), kSettings, TestNow());
    QSWEEP_ASSERT_OK(decision.reply);
    const State after = After(state, decision.mutations);
    EXPECT_THAT(CheckInvariants(after), IsEmpty());
    const Task& task = after.task(TaskId(1));
    EXPECT_EQ(task.state, c.state);
    EXPECT_EQ(task.history->failed, c.failed);
    EXPECT_EQ(task.history->preempted, c.preempted);
    EXPECT_EQ(task.history->lost, 0);
    // Again, after the answer was lost.
    const auto again =
        DecideRelease(after, "", Release(1, 1, c.reason), kSettings, TestNow());
    QSWEEP_EXPECT_OK(again.reply);
    EXPECT_THAT(again.mutations, IsEmpty());
  }
}

TEST(DecideRelease, StoresTheBeginningOfALongReason) {
  const State state = Attempted(0, 0);
  v1::ReleaseTaskRequest request = Release(1, 1, v1::RELEASE_REASON_FAILED);
  request.mutable_failure()->set_message(std::string(10 << 20, 'x'));
  const auto decision = DecideRelease(state, "", request, kSettings, TestNow());
  QSWEEP_ASSERT_OK(decision.reply);
  const State after = After(state, decision.mutations);
  EXPECT_LT(after.task(TaskId(1)).history->reason.size(), 5000u);
  EXPECT_THAT(after.task(TaskId(1)).history->reason,
              ::testing::StartsWith("QS5006: x"));
}

TEST(DecideRelease, RefusesWhatWasNotGranted) {
  const State state = StateBuilder()
                          .Job()
                          .Task()
                          .Worker("w", {.credential = "token-1"})
                          .Lease(1, "w")
                          .Build();
  const auto code = [&](const std::string& credential, int64_t task,
                        int64_t epoch, v1::ReleaseReason reason) {
    const auto decision = DecideRelease(
        state, credential, Release(task, epoch, reason), kSettings, TestNow());
    EXPECT_THAT(decision.mutations, IsEmpty());
    return CodeOf(decision.reply);
  };
  EXPECT_EQ(code("token-1", 2, 1, v1::RELEASE_REASON_FAILED), "QS4021");
  EXPECT_EQ(code("token-1", 1, 2, v1::RELEASE_REASON_FAILED), "QS4021");
  EXPECT_EQ(code("token-1", 1, 0, v1::RELEASE_REASON_FAILED), "QS4021");
  EXPECT_EQ(code("token-2", 1, 1, v1::RELEASE_REASON_FAILED), "QS6002");
  EXPECT_EQ(code("token-1", 1, 1, v1::RELEASE_REASON_UNSPECIFIED), "QS1004");
}

TEST(DecideRelease, QuarantinesAndFailsJob_WhenBudgetIsSpent) {
  struct Case {
    const char* name;
    int failed_before;
    bool retryable;
    v1::TaskState state;
    v1::JobState job;
  };
  for (const Case& c : {
           Case{"second failure", 1, true, v1::TASK_STATE_BACKOFF,
                v1::JOB_STATE_QUEUED},
           Case{"third failure", 2, true, v1::TASK_STATE_QUARANTINED,
                v1::JOB_STATE_FAILED},
           Case{"never works", 0, false, v1::TASK_STATE_QUARANTINED,
                v1::JOB_STATE_FAILED},
       }) {
    SCOPED_TRACE(c.name);
    const State state = Attempted(c.failed_before, 0);
    const auto decision = DecideRelease(
        state, "",
        Release(1, c.failed_before + 1, v1::RELEASE_REASON_FAILED, c.retryable),
        kSettings, TestNow());
    const State after = After(state, decision.mutations);
    EXPECT_THAT(CheckInvariants(after), IsEmpty());
    EXPECT_EQ(after.task(TaskId(1)).state, c.state);
    EXPECT_EQ(after.task(TaskId(1)).history->reason, "QS5006: out of memory");
    EXPECT_EQ(after.job(JobNumber(1)).state, c.job);
  }
}

TEST(DecideRelease, KeepsJobOpen_WhenOtherTasksMayStillFinish) {
  const State state = StateBuilder()
                          .Job()
                          .Task()
                          .Task({.documents = {"d3"}})
                          .Worker("w")
                          .Lease(1, "w")
                          .Build();
  const auto decision =
      DecideRelease(state, "", Release(1, 1, v1::RELEASE_REASON_FAILED, false),
                    kSettings, TestNow());
  const State after = After(state, decision.mutations);
  EXPECT_EQ(after.job(JobNumber(1)).state, v1::JOB_STATE_QUEUED);
  EXPECT_EQ(after.task(TaskId(1)).state, v1::TASK_STATE_QUARANTINED);
}

TEST(DecideRelease, CancelsTheRest_WhenJobReachesItsLimitOfFailedTasks) {
  // Two jobs share both tasks and both end: nobody may keep task 2 alive, and
  // nobody may cancel it twice.
  const State state = StateBuilder()
                          .Job({.max_fails = 1})
                          .Job({.max_fails = 1})
                          .Task({.jobs = {1, 2}})
                          .Task({.jobs = {1, 2}, .documents = {"d3"}})
                          .Worker("w")
                          .Lease(1, "w")
                          .Build();
  const auto decision =
      DecideRelease(state, "", Release(1, 1, v1::RELEASE_REASON_FAILED, false),
                    kSettings, TestNow());
  const State after = After(state, decision.mutations);
  EXPECT_THAT(CheckInvariants(after), IsEmpty());
  EXPECT_EQ(after.job(JobNumber(1)).state, v1::JOB_STATE_FAILED);
  EXPECT_EQ(after.job(JobNumber(2)).state, v1::JOB_STATE_FAILED);
  EXPECT_EQ(after.task(TaskId(2)).state, v1::TASK_STATE_CANCELLED);
}

TEST(DecideTimeout, RequeuesAsLost_OnlyAtTheDeadline) {
  const State state = Attempted(0, 0);
  EXPECT_THAT(DecideTimeout(state, TaskId(1), kSettings,
                            TestNow(absl::Seconds(60) - absl::Nanoseconds(1))),
              IsEmpty());
  const auto mutations =
      DecideTimeout(state, TaskId(1), kSettings, TestNow(absl::Seconds(60)));
  EXPECT_THAT(EventsOf(mutations), ElementsAre("1:task_requeued"));
  const State after = After(state, mutations);
  EXPECT_EQ(after.task(TaskId(1)).state, v1::TASK_STATE_BACKOFF);
  EXPECT_EQ(after.task(TaskId(1)).history->lost, 1);
  EXPECT_EQ(after.task(TaskId(1)).history->failed, 0);
}

TEST(DecideTimeout, QuarantinesLostTask_OnlyWhenEnoughWorkersVanished) {
  // One worker fits: five losses on it are enough.
  const auto lost = [](const State& state) {
    return After(state, DecideTimeout(state, TaskId(1), kSettings,
                                      TestNow(absl::Seconds(60))))
        .task(TaskId(1))
        .state;
  };
  EXPECT_EQ(lost(Attempted(0, 3)), v1::TASK_STATE_BACKOFF);
  EXPECT_EQ(lost(Attempted(0, 4)), v1::TASK_STATE_QUARANTINED);
  const auto with_two_more = [](State state) {
    for (const char* name : {"w2", "w3"}) {
      const v1::Hello hello = MakeHello(name, {.device = "L4"});
      state.Apply(WorkerAttached{.worker = TestWorker(name),
                                 .session = TestSession(name),
                                 .hello = std::make_shared<v1::Hello>(hello),
                                 .deadline = SteadyTime::InfiniteFuture()});
      state.Apply(WorkerReported{
          .worker = TestWorker(name),
          .state = std::make_shared<v1::WorkerState>(MakeReport(name, {}, 1)),
          .deadline = SteadyTime::InfiniteFuture()});
    }
    return state;
  };
  // Three fit: the one that lost it five times may be what is broken.
  EXPECT_EQ(lost(with_two_more(Attempted(0, 4))), v1::TASK_STATE_BACKOFF);
  // But the job admits one of them only.
  v1::Requirements require;
  require.add_gpus("T4");
  EXPECT_EQ(lost(with_two_more(Attempted(0, 4, require))),
            v1::TASK_STATE_QUARANTINED);
}

TEST(DecideTimeout, EndsStalledAttempt_WhenRunMakesNoProgress) {
  State state = Attempted(0, 0);
  v1::TaskProgress progress;
  progress.set_progress_seq(1);
  progress.set_phase(v1::TASK_PHASE_RUN);
  state.Apply(LeaseRenewed{.task = TaskId(1),
                           .epoch = Epoch(1),
                           .session = TestSession("w"),
                           .now = TestNow(absl::Seconds(5)).steady,
                           .deadline = TestNow(absl::Hours(1)).steady,
                           .progress = progress});
  EXPECT_EQ(TimeoutOf(state, state.task(TaskId(1)), kSettings),
            TestNow(absl::Seconds(125)).steady);
  const State after = After(state, DecideTimeout(state, TaskId(1), kSettings,
                                                 TestNow(absl::Seconds(125))));
  EXPECT_EQ(after.task(TaskId(1)).history->failed, 1);
  EXPECT_EQ(after.task(TaskId(1)).history->grants.back().end,
            LeaseEnd::kStalled);
}

TEST(DecideTimeout, ForgivesSlowLoadAndSpooledResult) {
  for (const auto& [phase, until] :
       {std::pair(v1::TASK_PHASE_FETCH, absl::Minutes(30)),
        std::pair(v1::TASK_PHASE_COMMIT, absl::Minutes(50))}) {
    State state = Attempted(0, 0);
    v1::TaskProgress progress;
    progress.set_phase(phase);
    state.Apply(
        LeaseRenewed{.task = TaskId(1),
                     .epoch = Epoch(1),
                     .session = TestSession("w"),
                     .now = TestNow().steady,
                     .deadline = TestNow(absl::Hours(1)).steady,
                     .progress = progress,
                     .commit_deadline = TestNow(absl::Minutes(50)).steady});
    EXPECT_EQ(TimeoutOf(state, state.task(TaskId(1)), kSettings),
              TestNow(until).steady);
  }
}

// It is the task before it that takes long.
TEST(DecideTimeout, LetsAPrefetchedTaskWaitForItsTurn) {
  State state = StateBuilder()
                    .Job()
                    .Task()
                    .Task({.documents = {"d3"}})
                    .Worker("w")
                    .Lease(1, "w")
                    .Lease(2, "w")
                    .Build();
  v1::TaskProgress progress;
  for (const auto& [task, phase] :
       {std::pair(1, v1::TASK_PHASE_RUN), std::pair(2, v1::TASK_PHASE_FETCH)}) {
    progress.set_phase(phase);
    state.Apply(LeaseRenewed{.task = TaskId(task),
                             .epoch = Epoch(1),
                             .session = TestSession("w"),
                             .now = TestNow(absl::Minutes(40)).steady,
                             .deadline = TestNow(absl::Hours(3)).steady,
                             .progress = progress});
  }
  EXPECT_THAT(
      DecideTimeout(state, TaskId(2), kSettings, TestNow(absl::Minutes(41))),
      IsEmpty());
  state =
      After(state, DecideLeaseEnd(state, TaskId(1), LeaseEnd::kFailed, "x",
                                  true, kSettings, TestNow(absl::Minutes(50))));
  EXPECT_EQ(TimeoutOf(state, state.task(TaskId(2)), kSettings),
            TestNow(absl::Minutes(80)).steady);
}

TEST(DecideTimeout, MakesTaskReady_WhenBackoffIsOver) {
  const State leased = Attempted(0, 0);
  const State state =
      After(leased, DecideLeaseEnd(leased, TaskId(1), LeaseEnd::kFailed, "x",
                                   true, kSettings, TestNow()));
  const SteadyTime ready_at =
      TimeoutOf(state, state.task(TaskId(1)), kSettings);
  EXPECT_LE(ready_at, TestNow(absl::Seconds(1)).steady);
  const State after = After(state, DecideTimeout(state, TaskId(1), kSettings,
                                                 TestNow(absl::Seconds(1))));
  EXPECT_EQ(after.task(TaskId(1)).state, v1::TASK_STATE_READY);
  EXPECT_THAT(CheckInvariants(after), IsEmpty());
}

TEST(DecideLeaseEnd, BacksOffLongerEachTime_WithinBounds) {
  Settings settings;
  settings.failed_budget = 100;
  absl::Duration longest;
  for (int failed = 0; failed < 40; ++failed) {
    const State state = Attempted(failed, 0);
    const auto ended = Only<LeaseEnded>(DecideLeaseEnd(
        state, TaskId(1), LeaseEnd::kFailed, "", true, settings, TestNow()));
    ASSERT_EQ(ended.size(), 1u);
    EXPECT_GE(ended[0].backoff, absl::ZeroDuration());
    EXPECT_LE(ended[0].backoff, settings.backoff_max);
    EXPECT_LE(ended[0].backoff,
              settings.backoff_min * (int64_t{1} << std::min(failed, 30)));
    longest = std::max(longest, ended[0].backoff);
  }
  EXPECT_GT(longest, absl::Minutes(1));
}

TEST(DecideLeaseEnd, BacksOffUpToTheMaximum_HoweverSmallTheMinimumIs) {
  Settings settings;
  settings.failed_budget = 100;
  settings.backoff_min = absl::Microseconds(1);
  settings.backoff_max = absl::Hours(1'000);
  const State state = Attempted(50, 0);
  absl::Duration longest;
  for (settings.jitter_seed = 0; settings.jitter_seed < 64;
       ++settings.jitter_seed) {
    const auto ended = Only<LeaseEnded>(DecideLeaseEnd(
        state, TaskId(1), LeaseEnd::kFailed, "", true, settings, TestNow()));
    ASSERT_EQ(ended.size(), 1u);
    longest = std::max(longest, ended[0].backoff);
  }
  EXPECT_GT(longest, absl::Hours(800));
  EXPECT_LE(longest, settings.backoff_max);
}

TEST(DecideTimeout, EndsAnAttemptThatRunsFarTooLong) {
  State state = Attempted(0, 0);
  v1::TaskProgress progress;
  progress.set_phase(v1::TASK_PHASE_RUN);
  for (int minute = 0; minute <= 20; ++minute) {
    progress.set_progress_seq(static_cast<uint64_t>(minute + 1));
    state.Apply(
        LeaseRenewed{.task = TaskId(1),
                     .epoch = Epoch(1),
                     .session = TestSession("w"),
                     .now = TestNow(absl::Minutes(minute)).steady,
                     .deadline = TestNow(absl::Minutes(minute + 1)).steady,
                     .progress = progress,
                     .run_deadline = TestNow(absl::Minutes(20)).steady,
                     .progress_limit = absl::Minutes(2)});
  }
  EXPECT_EQ(TimeoutOf(state, state.task(TaskId(1)), kSettings),
            TestNow(absl::Minutes(20)).steady);
  const State after = After(state, DecideTimeout(state, TaskId(1), kSettings,
                                                 TestNow(absl::Minutes(20))));
  EXPECT_EQ(after.task(TaskId(1)).history->grants.back().end,
            LeaseEnd::kStalled);
  EXPECT_NE(after.task(TaskId(1)).history->reason.find("far longer"),
            std::string::npos);
}

}  // namespace
}  // namespace qsweep::testing
