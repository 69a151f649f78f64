#include "coordinator/core/cancel.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

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
  const auto decision = DecideCancel(state, JobNumber(1), "why", TestNow());
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
  const State cancelled =
      After(state, DecideCancel(state, JobNumber(1), "", TestNow()).mutations);
  const auto again = DecideCancel(cancelled, JobNumber(1), "", TestNow());
  QSWEEP_EXPECT_OK(again.reply);
  EXPECT_THAT(again.mutations, IsEmpty());
  EXPECT_EQ(CodeOf(DecideCancel(state, JobNumber(2), "", TestNow()).reply),
            "QS4020");
  const State ended =
      StateBuilder().Job({.state = v1::JOB_STATE_SUCCEEDED}).Build();
  EXPECT_EQ(CodeOf(DecideCancel(ended, JobNumber(1), "", TestNow()).reply),
            "QS4023");
}

}  // namespace
}  // namespace qsweep::testing
