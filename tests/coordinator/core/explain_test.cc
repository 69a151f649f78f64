#include "coordinator/core/explain.h"

#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/core/job_control.h"
#include "coordinator/core/lease.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

v1::ExplainTaskResponse Explained(const State& state, Now now = TestNow()) {
  return ExplainTask(state, state.task(TaskId(1)), Settings(), now);
}

std::string Text(const v1::ExplainTaskResponse& response) {
  return absl::StrJoin(response.sentences(), "\n");
}

TEST(ExplainTask, SaysThatNobodyIsThere) {
  EXPECT_THAT(Text(Explained(StateBuilder().Job().Task().Build())),
              HasSubstr("no worker is attached"));
}

TEST(ExplainTask, NamesTheNumberThatDoesNotFit) {
  const v1::ExplainTaskResponse response =
      Explained(StateBuilder()
                    .Job()
                    .Task({.estimated_seconds = 90})
                    .Worker("short", {.lifetime_left_ms = 30'000})
                    .Worker("old", {.methods = {"nf4"}})
                    .Build());
  EXPECT_THAT(Text(response), HasSubstr("none of 2 attached workers"));
  EXPECT_THAT(Text(response),
              HasSubstr("short: the worker ends in 30 s; nine in ten times the "
                        "task takes up to 90 s there, and 30 s before"));
  EXPECT_THAT(Text(response),
              HasSubstr("old: the worker's engine does not have rtn."));
  ASSERT_EQ(response.workers_size(), 2);
  EXPECT_FALSE(response.workers(0).busy());
}

TEST(ExplainTask, CountsFailuresAgainstTheMostPatientJob) {
  const auto text = [](int max_retries) {
    StateBuilder builder;
    builder.Job({.max_retries = max_retries}).Task().Worker("w").Lease(1, "w");
    builder.Apply(LeaseEnded{.task = TaskId(1),
                             .epoch = Epoch(1),
                             .end = LeaseEnd::kFailed,
                             .to = v1::TASK_STATE_BACKOFF});
    return Text(Explained(builder.Build()));
  };
  EXPECT_THAT(text(9), HasSubstr("Charged so far: 1 failed of 9, 0 lost of 5"));
  EXPECT_THAT(text(0), HasSubstr("Charged so far: 1 failed of 3, 0 lost of 5"));
}

TEST(ExplainTask, NamesBusyWorkersAndWhatComesFirst) {
  const State state = StateBuilder()
                          .Job()
                          .Job({.priority = 2})
                          .Task()
                          .Task({.documents = {"d3"}})
                          .Task({.documents = {"d4"}})
                          .Task({.jobs = {2}, .documents = {"d5"}})
                          .Worker("w", {.credits = 1})
                          .Lease(1, "w")
                          .Build();
  const v1::ExplainTaskResponse response =
      ExplainTask(state, state.task(TaskId(3)), Settings(), TestNow());
  EXPECT_THAT(Text(response), HasSubstr("all are busy (w)"));
  EXPECT_THAT(Text(response), HasSubstr("1 task comes before it"));
  EXPECT_THAT(Text(response), HasSubstr("1 job with tasks to run"));
  EXPECT_TRUE(response.workers(0).busy());
}

TEST(ExplainTask, SaysWhatAnAuditIsFor) {
  const State state =
      StateBuilder()
          .Job()
          .Task()
          .Worker("w1")
          .Worker("w2")
          .Lease(1, "w1")
          .Apply(ResultCommitted{
              .task = TaskId(1), .epoch = Epoch(1), .worker = TestWorker("w1")})
          .Apply(TaskAdded{.id = TaskId(2),
                           .group = TaskGroupId(1),
                           .content_key = TestDigest("audit"),
                           .documents = {{.digest = TestDigest("d1")}},
                           .audit_of = TaskId(1)})
          .Apply(JobTaskAdded{.job = JobNumber(1), .task = TaskId(2)})
          .Build();
  const v1::ExplainTaskResponse explained =
      ExplainTask(state, state.task(TaskId(2)), Settings(), TestNow());
  EXPECT_THAT(explained.sentences(0),
              HasSubstr("measures again what task 1 brought"));
  for (const v1::WorkerFit& fit : explained.workers()) {
    EXPECT_EQ(fit.reasons().empty(), fit.worker() == "w2") << fit.worker();
  }
}

TEST(ExplainTask, SaysThatTheJobIsPaused) {
  const State state = StateBuilder().Job().Task().Worker("w").Build();
  EXPECT_THAT(
      Text(Explained(After(
          state, DecidePause(state, JobNumber(1), "", TestNow()).mutations))),
      HasSubstr("qctl jobs resume 1"));
}

TEST(ExplainTask, TellsEachStepOfAnAttempt) {
  const State leased =
      StateBuilder().Job().Task().Worker("w").Lease(1, "w").Build();
  EXPECT_THAT(Text(Explained(leased, TestNow(absl::Seconds(5)))),
              HasSubstr("given to worker w 5s ago"));
  const State waiting = After(
      leased, DecideLeaseEnd(leased, TaskId(1), LeaseEnd::kFailed,
                             "out of memory", true, Settings(), TestNow()));
  const v1::ExplainTaskResponse response = Explained(waiting);
  EXPECT_THAT(Text(response), HasSubstr("out of memory"));
  EXPECT_THAT(Text(response), HasSubstr("1 failed of 3"));
  ASSERT_EQ(response.attempts_size(), 1);
  EXPECT_EQ(response.attempts(0).worker(), "w");
  EXPECT_EQ(response.attempts(0).end(), "failed");
  const State given_up = After(
      leased, DecideLeaseEnd(leased, TaskId(1), LeaseEnd::kFailed,
                             "bad weights", false, Settings(), TestNow()));
  EXPECT_THAT(Text(Explained(given_up)), HasSubstr("qctl jobs retry 1"));
}

TEST(ExplainTask, NamesWhatTheJobAsksForAndWhenItGivesUp) {
  v1::Requirements require;
  require.add_gpus("A100");
  State state = StateBuilder()
                    .Job({.require = require, .queue_timeout_ms = 3'600'000})
                    .Job()
                    .Task()
                    .Task({.jobs = {1, 2}, .documents = {"d3"}})
                    .Worker("w")
                    .Build();
  EXPECT_THAT(Text(Explained(state)),
              HasSubstr("w: job 1 asks for A100, the worker has Tesla T4."));
  // On behalf of job 2 anybody may run task 2.
  state.Apply(JobWaits{.job = JobNumber(1), .since = TestNow().steady});
  EXPECT_THAT(Text(ExplainTask(state, state.task(TaskId(2)), Settings(),
                               TestNow(absl::Minutes(10)))),
              AllOf(HasSubstr("It can run on w"),
                    HasSubstr("Job 1 is cancelled in 50m")));
}

TEST(ExplainTask, TellsTheLimitsOfAnAttemptThatRuns) {
  State state = StateBuilder().Job().Task().Worker("w").Lease(1, "w").Build();
  v1::TaskProgress progress;
  progress.set_phase(v1::TASK_PHASE_RUN);
  state.Apply(LeaseRenewed{.task = TaskId(1),
                           .epoch = Epoch(1),
                           .session = TestSession("w"),
                           .now = TestNow().steady,
                           .progress = progress,
                           .run_deadline = TestNow(absl::Minutes(10)).steady,
                           .progress_limit = absl::Minutes(2)});
  EXPECT_THAT(Text(Explained(state)),
              HasSubstr("Nine in ten such tasks take less than 10s there. It "
                        "goes to another worker after 2m without progress, "
                        "or in 10m at the latest."));
}

}  // namespace
}  // namespace qsweep::testing
