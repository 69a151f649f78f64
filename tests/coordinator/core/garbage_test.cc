#include "coordinator/core/garbage.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/core/cancel.h"
#include "tests/support/error_matchers.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

v1::CollectGarbageRequest OlderThan(absl::Duration age) {
  v1::CollectGarbageRequest request;
  request.set_older_than_ms(
      static_cast<uint64_t>(absl::ToInt64Milliseconds(age)));
  return request;
}

// Jobs 1, 2 and 4 were cancelled at the start; 3 runs and shares task 2 with
// job 2.
State Ended() {
  State state = StateBuilder()
                    .Job()
                    .Job()
                    .Job()
                    .Job()
                    .Task({.jobs = {1}, .documents = {"a"}})
                    .Task({.jobs = {2, 3}, .documents = {"b"}})
                    .Task({.jobs = {2}, .documents = {"c"}})
                    .Task({.jobs = {4}, .documents = {"d"}})
                    .Build();
  for (const int64_t job : {1, 2, 4}) {
    state = After(state,
                  DecideCancel(state, JobNumber(job), "", Settings(), TestNow())
                      .mutations);
  }
  return state;
}

TEST(DecideCollectGarbage, ForgetsJobsThatEndedLongAgo_AndTheirTasks) {
  const State state = Ended();
  const Now later = TestNow(absl::Hours(48));
  const auto decision = DecideCollectGarbage(state, OlderThan(absl::Hours(24)),
                                             {}, kSettings, later);
  QSWEEP_ASSERT_OK(decision.reply);
  EXPECT_EQ(decision.reply->jobs(), 2u);
  EXPECT_EQ(decision.reply->tasks(), 2u);  // job 3 keeps one of job 2's
  EXPECT_FALSE(decision.reply->more());
  EXPECT_THAT(EventsOf(decision.mutations),
              ElementsAre("0:job_deleted", "0:job_deleted"));
  const State after = After(state, decision.mutations);
  EXPECT_THAT(CheckInvariants(after), IsEmpty());
  EXPECT_EQ(after.FindJob(JobNumber(1)), nullptr);
  EXPECT_EQ(after.FindJob(state.job(JobNumber(1)).uuid), nullptr);
  EXPECT_EQ(after.FindTask(TaskId(1)), nullptr);
  EXPECT_EQ(after.FindGivenUp(TestDigest("task 1")), nullptr);
  EXPECT_EQ(after.FindGroup(TaskGroupId(1)), nullptr);
  EXPECT_NE(after.FindTask(TaskId(2)), nullptr);  // job 3 has it
  EXPECT_EQ(after.next_job(), JobNumber(5));
  EXPECT_EQ(after.next_task(), TaskId(5));
}

TEST(DecideCollectGarbage, CountsATaskOfTwoJobsWithTheLastOfThem) {
  State state = StateBuilder()
                    .Job()
                    .Job()
                    .Job()
                    .Task({.jobs = {1, 2}, .documents = {"a"}})
                    .Task({.jobs = {3}, .documents = {"b"}})
                    .Build();
  state.Apply(
      TaskStateChanged{.task = TaskId(1), .to = v1::TASK_STATE_QUARANTINED});
  for (const int64_t job : {1, 2}) {
    state.Apply(JobStateChanged{.job = JobNumber(job),
                                .state = v1::JOB_STATE_FAILED,
                                .time = TestNow().wall});
  }
  Settings one_by_one;
  one_by_one.plan_at_once_tasks = 1;
  for (const uint64_t tasks : {0, 1}) {
    EXPECT_NE(state.FindTask(TaskId(1)), nullptr);
    const auto decision = DecideCollectGarbage(
        state, OlderThan(absl::ZeroDuration()), {}, one_by_one, TestNow());
    EXPECT_EQ(decision.reply->jobs(), 1u);
    EXPECT_EQ(decision.reply->tasks(), tasks);
    state = After(state, decision.mutations);
    EXPECT_THAT(CheckInvariants(state), IsEmpty());
  }
  EXPECT_EQ(state.FindTask(TaskId(1)), nullptr);
}

TEST(DecideCollectGarbage, ForgetsLostWorkersThatNothingRefersTo) {
  StateBuilder builder;
  builder.Job().Task();
  for (const char* worker : {"gone", "quarantined", "live", "used"}) {
    builder.Worker(worker);
    if (std::string(worker) != "live") {
      builder.Apply(
          WorkerLivenessChanged{.worker = TestWorker(worker)});  // LOST
    }
  }
  const State state =
      builder
          .Apply(WorkerModeChanged{.worker = TestWorker("quarantined"),
                                   .mode = WorkerMode::kQuarantined})
          .Build();
  const std::vector<WorkerUuid> unused = {
      TestWorker("gone"), TestWorker("quarantined"), TestWorker("live"),
      TestWorker("never seen")};
  const Now later = TestNow(absl::Hours(25));
  const auto decision = DecideCollectGarbage(state, OlderThan(absl::Hours(24)),
                                             unused, kSettings, later);
  EXPECT_EQ(decision.reply->workers(), 1u);
  const State after = After(state, decision.mutations);
  EXPECT_EQ(after.FindWorker(TestWorker("gone")), nullptr);
  for (const char* worker : {"quarantined", "live", "used"}) {
    EXPECT_NE(after.FindWorker(TestWorker(worker)), nullptr) << worker;
  }
  EXPECT_THAT(DecideCollectGarbage(state, OlderThan(absl::Hours(26)), unused,
                                   kSettings, later)
                  .mutations,
              IsEmpty());  // seen since
  v1::CollectGarbageRequest dry = OlderThan(absl::Hours(24));
  dry.set_dry_run(true);
  const auto counted =
      DecideCollectGarbage(state, dry, unused, kSettings, later);
  EXPECT_EQ(counted.reply->workers(), 1u);
  EXPECT_THAT(counted.mutations, IsEmpty());
}

TEST(DecideCollectGarbage, ForgetsSomeWorkersAtATime) {
  State state = StateBuilder().Worker("a").Worker("b").Build();
  for (const char* worker : {"a", "b"}) {
    state.Apply(WorkerLivenessChanged{.worker = TestWorker(worker)});  // LOST
  }
  const std::vector<WorkerUuid> unused = {TestWorker("a"), TestWorker("b")};
  Settings one_by_one;
  one_by_one.plan_at_once_tasks = 1;
  for (const bool more : {true, false}) {
    const auto decision = DecideCollectGarbage(
        state, OlderThan(absl::ZeroDuration()), unused, one_by_one, TestNow());
    EXPECT_EQ(decision.reply->workers(), 1u);
    EXPECT_EQ(decision.reply->more(), more);
    state = After(state, decision.mutations);
  }
  EXPECT_THAT(state.workers(), IsEmpty());
}

TEST(DecideCollectGarbage, ForgetsTasksThatNoJobHasAnyMore) {
  State state = Ended();
  state.Apply(JobTaskRemoved{.job = JobNumber(4), .task = TaskId(4)});
  const auto decision = DecideCollectGarbage(state, OlderThan(absl::Hours(24)),
                                             {}, kSettings, TestNow());
  EXPECT_EQ(decision.reply->jobs(), 0u);
  EXPECT_EQ(decision.reply->tasks(), 1u);
  const State after = After(state, decision.mutations);
  EXPECT_THAT(CheckInvariants(after), IsEmpty());
  EXPECT_EQ(after.FindTask(TaskId(4)), nullptr);
  EXPECT_EQ(after.FindGivenUp(TestDigest("task 4")), nullptr);
  EXPECT_NE(after.FindTask(TaskId(1)), nullptr);
}

TEST(DecideCollectGarbage, LeavesTheNewestJobAndTheYoung) {
  const State state = Ended();
  EXPECT_THAT(DecideCollectGarbage(state, OlderThan(absl::Hours(24)), {},
                                   kSettings, TestNow(absl::Hours(23)))
                  .mutations,
              IsEmpty());
  const State after =
      After(state, DecideCollectGarbage(state, OlderThan(absl::ZeroDuration()),
                                        {}, kSettings, TestNow())
                       .mutations);
  EXPECT_NE(after.FindJob(JobNumber(4)), nullptr);
}

TEST(DecideCollectGarbage, TakesSomeAtATime_AndCountsAllWhenDry) {
  const State state = Ended();
  Settings small;
  small.plan_at_once_tasks = 1;
  const auto some = DecideCollectGarbage(state, OlderThan(absl::ZeroDuration()),
                                         {}, small, TestNow());
  EXPECT_EQ(some.reply->jobs(), 1u);
  EXPECT_TRUE(some.reply->more());
  v1::CollectGarbageRequest dry;
  dry.set_dry_run(true);
  const auto counted = DecideCollectGarbage(state, dry, {}, small, TestNow());
  EXPECT_EQ(counted.reply->jobs(), 2u);
  EXPECT_THAT(counted.mutations, IsEmpty());
  EXPECT_EQ(
      CodeOf(DecideCollectGarbage(state, OlderThan(absl::Hours(24) * 365 * 200),
                                  {}, small, TestNow())
                 .reply),
      "QS1004");
}

}  // namespace
}  // namespace qsweep::testing
