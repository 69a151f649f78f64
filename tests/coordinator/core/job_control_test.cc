#include "coordinator/core/job_control.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/core/cancel.h"
#include "coordinator/core/lease.h"
#include "coordinator/core/policy.h"
#include "tests/support/error_matchers.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const JobNumber kJob(1);

std::optional<int64_t> Picked(const State& state) {
  const auto pick = PickTask(state, *state.FindWorker(TestWorker("w")),
                             Settings(), TestNow());
  return pick ? std::optional(pick->task.value()) : std::nullopt;
}

TEST(DecidePause, LeasesNothingMore_UntilResumed) {
  const State state = StateBuilder().Job().Task().Worker("w").Build();
  const auto paused = DecidePause(state, kJob, "lunch", TestNow());
  EXPECT_THAT(EventsOf(paused.mutations), ElementsAre("1:job_paused"));
  const State after = After(state, paused.mutations);
  EXPECT_THAT(CheckInvariants(after), IsEmpty());
  EXPECT_EQ(after.job(kJob).reason, "lunch");
  EXPECT_EQ(Picked(after), std::nullopt);
  EXPECT_THAT(DecidePause(after, kJob, "", TestNow()).mutations, IsEmpty());

  const State resumed =
      After(after, DecideResume(after, kJob, TestNow()).mutations);
  EXPECT_EQ(resumed.job(kJob).state, v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Picked(resumed), 1);
  EXPECT_THAT(DecideResume(resumed, kJob, TestNow()).mutations, IsEmpty());
}

TEST(DecidePause, LeavesASharedTaskToTheOtherJob) {
  const State state =
      StateBuilder().Job().Job().Task({.jobs = {1, 2}}).Worker("w").Build();
  const State after =
      After(state, DecidePause(state, kJob, "", TestNow()).mutations);
  EXPECT_EQ(Picked(after), 1);
}

TEST(DecideResume, GoesOnAsRunning_WhenATaskHasBegun) {
  const State state = StateBuilder()
                          .Job({.state = v1::JOB_STATE_RUNNING})
                          .Task()
                          .Worker("w")
                          .Lease(1, "w")
                          .Build();
  const State paused =
      After(state, DecidePause(state, kJob, "", TestNow()).mutations);
  EXPECT_EQ(paused.task(TaskId(1)).state, v1::TASK_STATE_LEASED);
  EXPECT_EQ(After(paused, DecideResume(paused, kJob, TestNow()).mutations)
                .job(kJob)
                .state,
            v1::JOB_STATE_RUNNING);
}

TEST(DecidePriority, ChangesTheOrder) {
  const State state = StateBuilder()
                          .Job()
                          .Job()
                          .Task()
                          .Task({.jobs = {2}, .documents = {"d3"}})
                          .Worker("w")
                          .Build();
  EXPECT_EQ(Picked(state), 1);
  const State after =
      After(state, DecidePriority(state, JobNumber(2), 3, TestNow()).mutations);
  EXPECT_EQ(Picked(after), 2);
  EXPECT_THAT(DecidePriority(after, JobNumber(2), 3, TestNow()).mutations,
              IsEmpty());
}

TEST(JobControl, RefusesUnknownAndEndedJobs) {
  const State state =
      StateBuilder().Job({.state = v1::JOB_STATE_SUCCEEDED}).Build();
  EXPECT_EQ(CodeOf(DecidePause(state, kJob, "", TestNow()).reply), "QS4023");
  EXPECT_EQ(CodeOf(DecideResume(state, kJob, TestNow()).reply), "QS4023");
  EXPECT_EQ(CodeOf(DecideStop(state, kJob, "", Settings(), TestNow()).reply),
            "QS4023");
  EXPECT_EQ(CodeOf(DecidePriority(state, kJob, 1, TestNow()).reply), "QS4023");
  EXPECT_EQ(CodeOf(DecidePause(state, JobNumber(2), "", TestNow()).reply),
            "QS4020");
}

// Task 1 runs, 2 waits.
State StoppingJob() {
  const State state = StateBuilder()
                          .Job({.state = v1::JOB_STATE_RUNNING})
                          .Task()
                          .Task({.documents = {"d3"}})
                          .Worker("w")
                          .Lease(1, "w")
                          .Build();
  return After(
      state,
      DecideStop(state, kJob, "enough", Settings(), TestNow()).mutations);
}

TEST(DecideStop, DropsWhatWaits_AndLetsTheRestFinish) {
  const State state = StoppingJob();
  EXPECT_THAT(CheckInvariants(state), IsEmpty());
  EXPECT_EQ(state.job(kJob).state, v1::JOB_STATE_STOPPING);
  EXPECT_EQ(state.task(TaskId(1)).state, v1::TASK_STATE_LEASED);
  EXPECT_EQ(state.task(TaskId(2)).state, v1::TASK_STATE_CANCELLED);
  EXPECT_THAT(DecideStop(state, kJob, "", Settings(), TestNow()).mutations,
              IsEmpty());
}

TEST(DecideStop, EndsAtOnce_WhenNothingRuns) {
  const State state = StateBuilder().Job().Task().Build();
  const State after =
      After(state,
            DecideStop(state, kJob, "enough", Settings(), TestNow()).mutations);
  EXPECT_THAT(CheckInvariants(after), IsEmpty());
  EXPECT_EQ(after.job(kJob).state, v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(after.job(kJob).reason, "enough");
}

TEST(DecideStop, RunsNothingAgain_WhenALeaseEndsWithoutAResult) {
  const State state = StoppingJob();
  const State after =
      After(state, DecideLeaseEnd(state, TaskId(1), LeaseEnd::kPreempted,
                                  "gone", true, Settings(), TestNow()));
  EXPECT_THAT(CheckInvariants(after), IsEmpty());
  EXPECT_EQ(after.task(TaskId(1)).state, v1::TASK_STATE_CANCELLED);
  EXPECT_EQ(after.task(TaskId(1)).history->preempted, 1);
  EXPECT_EQ(after.job(kJob).state, v1::JOB_STATE_CANCELLED);
}

TEST(DecideStop, LeavesALostTaskToTheOtherJob) {
  State state = StateBuilder()
                    .Job({.state = v1::JOB_STATE_RUNNING})
                    .Job({.state = v1::JOB_STATE_RUNNING})
                    .Task({.jobs = {1, 2}})
                    .Worker("w")
                    .Lease(1, "w")
                    .Build();
  state =
      After(state,
            DecideStop(state, kJob, "enough", Settings(), TestNow()).mutations);
  EXPECT_EQ(state.job(kJob).state, v1::JOB_STATE_STOPPING);
  state = After(state, DecideLeaseEnd(state, TaskId(1), LeaseEnd::kPreempted,
                                      "gone", true, Settings(), TestNow()));
  EXPECT_THAT(CheckInvariants(state), IsEmpty());
  EXPECT_EQ(state.task(TaskId(1)).state, v1::TASK_STATE_READY);
  EXPECT_THAT(state.task(TaskId(1)).jobs, ElementsAre(JobNumber(2)));
  EXPECT_EQ(state.job(kJob).state, v1::JOB_STATE_CANCELLED);
}

// What the tick makes of the state, until nothing is due.
State Ticked(State state, const Now& now, std::vector<Mutation>* all) {
  while (true) {
    const auto mutations = DecideJobWait(state, kJob, Settings(), now);
    if (mutations.empty()) {
      return state;
    }
    all->insert(all->end(), mutations.begin(), mutations.end());
    state = After(std::move(state), mutations);
  }
}

TEST(DecideJobWait, TellsOnceOfAJobThatNobodyTakes) {
  std::vector<Mutation> told;
  State state = Ticked(StateBuilder().Job().Task().Build(), TestNow(), &told);
  EXPECT_EQ(WaitDeadlineOf(state.job(kJob), Settings()),
            TestNow(absl::Minutes(30)).steady);
  EXPECT_THAT(EventsOf(told), IsEmpty());
  state = Ticked(state, TestNow(absl::Minutes(30)), &told);
  state = Ticked(state, TestNow(absl::Hours(30)), &told);
  EXPECT_THAT(EventsOf(told), ElementsAre("1:job_waiting"));
  EXPECT_EQ(state.job(kJob).state, v1::JOB_STATE_QUEUED);
  EXPECT_EQ(WaitDeadlineOf(state.job(kJob), Settings()),
            SteadyTime::InfiniteFuture());
}

TEST(DecideJobWait, CancelsAfterTheJobsOwnTimeout_UnlessSomebodyIsOnIt) {
  StateBuilder builder;
  builder.Job({.queue_timeout_ms = 60'000})
      .Task()
      .Task({.documents = {"d3"}})
      .Worker("w");
  std::vector<Mutation> mutations;
  const State waiting = Ticked(builder.Build(), TestNow(), &mutations);
  const State early = Ticked(waiting, TestNow(absl::Seconds(59)), &mutations);
  EXPECT_EQ(early.job(kJob).state, v1::JOB_STATE_QUEUED);
  const State late = Ticked(early, TestNow(absl::Seconds(60)), &mutations);
  EXPECT_EQ(late.job(kJob).state, v1::JOB_STATE_CANCELLED);
  EXPECT_THAT(CheckInvariants(late), IsEmpty());
  // Somebody is on it: it waits anew once that has ended.
  const State leased = Ticked(builder.Lease(1, "w").Build(),
                              TestNow(absl::Hours(1)), &mutations);
  EXPECT_EQ(leased.job(kJob).waiting_since, SteadyTime::InfiniteFuture());
}

// What an audit checks is stored: that nobody repeats it cancels no job.
TEST(DecideJobWait, GivesAuditsUpAfterTheJobsOwnTimeout) {
  const State state =
      StateBuilder()
          .Job({.queue_timeout_ms = 60'000})
          .Task()
          .Worker("w")
          .Lease(1, "w")
          .Apply(ResultCommitted{
              .task = TaskId(1), .epoch = Epoch(1), .worker = TestWorker("w")})
          .Apply(TaskAdded{.id = TaskId(2),
                           .group = TaskGroupId(1),
                           .content_key = TestDigest("audit"),
                           .documents = {{.digest = TestDigest("d1")}},
                           .audit_of = TaskId(1)})
          .Apply(JobTaskAdded{.job = kJob, .task = TaskId(2)})
          .Build();
  std::vector<Mutation> mutations;
  const State waiting = Ticked(state, TestNow(), &mutations);
  const State late = Ticked(waiting, TestNow(absl::Seconds(60)), &mutations);
  EXPECT_EQ(late.task(TaskId(2)).state, v1::TASK_STATE_CANCELLED);
  EXPECT_EQ(late.job(kJob).state, v1::JOB_STATE_SUCCEEDED);
}

}  // namespace
}  // namespace qsweep::testing
