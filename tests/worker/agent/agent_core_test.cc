// Leases, runs and results.
#include "worker/agent/agent_core.h"

#include <memory>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/digest.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "tests/support/agent_core_driver.h"

namespace qsweep {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::Key;
using Driver = testing::AgentCoreDriver;

TEST(AgentCore, TakesATaskThroughFetchRunCommit) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  EXPECT_THAT(driver.Listed(), ElementsAre("1:1 FETCH"));
  EXPECT_THAT(driver.Runs(), IsEmpty());
  driver.FetchAll();
  EXPECT_THAT(driver.Runs(), ElementsAre(1u));
  driver.Progress(1);
  EXPECT_THAT(driver.Listed(), ElementsAre("1:1 RUN"));
  driver.Partial(1, "eng");
  driver.Finish(1);
  // The last numbers arrive although they were said a moment ago.
  ASSERT_EQ(driver.LastState().held_size(), 1);
  EXPECT_EQ(driver.LastState().held(0).progress().partial_size(), 1);
  const auto spooled = driver.Take<action::SpoolResult>();
  ASSERT_EQ(spooled.size(), 1u);
  const v1::ResultEnvelope& envelope = spooled[0].envelope;
  EXPECT_EQ(envelope.epoch(), 1u);
  EXPECT_EQ(envelope.content_key(), "key 1");
  EXPECT_EQ(envelope.session_id(), "session 1");
  EXPECT_EQ(envelope.payload_sha256(), Digest::Of(envelope.payload()).bytes());
  driver.Step(event::ResultSpooled{Key(1, 1)});
  EXPECT_THAT(driver.Listed(), ElementsAre("1:1 COMMIT"));
  driver.Step(event::ResultAnswered{Key(1, 1), v1::COMMIT_OUTCOME_OK, {}});
  EXPECT_THAT(driver.Listed(), IsEmpty());
  EXPECT_THAT(driver.Take<action::Release>(), IsEmpty());
}

TEST(AgentCore, FetchesOneTaskAhead_AndRunsItWhenTheFirstIsDone) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{7, 1}});
  driver.FetchAll();
  driver.Desire({{7, 1}, {3, 1}});  // a lower id, granted later
  driver.FetchAll();
  EXPECT_THAT(driver.Runs(), ElementsAre(7u));
  driver.Progress(7);
  driver.Finish(7);
  EXPECT_THAT(driver.Runs(), ElementsAre(3u));
}

TEST(AgentCore, IgnoresWhatIsOldRepeatedOrWithoutSpec) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}}, /*with_spec=*/false);
  EXPECT_THAT(driver.core().held(), IsEmpty());
  const v1::DesiredState old = driver.Desired({{9, 1}});
  driver.Desire({{1, 1}});
  driver.Step(event::StateReceived{driver.stream(), old});      // overtaken
  driver.Step(event::StateReceived{driver.stream() + 1, old});  // no stream
  driver.Desire({{1, 1}});                                      // again
  EXPECT_EQ(driver.Take<action::Fetch>().size(), 1u);
  EXPECT_THAT(driver.core().held(), ElementsAre(Key(1, 1)));
}

TEST(AgentCore, DoesNotStartAgain_WhenAnOlderMessageStillWantsAnEndedLease) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  driver.Finish(1);
  driver.Step(event::ResultSpooled{Key(1, 1)});
  driver.Step(event::ResultAnswered{Key(1, 1), v1::COMMIT_OUTCOME_OK, {}});
  driver.Take<action::Fetch>();
  driver.Desire({{1, 1}});
  EXPECT_THAT(driver.Take<action::Fetch>(), IsEmpty());
  driver.Desire({{1, 2}});  // a new grant is another matter
  EXPECT_EQ(driver.Take<action::Fetch>().size(), 1u);
}

// An older backup was restored: tasks and epochs come again.
TEST(AgentCore, TakesALeaseThatEndedBefore_InANewSession) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}, {2, 1}, {3, 1}});
  driver.FetchAll();
  driver.Finish(1);
  driver.Step(event::ResultSpooled{Key(1, 1)});
  driver.Step(event::ResultAnswered{Key(1, 1), v1::COMMIT_OUTCOME_OK, {}});
  driver.Step(event::StreamClosed{driver.stream(), absl::UnavailableError("")});
  driver.Advance(absl::Minutes(1));
  driver.Attach();  // the tasks held are not known there
  v1::EngineFailed cancelled;
  cancelled.set_task_id(2);
  driver.Step(event::EngineRefused{cancelled});
  EXPECT_THAT(driver.core().held(), IsEmpty());
  driver.Take<action::Fetch>();
  driver.Desire({{1, 1}, {2, 1}, {3, 1}});
  EXPECT_EQ(driver.Take<action::Fetch>().size(), 3u);
  EXPECT_THAT(driver.core().held(),
              ElementsAre(Key(1, 1), Key(2, 1), Key(3, 1)));
}

TEST(AgentCore, CancelsTheRun_WhenTheLeaseIsNotDesiredAnyMore) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}, {2, 1}});
  driver.FetchAll();
  driver.Desire({{2, 1}});
  ASSERT_EQ(driver.Take<action::CancelRun>().size(), 1u);
  driver.Runs();
  EXPECT_THAT(driver.Listed(), ElementsAre("2:1 FETCH"));
  v1::EngineFailed cancelled;
  cancelled.set_task_id(1);
  driver.Step(event::EngineRefused{cancelled});
  EXPECT_THAT(driver.Take<action::Release>(), IsEmpty());
  EXPECT_THAT(driver.Runs(), ElementsAre(2u));
}

TEST(AgentCore, KillsTheEngine_WhenItDoesNotStopInTime) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  driver.Desire({});
  driver.Advance(absl::Seconds(9));
  EXPECT_THAT(driver.Take<action::KillEngine>(), IsEmpty());
  driver.Advance(absl::Seconds(2));
  EXPECT_EQ(driver.Take<action::KillEngine>().size(), 1u);
  driver.Take<action::StartEngine>();
  driver.Die();
  EXPECT_THAT(driver.core().held(), IsEmpty());
  EXPECT_THAT(driver.Take<action::Release>(), IsEmpty());
  EXPECT_EQ(driver.Take<action::StartEngine>().size(), 1u);
}

TEST(AgentCore, DoesNotCancel_WhenTheCoordinatorCannotKnowTheTaskYet) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  driver.Runs();
  driver.Step(event::StreamClosed{driver.stream(), absl::UnavailableError("")});
  driver.Advance(absl::Seconds(30));
  // A coordinator that answers before it has read our first message.
  const uint64_t stream = driver.Take<action::OpenStream>().back().stream;
  v1::DesiredState early;
  early.set_state_seq(1);
  early.mutable_welcome()->set_session_id("s2");
  driver.Step(event::StateReceived{stream, early});
  EXPECT_THAT(driver.core().held(), ElementsAre(Key(1, 1)));
  EXPECT_THAT(driver.Take<action::CancelRun>(), IsEmpty());
  early.set_state_seq(2);
  early.set_beat_ack(driver.LastState().beat_seq() + 100);
  early.clear_welcome();
  driver.Step(event::StateReceived{stream, early});
  EXPECT_EQ(driver.Take<action::CancelRun>().size(), 1u);
}

TEST(AgentCore, GoesOnWithTheRun_WhenItIsGrantedAgain) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  EXPECT_THAT(driver.Runs(), ElementsAre(1u));
  driver.Desire({{1, 4}});
  EXPECT_THAT(driver.Take<action::Fetch>(), IsEmpty());
  EXPECT_THAT(driver.Listed(), ElementsAre("1:4 FETCH"));
  driver.Finish(1);
  EXPECT_EQ(driver.Take<action::SpoolResult>()[0].envelope.epoch(), 4u);
}

TEST(AgentCore, ChargesTheTask_WhenTheEngineDies_AndRestartsTheEngine) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}, {2, 1}});
  driver.FetchAll();
  driver.Take<action::StartEngine>();
  driver.Runs();
  driver.Die(MakeError(kEngineDied, "killed by signal 9"));
  const auto released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].request.task_id(), 1u);
  EXPECT_EQ(released[0].request.reason(), v1::RELEASE_REASON_FAILED);
  EXPECT_EQ(released[0].request.failure().detail().code(), "QS5002");
  EXPECT_TRUE(released[0].request.failure().retryable());
  // Listed until the release was heard, or it would count as lost.
  EXPECT_THAT(driver.Listed(), ElementsAre("1:1 FETCH", "2:1 FETCH"));
  EXPECT_EQ(driver.LastState().credits(), 0u);
  EXPECT_EQ(driver.Take<action::StartEngine>().size(), 1u);
  driver.StartEngine();
  EXPECT_THAT(driver.Runs(), ElementsAre(2u));
  driver.Step(event::ReleaseAnswered{Key(1, 1)});
  EXPECT_THAT(driver.core().held(), ElementsAre(Key(2, 1)));
}

TEST(AgentCore, GivesTheTaskBack_WhenTheEngineOrTheFetchRefuses) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}, {2, 1}});
  const auto fetches = driver.Take<action::Fetch>();
  ASSERT_EQ(fetches.size(), 2u);
  driver.Step(event::FetchFailed{TaskId(2), fetches[1].grant + 9,
                                 absl::InternalError("of an older grant")});
  EXPECT_THAT(driver.Take<action::Release>(), IsEmpty());
  driver.Step(event::FetchFailed{TaskId(2), fetches[1].grant,
                                 MakeError(kModelNotFound, "no model")});
  const auto unfetched = driver.Take<action::Release>();
  EXPECT_EQ(unfetched[0].request.failure().detail().code(), "QS3001");
  EXPECT_TRUE(unfetched[0].request.failure().retryable());
  driver.Step(event::Fetched{TaskId(1), fetches[0].grant,
                             std::make_shared<v1::EngineRun>()});
  v1::EngineFailed refused;
  refused.set_task_id(1);
  refused.mutable_failure()->set_status_code(3);
  refused.mutable_failure()->mutable_detail()->set_code("QS1020");
  driver.Step(event::EngineRefused{refused});
  const auto released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].request.reason(), v1::RELEASE_REASON_FAILED);
  EXPECT_EQ(released[0].request.failure().detail().code(), "QS1020");
  EXPECT_FALSE(released[0].request.failure().retryable());
}

TEST(AgentCore, ReleasesAsStalled_WhenTheEngineShowsNoProgress) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  for (int i = 0; i < 5; ++i) {
    driver.Advance(absl::Seconds(100));
    driver.Progress(1);
    driver.Desire({{1, 1}}, false);
  }
  EXPECT_THAT(driver.Take<action::KillEngine>(), IsEmpty());
  driver.Advance(absl::Seconds(121));
  EXPECT_EQ(driver.Take<action::KillEngine>().size(), 1u);
  driver.Die();
  const auto released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].request.reason(), v1::RELEASE_REASON_STALLED);
  EXPECT_EQ(released[0].request.failure().detail().code(), "QS5003");
}

TEST(AgentCore, GivesTheEngineTime_AfterTheMachineSlept) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  driver.Progress(1);
  driver.Stop(absl::Hours(1));
  driver.Step(event::Tick{});
  EXPECT_THAT(driver.Take<action::KillEngine>(), IsEmpty());
  // Awake it has the usual time, and no more.
  driver.Advance(absl::Seconds(119));
  EXPECT_THAT(driver.Take<action::KillEngine>(), IsEmpty());
  driver.Advance(absl::Seconds(2));
  EXPECT_EQ(driver.Take<action::KillEngine>().size(), 1u);
}

TEST(AgentCore, WaitsHalfAnHour_WhileTheEngineLoadsTheModel) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  const auto pass = [&](absl::Duration duration) {
    for (; duration > absl::ZeroDuration(); duration -= absl::Seconds(20)) {
      driver.Advance(absl::Seconds(20));
      driver.Desire({{1, 1}}, false);
    }
  };
  pass(absl::Minutes(20));
  driver.Progress(1, v1::TASK_PHASE_FETCH);  // a step of calibration
  pass(absl::Minutes(29));
  EXPECT_THAT(driver.Take<action::KillEngine>(), IsEmpty());
  pass(absl::Minutes(2));
  EXPECT_EQ(driver.Take<action::KillEngine>().size(), 1u);
  driver.Die();
  const auto released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].request.reason(), v1::RELEASE_REASON_STALLED);
  EXPECT_EQ(released[0].request.failure().message(),
            "no progress in loading the model for 30m; the engine was killed");
}

TEST(AgentCore, TakesNoWork_WhileTheSpoolIsFull) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}, {2, 1}});
  driver.FetchAll();
  driver.Runs();
  driver.Step(event::SpoolRoomChanged{MakeError(kSpoolFull, "9 bytes left")});
  auto released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].request.task_id(), 2u);
  EXPECT_EQ(released[0].request.reason(), v1::RELEASE_REASON_PREEMPTED);
  EXPECT_EQ(driver.LastState().credits(), 0u);
  EXPECT_EQ(driver.LastState().reason(), "QS5009: 9 bytes left");
  driver.Desire({{1, 1}, {3, 1}});
  released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].request.task_id(), 3u);
  // The result of what runs is not given up: it is kept until it is answered.
  driver.Finish(1);
  EXPECT_EQ(driver.Take<action::SpoolResult>().size(), 1u);
  driver.Step(event::ResultAnswered{Key(1, 1), v1::COMMIT_OUTCOME_OK, {}});
  EXPECT_THAT(driver.Take<action::Release>(), IsEmpty());
  driver.Step(event::SpoolRoomChanged{absl::OkStatus()});
  EXPECT_EQ(driver.LastState().credits(), 2u);
  EXPECT_EQ(driver.LastState().reason(), "");
}

TEST(AgentCore, ListsResultsOfAnEarlierRun_UntilTheyAreAnswered) {
  Driver driver;
  driver.Step(event::Started{{Key(4, 2)}});
  driver.StartEngine();
  driver.Attach();
  EXPECT_THAT(driver.Listed(), ElementsAre("4:2 COMMIT"));
  driver.Desire({});  // not desired, but only an answer ends a result
  EXPECT_THAT(driver.core().held(), ElementsAre(Key(4, 2)));
  driver.Desire({{4, 3}});  // granted again: the result will settle it
  EXPECT_THAT(driver.Take<action::Fetch>(), IsEmpty());
  driver.Step(
      event::ResultAnswered{Key(4, 2), v1::COMMIT_OUTCOME_SUPERSEDED, {}});
  EXPECT_THAT(driver.core().held(), IsEmpty());
}

TEST(AgentCore, ChargesTheTask_WhenItsResultIsRejected) {
  Driver driver;
  driver.Step(event::Started{{Key(4, 2)}});
  driver.StartEngine();
  driver.Attach();
  v1::Failure failure;
  failure.set_status_code(3);
  failure.set_message("rows are not the task's keys");
  driver.Step(
      event::ResultAnswered{Key(4, 2), v1::COMMIT_OUTCOME_REJECTED, failure});
  const auto released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].request.reason(), v1::RELEASE_REASON_FAILED);
  EXPECT_EQ(released[0].request.failure().message(), failure.message());
}

TEST(AgentCore, GivesTheTaskBackAndEnds_WhenTheSpoolIsBroken) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  driver.Finish(1);
  driver.Step(event::SpoolFailed{Key(1, 1), absl::DataLossError("fsync")});
  const auto released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_TRUE(released[0].request.failure().retryable());
  driver.Advance(absl::Seconds(1));
  const auto exits = driver.Take<action::Exit>();
  ASSERT_EQ(exits.size(), 1u);
  EXPECT_TRUE(absl::IsDataLoss(exits[0].status));
}

TEST(AgentCore, Ends_WhenTheEngineNeverStarts) {
  Driver driver;
  driver.Step(event::Started{});
  driver.Die(MakeError(kEngineMissing, "no such file"));
  const auto exits = driver.Take<action::Exit>();
  ASSERT_EQ(exits.size(), 1u);
  EXPECT_EQ(GetErrorInfo(exits[0].status)->code, "QS5001");
}

// How often an engine is started again that always ends.
size_t StartsUntilExit(Driver& driver, bool killed) {
  driver.Take<action::StartEngine>();
  size_t starts = 0;
  for (int i = 0; i < 10 && driver.Take<action::Exit>().empty(); ++i) {
    driver.Step(event::EngineExited{MakeError(kEngineDied, "ended"), killed});
    driver.Advance(absl::Seconds(30));
    starts += driver.Take<action::StartEngine>().size();
  }
  return starts;
}

TEST(AgentCore, TriesTheEngineAgain_ThenEnds_WhenItStoppedStarting) {
  Driver driver;
  driver.StartAndAttach();
  EXPECT_EQ(StartsUntilExit(driver, /*killed=*/false), 4u);
}

TEST(AgentCore, TriesTheEngineAgain_ThenEnds_WhenItIsKilledAtItsFirstStart) {
  Driver driver;
  driver.Step(event::Started{});
  EXPECT_EQ(StartsUntilExit(driver, /*killed=*/true), 3u);
}

}  // namespace
}  // namespace qsweep
