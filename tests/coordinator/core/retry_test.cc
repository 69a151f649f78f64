#include "coordinator/core/retry.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/core/cancel.h"
#include "coordinator/core/lease.h"
#include "tests/support/error_matchers.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(DecideRetryTasks, LeavesJobsThatEndedBehind) {
  // Both jobs want task 1, which was given up: job 2 has failed with it, job 1
  // waits for task 2.
  State state = StateBuilder()
                    .Job({.state = v1::JOB_STATE_RUNNING})
                    .Job({.state = v1::JOB_STATE_RUNNING})
                    .Task({.jobs = {1, 2}})
                    .Task({.documents = {"d3"}})
                    .Worker("w")
                    .Lease(1, "w")
                    .Build();
  state =
      After(state, DecideLeaseEnd(state, TaskId(1), LeaseEnd::kFailed,
                                  "bad weights", false, Settings(), TestNow()));
  ASSERT_EQ(state.job(JobNumber(2)).state, v1::JOB_STATE_FAILED);
  const auto decision = DecideRetryTasks(state, JobNumber(1), TestNow());
  QSWEEP_ASSERT_OK(decision.reply);
  EXPECT_THAT(EventsOf(decision.mutations), ElementsAre("1:task_ready"));
  const State after = After(state, decision.mutations);
  EXPECT_THAT(CheckInvariants(after), IsEmpty());
  EXPECT_THAT(after.task(TaskId(1)).jobs, ElementsAre(JobNumber(1)));
  EXPECT_EQ(after.task(TaskId(1)).history->failed, 0);
}

TEST(DecideRetryTasks, LeavesAuditsAlone) {
  const State state =
      StateBuilder()
          .Job()
          .Task()
          .Task({.documents = {"d3"}})
          .Apply(TaskAdded{.id = TaskId(3),
                           .group = TaskGroupId(1),
                           .content_key = TestDigest("audit"),
                           .documents = {{.digest = TestDigest("d1")}},
                           .audit_of = TaskId(1)})
          .Apply(JobTaskAdded{.job = JobNumber(1), .task = TaskId(3)})
          .Apply(TaskStateChanged{.task = TaskId(2),
                                  .to = v1::TASK_STATE_QUARANTINED})
          .Apply(TaskStateChanged{.task = TaskId(3),
                                  .to = v1::TASK_STATE_CANCELLED})
          .Build();
  const State after =
      After(state, DecideRetryTasks(state, JobNumber(1), TestNow()).mutations);
  EXPECT_EQ(after.task(TaskId(2)).state, v1::TASK_STATE_READY);
  EXPECT_EQ(after.task(TaskId(3)).state, v1::TASK_STATE_CANCELLED);
}

// A task that waits would keep it from ending, and nobody would be given it.
TEST(DecideRetryTasks, IsRefused_WhileTheJobStops) {
  State state = StateBuilder()
                    .Job({.state = v1::JOB_STATE_RUNNING})
                    .Task()
                    .Task({.documents = {"d3"}})
                    .Worker("w")
                    .Lease(1, "w")
                    .Build();
  state = After(
      state,
      DecideStop(state, JobNumber(1), "", Settings(), TestNow()).mutations);
  ASSERT_EQ(state.job(JobNumber(1)).state, v1::JOB_STATE_STOPPING);
  ASSERT_EQ(state.task(TaskId(2)).state, v1::TASK_STATE_CANCELLED);
  const auto decision = DecideRetryTasks(state, JobNumber(1), TestNow());
  EXPECT_EQ(CodeOf(decision.reply), "QS4023");
  EXPECT_THAT(decision.mutations, IsEmpty());
}

TEST(DecideRetryTasks, LeavesStoppingJobsBehind) {
  // Both jobs want task 1, which was given up. Job 1 stops and only waits for
  // task 2: nothing may run for it any more, and a cancel of job 2 must not
  // leave task 1 to it.
  State state = StateBuilder()
                    .Job({.state = v1::JOB_STATE_RUNNING})
                    .Job({.state = v1::JOB_STATE_RUNNING})
                    .Task({.jobs = {1, 2}})
                    .Task({.jobs = {1, 2}, .documents = {"d3"}})
                    .Worker("w")
                    .Lease(1, "w")
                    .Lease(2, "w")
                    .Build();
  state =
      After(state, DecideLeaseEnd(state, TaskId(1), LeaseEnd::kFailed,
                                  "bad weights", false, Settings(), TestNow()));
  state = After(state,
                DecideStop(state, JobNumber(1), "enough", Settings(), TestNow())
                    .mutations);
  ASSERT_EQ(state.job(JobNumber(1)).state, v1::JOB_STATE_STOPPING);
  state =
      After(state, DecideRetryTasks(state, JobNumber(2), TestNow()).mutations);
  EXPECT_THAT(CheckInvariants(state), IsEmpty());
  EXPECT_THAT(state.task(TaskId(1)).jobs, ElementsAre(JobNumber(2)));
}

}  // namespace
}  // namespace qsweep::testing
