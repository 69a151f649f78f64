#include "coordinator/core/worker_control.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/core/lease.h"
#include "coordinator/core/policy.h"
#include "tests/support/error_matchers.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

State WithMode(const State& state, const std::string& worker, WorkerMode mode) {
  return After(
      state, DecideWorkerMode(state, TestWorker(worker), mode, "why", TestNow())
                 .mutations);
}

TEST(DecideWorkerMode, GivesADrainedWorkerNothing_UntilItIsOpenAgain) {
  const State state = StateBuilder().Job().Task().Worker("w").Build();
  const State drained = WithMode(state, "w", WorkerMode::kDraining);
  const Worker& worker = *drained.FindWorker(TestWorker("w"));
  EXPECT_FALSE(HasCredit(worker));
  EXPECT_THAT(WhyNotFit(drained, drained.task(TaskId(1)), worker, Settings()),
              ElementsAre("the worker takes no new task"));
  EXPECT_THAT(WithMode(drained, "w", WorkerMode::kDraining).last_event(),
              drained.last_event());
  const State open = WithMode(drained, "w", WorkerMode::kOpen);
  EXPECT_TRUE(HasCredit(*open.FindWorker(TestWorker("w"))));
}

TEST(ResolveWorker, TakesNamesAndUuids) {
  const State state = StateBuilder().Worker("w").Worker("w2").Build();
  const WorkerUuid uuid = TestWorker("w");
  for (const std::string& text :
       {std::string("w"), uuid.text(), uuid.text().substr(0, 8),
        absl::StrCat("worker/", "w")}) {
    const auto found = ResolveWorker(state, text);
    QSWEEP_ASSERT_OK(found);
    EXPECT_EQ(*found, uuid);
  }
  EXPECT_EQ(CodeOf(ResolveWorker(state, "x")), "QS4026");
  EXPECT_EQ(CodeOf(ResolveWorker(state, "")), "QS4026");
}

// Task by task: it fails on "bad", and "good" finishes it.
State AfterFailures(int tasks) {
  StateBuilder builder;
  builder.Job().Worker("bad").Worker("good");
  for (int i = 0; i < tasks; ++i) {
    builder.Task({.documents = {absl::StrCat("d", i)}});
  }
  State state = builder.Build();
  for (int i = 1; i <= tasks; ++i) {
    state = After(state, {LeaseGranted{.task = TaskId(i),
                                       .epoch = Epoch(1),
                                       .job = JobNumber(1),
                                       .worker = TestWorker("bad"),
                                       .session = TestSession("bad")},
                          LeaseEnded{.task = TaskId(i),
                                     .epoch = Epoch(1),
                                     .end = LeaseEnd::kFailed,
                                     .to = v1::TASK_STATE_READY}});
    Draft draft(state, TestNow());
    BlameWorkers(draft, state.task(TaskId(i)), TestWorker("good"), kSettings);
    state = After(state, draft.Take());
  }
  return state;
}

TEST(BlameWorkers, QuarantinesAWorker_WhenThreeTasksSucceedElsewhere) {
  EXPECT_EQ(AfterFailures(2).FindWorker(TestWorker("bad"))->mode,
            WorkerMode::kOpen);
  const State state = AfterFailures(3);
  const Worker& bad = *state.FindWorker(TestWorker("bad"));
  EXPECT_EQ(bad.mode, WorkerMode::kQuarantined);
  EXPECT_THAT(bad.mode_reason, HasSubstr("3 tasks failed"));
  EXPECT_FALSE(HasCredit(bad));
  EXPECT_EQ(state.FindWorker(TestWorker("good"))->mode, WorkerMode::kOpen);
  // Open again, it starts from nothing.
  EXPECT_EQ(WithMode(state, "bad", WorkerMode::kOpen)
                .FindWorker(TestWorker("bad"))
                ->blamed,
            0);
}

TEST(BlameWorkers, ForgivesOneFailure_WithEveryTenTasksDone) {
  StateBuilder builder;
  builder.Job().Worker("bad");
  for (int i = 0; i < 10; ++i) {
    builder.Task({.documents = {absl::StrCat("d", i)}});
  }
  State state = builder.Build();
  state = After(state, {WorkerBlamed{.worker = TestWorker("bad")},
                        WorkerBlamed{.worker = TestWorker("bad")}});
  for (int i = 1; i <= 10; ++i) {
    EXPECT_EQ(state.FindWorker(TestWorker("bad"))->blamed, 2);
    state = After(state, {LeaseGranted{.task = TaskId(i),
                                       .epoch = Epoch(1),
                                       .job = JobNumber(1),
                                       .worker = TestWorker("bad"),
                                       .session = TestSession("bad")},
                          ResultCommitted{.task = TaskId(i),
                                          .epoch = Epoch(1),
                                          .worker = TestWorker("bad")}});
  }
  EXPECT_EQ(state.FindWorker(TestWorker("bad"))->blamed, 1);
}

TEST(BlameWorkers, BlamesNobody_WhenTheFinisherFailedItItself) {
  const State state = AfterFailures(1);
  Draft draft(state, TestNow());
  BlameWorkers(draft, state.task(TaskId(1)), TestWorker("bad"), kSettings);
  EXPECT_THAT(draft.Take(), IsEmpty());
}

}  // namespace
}  // namespace qsweep::testing
