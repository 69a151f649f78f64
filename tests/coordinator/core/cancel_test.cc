#include "coordinator/core/cancel.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/core/explain.h"
#include "coordinator/core/lease.h"
#include "tests/support/error_matchers.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(DecideCancel, CancelsWhatNobodyElseWants) {
  // Task 1 waits, 2 runs, 3 is shared, 4 is shared and runs.
  const State state = StateBuilder()
                          .Job()
                          .Job()
                          .Task()
                          .Task({.documents = {"d3"}})
                          .Task({.jobs = {1, 2}, .documents = {"d4"}})
                          .Task({.jobs = {1, 2}, .documents = {"d5"}})
                          .Worker("w")
                          .Lease(2, "w")
                          .Lease(4, "w")
                          .Build();
  const auto decision =
      DecideCancel(state, JobNumber(1), "why", Settings(), TestNow());
  QSWEEP_ASSERT_OK(decision.reply);
  EXPECT_THAT(
      EventsOf(decision.mutations),
      ElementsAre("1:task_cancelled", "1:task_cancelled", "1:job_cancelled"));
  const State after = After(state, decision.mutations);
  EXPECT_THAT(CheckInvariants(after), IsEmpty());
  EXPECT_EQ(after.job(JobNumber(1)).state, v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(after.task(TaskId(1)).state, v1::TASK_STATE_CANCELLED);
  EXPECT_EQ(after.task(TaskId(2)).state, v1::TASK_STATE_CANCELLED);
  EXPECT_EQ(after.task(TaskId(2)).history->grants[0].end, LeaseEnd::kCancelled);
  EXPECT_EQ(after.task(TaskId(3)).state, v1::TASK_STATE_READY);
  EXPECT_EQ(after.task(TaskId(4)).state, v1::TASK_STATE_LEASED);
  EXPECT_THAT(after.task(TaskId(4)).jobs, ElementsAre(JobNumber(2)));
}

TEST(DecideCancel, IsIdempotent_AndRefusesAnEndedJob) {
  const State state = StateBuilder().Job().Task().Build();
  const State cancelled = After(
      state,
      DecideCancel(state, JobNumber(1), "", Settings(), TestNow()).mutations);
  const auto again =
      DecideCancel(cancelled, JobNumber(1), "", Settings(), TestNow());
  QSWEEP_EXPECT_OK(again.reply);
  EXPECT_THAT(again.mutations, IsEmpty());
  EXPECT_EQ(
      CodeOf(
          DecideCancel(state, JobNumber(2), "", Settings(), TestNow()).reply),
      "QS4020");
  const State ended =
      StateBuilder().Job({.state = v1::JOB_STATE_SUCCEEDED}).Build();
  EXPECT_EQ(
      CodeOf(
          DecideCancel(ended, JobNumber(1), "", Settings(), TestNow()).reply),
      "QS4023");
}

Settings InSlicesOf(int64_t tasks) {
  Settings settings;
  settings.drop_slice_tasks = tasks;
  return settings;
}

// Job 1: task 1 runs, 2 to 4 wait, 5 waits to be tried again; job 2 wants 4.
State LargeJob(int max_fails = 0) {
  return StateBuilder()
      .Job({.max_fails = max_fails, .state = v1::JOB_STATE_RUNNING})
      .Job()
      .Task()
      .Task({.documents = {"d3"}})
      .Task({.documents = {"d4"}})
      .Task({.jobs = {1, 2}, .documents = {"d5"}})
      .Task({.documents = {"d6"}})
      .Worker("w")
      .Lease(5, "w")
      .Apply(LeaseEnded{.task = TaskId(5),
                        .epoch = Epoch(1),
                        .end = LeaseEnd::kLost,
                        .to = v1::TASK_STATE_BACKOFF,
                        .backoff = absl::Hours(1)})
      .Lease(1, "w")
      .Build();
}

// How many slices it takes until nothing is left to drop.
int DropAll(State& state, const Settings& settings) {
  int slices = 0;
  while (HasTasksToDrop(state.job(JobNumber(1)))) {
    state = After(state,
                  DecideDropWaiting(state, JobNumber(1), settings, TestNow()));
    EXPECT_THAT(CheckInvariants(state), IsEmpty());
    ++slices;
  }
  return slices;
}

TEST(DecideCancel, DropsALargeJobInSlices_AndLeasesNothingOnItsBehalf) {
  const Settings settings = InSlicesOf(2);
  State state = LargeJob();
  state = After(
      state,
      DecideCancel(state, JobNumber(1), "why", settings, TestNow()).mutations);
  EXPECT_THAT(CheckInvariants(state), IsEmpty());
  EXPECT_EQ(state.job(JobNumber(1)).state, v1::JOB_STATE_STOPPING);
  EXPECT_EQ(state.task(TaskId(1)).state, v1::TASK_STATE_CANCELLED);
  EXPECT_EQ(state.job(JobNumber(1)).num_tasks(v1::TASK_STATE_READY), 3);
  EXPECT_EQ(ExplainTask(state, state.task(TaskId(2)), settings, TestNow())
                .sentences(0),
            "Job 1 stops: what waits is being dropped.");
  // Again is OK and changes nothing.
  const auto again =
      DecideCancel(state, JobNumber(1), "again", settings, TestNow());
  QSWEEP_EXPECT_OK(again.reply);
  EXPECT_THAT(again.mutations, IsEmpty());
  // The worker gets the task that job 2 wants, too, and no other.
  const auto lease = DecideLease(state, TestWorker("w"), Settings(), TestNow());
  ASSERT_TRUE(lease.reply->has_value());
  EXPECT_EQ((*lease.reply)->task, TaskId(4));
  EXPECT_EQ(DropAll(state, settings), 2);
  EXPECT_EQ(state.job(JobNumber(1)).state, v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(state.job(JobNumber(1)).reason, "why");
  for (const int64_t task : {2, 3, 5}) {
    EXPECT_EQ(state.task(TaskId(task)).state, v1::TASK_STATE_CANCELLED);
  }
  EXPECT_EQ(state.task(TaskId(4)).state, v1::TASK_STATE_READY);
  EXPECT_THAT(state.task(TaskId(4)).jobs, ElementsAre(JobNumber(2)));
}

TEST(DecideStop, DropsALargeJobInSlices_AndLetsTheRestFinish) {
  const Settings settings = InSlicesOf(1);
  State state = LargeJob();
  state = After(
      state,
      DecideStop(state, JobNumber(1), "why", settings, TestNow()).mutations);
  EXPECT_EQ(DropAll(state, settings), 4);
  EXPECT_EQ(state.job(JobNumber(1)).state, v1::JOB_STATE_STOPPING);
  EXPECT_EQ(state.task(TaskId(1)).state, v1::TASK_STATE_LEASED);
  // Cancelled while it stops: what runs is dropped, too.
  state = After(
      state,
      DecideCancel(state, JobNumber(1), "now", settings, TestNow()).mutations);
  EXPECT_EQ(state.job(JobNumber(1)).state, v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(state.task(TaskId(1)).state, v1::TASK_STATE_CANCELLED);
}

TEST(FailJobsOverLimit, DropsALargeJobInSlices_AndFailsIt) {
  const Settings settings = InSlicesOf(2);
  State state = LargeJob(/*max_fails=*/1);
  state =
      After(state, DecideLeaseEnd(state, TaskId(1), LeaseEnd::kFailed,
                                  "bad weights", false, settings, TestNow()));
  EXPECT_THAT(CheckInvariants(state), IsEmpty());
  EXPECT_EQ(state.job(JobNumber(1)).state, v1::JOB_STATE_STOPPING);
  EXPECT_EQ(DropAll(state, settings), 2);
  EXPECT_EQ(state.job(JobNumber(1)).state, v1::JOB_STATE_FAILED);
  EXPECT_EQ(state.job(JobNumber(1)).reason,
            "1 tasks failed, which is the limit of job 1");
}

}  // namespace
}  // namespace qsweep::testing
