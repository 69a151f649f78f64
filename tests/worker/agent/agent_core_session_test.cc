// The session with the coordinator, time, and the ways out.
#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "tests/support/agent_core_driver.h"
#include "worker/agent/agent_core.h"

namespace qsweep {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::Key;
using Driver = testing::AgentCoreDriver;

constexpr absl::Duration kHeartbeat = absl::Seconds(10);
constexpr absl::Duration kTtl = absl::Seconds(60);

TEST(AgentCore, AttachesOnlyAfterTheEngineIsReady) {
  Driver driver;
  driver.Step(event::Started{});
  EXPECT_EQ(driver.Take<action::StartEngine>().size(), 1u);
  driver.Advance(absl::Minutes(5));
  EXPECT_THAT(driver.Take<action::OpenStream>(), IsEmpty());
  driver.StartEngine();
  const auto opened = driver.Take<action::OpenStream>();
  ASSERT_EQ(opened.size(), 1u);
  const v1::Hello& hello = opened[0].first.hello();
  EXPECT_EQ(hello.worker_uuid(), "worker uuid 16 b");
  ASSERT_EQ(hello.devices_size(), 1);
  EXPECT_EQ(hello.devices(0).engine(), "fake 1");
  EXPECT_THAT(hello.evaluations(), ElementsAre("aligned@1"));
  EXPECT_EQ(opened[0].first.credits(), 2u);
}

TEST(AgentCore, LeavesACoordinator_ThatChoseAVersionItDoesNotSpeak) {
  struct Case {
    uint32_t chosen;
    bool spoken;
  };
  for (const Case& c :
       {Case{0, false}, Case{1, true}, Case{2, true}, Case{3, false}}) {
    SCOPED_TRACE(c.chosen);
    AgentSettings settings;
    settings.hello.set_protocol_min(1);
    settings.hello.set_protocol_max(2);
    Driver driver(settings);
    driver.Step(event::Started{});
    driver.StartEngine();
    const auto opened = driver.Take<action::OpenStream>();
    ASSERT_EQ(opened.size(), 1u);
    driver.set_stream(opened[0].stream);
    v1::DesiredState state = driver.Desired({{1, 1}});
    state.mutable_welcome()->set_session_id("session");
    state.mutable_welcome()->set_protocol(c.chosen);
    driver.Step(event::StateReceived{driver.stream(), state});
    EXPECT_EQ(driver.Take<action::Fetch>().size(), c.spoken ? 1u : 0u);
    const auto exits = driver.Take<action::Exit>();
    ASSERT_EQ(exits.size(), c.spoken ? 0u : 1u);
    if (!c.spoken) {
      EXPECT_EQ(GetErrorInfo(exits[0].status)->code, "QS6003");
      EXPECT_EQ(driver.Take<action::CloseStream>().size(), 1u);
    }
  }
}

TEST(AgentCore, BeatsAtTheIntervalOfTheWelcome_AndSoonerForProgress) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  driver.Progress(1);
  driver.LastState();
  driver.Advance(kHeartbeat * 0.98);
  EXPECT_THAT(driver.Take<action::SendState>(), IsEmpty());
  driver.Advance(kHeartbeat * 0.02);
  EXPECT_EQ(driver.Take<action::SendState>().size(), 1u);
  for (int i = 0; i < 100; ++i) {  // a hundred signs of progress in 0.1 s
    driver.Progress(1);
    driver.Advance(absl::Milliseconds(1));
  }
  EXPECT_THAT(driver.Take<action::SendState>(), IsEmpty());
  driver.Advance(absl::Seconds(1));
  EXPECT_EQ(driver.Take<action::SendState>().size(), 1u);
}

TEST(AgentCore, SaysInOneBeatWhatHappensToAShortTask) {
  Driver driver;
  driver.StartAndAttach();
  driver.Advance(absl::Seconds(1));
  driver.Take<action::SendState>();
  driver.Step(event::StateReceived{driver.stream(), driver.Desired({{1, 1}})});
  const auto at_once = driver.Take<action::SendState>();
  ASSERT_EQ(at_once.size(), 1u);
  EXPECT_EQ(at_once[0].state.held_size(), 1);
  driver.FetchAll();
  driver.Progress(1);
  driver.Finish(1);
  driver.Step(event::ResultSpooled{Key(1, 1)});
  driver.Step(event::ResultAnswered{Key(1, 1), v1::COMMIT_OUTCOME_OK, {}});
  driver.Advance(absl::Milliseconds(99));
  EXPECT_THAT(driver.Take<action::SendState>(), IsEmpty());
  driver.Advance(absl::Milliseconds(1));
  const auto soon = driver.Take<action::SendState>();
  ASSERT_EQ(soon.size(), 1u);
  EXPECT_EQ(soon[0].state.held_size(), 0);
}

TEST(AgentCore, ComputesOn_WhenTheLeaseRunsOut_ByPolicyFinish) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}, {2, 1}});
  driver.FetchAll();
  driver.Runs();
  driver.Step(event::StreamClosed{driver.stream(), absl::UnavailableError("")});
  driver.Advance(2 * kTtl - absl::Seconds(1));
  EXPECT_THAT(driver.Take<action::KillEngine>(), IsEmpty());
  driver.Finish(1);
  EXPECT_EQ(driver.Take<action::SpoolResult>().size(), 1u);
  // The second may have been given to somebody else by now.
  EXPECT_THAT(driver.Runs(), IsEmpty());
  driver.Attach({{1, 1}, {2, 1}});
  EXPECT_THAT(driver.Listed(), ElementsAre("1:1 COMMIT", "2:1 FETCH"));
  EXPECT_THAT(driver.Runs(), ElementsAre(2u));
}

TEST(AgentCore, EndsTheEngine_WhenTheLeaseRunsOut_ByPolicyStop) {
  AgentSettings settings;
  settings.on_server_lost = OnServerLost::kStop;
  Driver driver(settings);
  driver.StartAndAttach();
  driver.Desire({{1, 1}, {2, 1}});
  driver.FetchAll();
  driver.Advance(absl::Seconds(5));  // a beat sent, never acknowledged
  driver.Step(event::StreamClosed{driver.stream(), absl::UnavailableError("")});
  driver.Advance(kTtl - absl::Seconds(6));
  EXPECT_THAT(driver.Take<action::KillEngine>(), IsEmpty());
  driver.Advance(absl::Seconds(2));
  EXPECT_EQ(driver.Take<action::KillEngine>().size(), 1u);
  driver.Die();
  EXPECT_THAT(driver.core().held(), IsEmpty());
  EXPECT_THAT(driver.Take<action::Release>(), IsEmpty());
}

TEST(AgentCore, CountsTheLeaseFromTheSendingOfTheAcknowledgedBeat) {
  AgentSettings settings;
  settings.on_server_lost = OnServerLost::kStop;
  Driver driver(settings);
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  driver.Advance(kHeartbeat);  // a beat leaves now ...
  const v1::DesiredState late = driver.Desired({{1, 1}}, false);
  driver.Advance(absl::Seconds(9));  // ... and its answer takes 9 s
  driver.Step(event::StateReceived{driver.stream(), late});
  driver.Step(event::StreamClosed{driver.stream(), absl::UnavailableError("")});
  driver.Advance(kTtl - absl::Seconds(10));
  EXPECT_THAT(driver.Take<action::KillEngine>(), IsEmpty());
  driver.Advance(absl::Seconds(1));
  EXPECT_EQ(driver.Take<action::KillEngine>().size(), 1u);
}

TEST(AgentCore, ConnectsAgain_WhenTheStreamIsOpenButSilent) {
  Driver driver;
  driver.StartAndAttach();
  driver.Advance(absl::Seconds(29));
  EXPECT_THAT(driver.Take<action::CloseStream>(), IsEmpty());
  driver.Advance(absl::Seconds(2));
  EXPECT_EQ(driver.Take<action::CloseStream>().size(), 1u);
  EXPECT_EQ(driver.Take<action::OpenStream>().size(), 1u);
}

TEST(AgentCore, BacksOff_WhenNobodyAnswers) {
  Driver driver;
  driver.StartAndAttach();
  driver.Step(event::StreamClosed{driver.stream(), absl::UnavailableError("")});
  size_t attempts = 0;
  for (int second = 0; second < 300; ++second) {
    driver.Advance(absl::Seconds(1));
    for (const auto& open : driver.Take<action::OpenStream>()) {
      ++attempts;
      driver.Step(
          event::StreamClosed{open.stream, absl::UnavailableError("refused")});
    }
  }
  EXPECT_GT(attempts, 15u);  // at most 20 s apart
  EXPECT_LT(attempts, 80u);
}

TEST(AgentCore, Ends_WhenTheCoordinatorWillNeverTakeIt) {
  for (const absl::Status& why :
       {absl::UnauthenticatedError("token"),
        MakeError(kProtocolVersion, "speaks 3 to 4")}) {
    SCOPED_TRACE(why.ToString());
    Driver driver;
    driver.StartAndAttach();
    driver.Step(event::StreamClosed{driver.stream(), why});
    const auto exits = driver.Take<action::Exit>();
    ASSERT_EQ(exits.size(), 1u);
    EXPECT_EQ(exits[0].status, why);
    EXPECT_EQ(driver.Take<action::KillEngine>().size(), 1u);
  }
}

TEST(AgentCore, SaysGoodbyeAndGivesBackForFree_WhenAskedToStop) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}, {2, 1}});
  driver.FetchAll();
  driver.Finish(1);
  driver.Step(event::ResultSpooled{Key(1, 1)});
  driver.Runs();
  driver.Step(event::ShutdownRequested{"SIGINT", /*at_once=*/true});
  const auto released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].request.task_id(), 2u);
  EXPECT_EQ(released[0].request.reason(), v1::RELEASE_REASON_PREEMPTED);
  EXPECT_EQ(driver.Take<action::KillEngine>().size(), 1u);
  EXPECT_TRUE(driver.LastState().goodbye());
  EXPECT_EQ(driver.LastState().reason(), "SIGINT");
  EXPECT_THAT(driver.Listed(), ElementsAre("1:1 COMMIT"));
  driver.Step(event::ReleaseAnswered{Key(2, 1)});
  driver.Desire({{1, 1}}, false);
  EXPECT_THAT(driver.Take<action::Exit>(), IsEmpty());  // 1 is on its way
  driver.Step(event::ResultAnswered{Key(1, 1), v1::COMMIT_OUTCOME_OK, {}});
  ASSERT_EQ(driver.Take<action::Exit>().size(), 1u);
  EXPECT_EQ(driver.Take<action::CloseStream>().size(), 1u);
  driver.Desire({{5, 1}});
  EXPECT_THAT(driver.Take<action::Fetch>(), IsEmpty());
}

TEST(AgentCore, LeavesWithinASecond_WhenNobodyAnswersTheGoodbye) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  driver.Step(event::ShutdownRequested{"SIGINT", /*at_once=*/true});
  EXPECT_THAT(driver.Take<action::Exit>(), IsEmpty());
  driver.Advance(absl::Seconds(1));
  const auto exits = driver.Take<action::Exit>();
  ASSERT_EQ(exits.size(), 1u);
  EXPECT_TRUE(exits[0].status.ok());
}

TEST(AgentCore, TakesWorkAgain_WhenTheDrainIsTakenBack) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  const auto drain = [&] {
    v1::DesiredState state = driver.Desired({{1, 1}}, false);
    state.set_drain(true);
    driver.Step(event::StateReceived{driver.stream(), state});
  };
  drain();
  EXPECT_EQ(driver.LastState().credits(), 0u);
  driver.Desire({{1, 1}}, false);
  EXPECT_EQ(driver.LastState().credits(), 2u);
  EXPECT_FALSE(driver.LastState().draining());
  // Only what it has ordered itself.
  drain();
  driver.Step(event::ShutdownRequested{"SIGTERM"});
  driver.Desire({{1, 1}}, false);
  EXPECT_TRUE(driver.LastState().draining());
}

TEST(AgentCore, LetsWhatRunsEnd_WhenItIsAskedToLeave) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}, {2, 1}});
  driver.FetchAll();
  driver.Step(event::ShutdownRequested{"SIGTERM"});
  const auto released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].request.task_id(), 2u);
  EXPECT_EQ(released[0].request.reason(), v1::RELEASE_REASON_PREEMPTED);
  EXPECT_THAT(driver.Take<action::KillEngine>(), IsEmpty());
  EXPECT_TRUE(driver.LastState().draining());
  EXPECT_FALSE(driver.LastState().goodbye());
  EXPECT_EQ(driver.LastState().reason(), "SIGTERM");
  EXPECT_EQ(driver.LastState().credits(), 0u);
  driver.Step(event::ReleaseAnswered{Key(2, 1)});
  driver.Advance(absl::Seconds(20));
  driver.Finish(1);
  driver.Step(event::ResultSpooled{Key(1, 1)});
  driver.Step(event::ResultAnswered{Key(1, 1), v1::COMMIT_OUTCOME_OK, {}});
  EXPECT_TRUE(driver.LastState().goodbye());
  driver.Desire({});
  EXPECT_EQ(driver.Take<action::Exit>().size(), 1u);
}

TEST(AgentCore, GivesTheRunningTaskBack_WhenItDoesNotEndByTheDeadline) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  driver.Step(event::ShutdownRequested{"SIGTERM"});
  for (int i = 0; i < 29; ++i) {
    driver.Advance(absl::Seconds(1));
    driver.Desire({{1, 1}}, false);
  }
  EXPECT_THAT(driver.Take<action::Release>(), IsEmpty());
  driver.Advance(absl::Seconds(1));
  const auto released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].request.reason(), v1::RELEASE_REASON_PREEMPTED);
  EXPECT_EQ(driver.Take<action::KillEngine>().size(), 1u);
  EXPECT_TRUE(driver.LastState().goodbye());
}

TEST(AgentCore, DoesNotWaitForTheTask_WhenItIsAskedTwice) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  driver.Step(event::ShutdownRequested{"SIGTERM"});
  EXPECT_THAT(driver.Take<action::Release>(), IsEmpty());
  driver.Step(event::ShutdownRequested{"SIGTERM"});
  EXPECT_EQ(driver.Take<action::Release>().size(), 1u);
  EXPECT_TRUE(driver.LastState().goodbye());
}

TEST(AgentCore, LeavesAtOnce_WhenItHoldsNothing) {
  Driver driver;
  driver.Step(event::Started{});  // not even attached
  driver.Step(event::ShutdownRequested{"SIGTERM"});
  EXPECT_EQ(driver.Take<action::Exit>().size(), 1u);
}

TEST(AgentCore, GivesALeaseBack_WhenItComesWhileDraining) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  driver.Step(event::ShutdownRequested{"SIGTERM"});
  driver.Desire({{1, 1}, {2, 1}});  // it was on its way
  const auto released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].request.task_id(), 2u);
  EXPECT_EQ(released[0].request.reason(), v1::RELEASE_REASON_DRAINED);
  EXPECT_THAT(driver.Take<action::Fetch>(), IsEmpty());
}

TEST(AgentCore, DrainsBeforeTheTimeLimit) {
  AgentSettings settings;
  settings.lifetime = absl::Minutes(10);
  Driver driver(settings);
  driver.StartAndAttach();
  driver.Desire({{1, 1}, {2, 1}});
  driver.FetchAll();
  const auto pass = [&](absl::Duration duration) {
    for (; duration > absl::ZeroDuration(); duration -= absl::Seconds(5)) {
      driver.Advance(absl::Seconds(5));
      driver.Progress(1);
      driver.Desire({{1, 1}, {2, 1}}, false);
    }
  };
  pass(absl::Minutes(9) + absl::Seconds(25));
  EXPECT_FALSE(driver.LastState().draining());
  pass(absl::Seconds(5));
  EXPECT_TRUE(driver.LastState().draining());
  ASSERT_EQ(driver.Take<action::Release>().size(), 1u);  // what waited
  pass(absl::Seconds(25));
  EXPECT_THAT(driver.Take<action::Release>(), IsEmpty());
  pass(absl::Seconds(5));
  EXPECT_EQ(driver.Take<action::Release>().size(), 1u);
  EXPECT_TRUE(driver.LastState().goodbye());
}

TEST(AgentCore, WorksForHalfOfAShortLife) {
  AgentSettings settings;
  settings.lifetime = absl::Seconds(20);
  Driver driver(settings);
  driver.StartAndAttach();
  driver.Advance(absl::Seconds(9));
  EXPECT_EQ(driver.LastState().credits(), 2u);
  driver.Advance(absl::Seconds(2));
  EXPECT_TRUE(driver.LastState().goodbye());  // nothing held
}

TEST(AgentCore, TakesAFreshIdentity_WhenAnotherProcessHasItsOwn) {
  Driver driver;
  driver.Step(event::Started{{Key(9, 1)}});
  driver.StartEngine();
  driver.Attach();
  driver.Desire({{1, 1}, {2, 1}, {9, 1}});
  driver.FetchAll();
  driver.Runs();
  driver.Step(event::StreamClosed{
      driver.stream(), MakeError(kWorkerSuperseded, "a newer process")});
  EXPECT_THAT(driver.Take<action::Exit>(), IsEmpty());
  ASSERT_EQ(driver.Take<action::TakeNewIdentity>().size(), 1u);
  EXPECT_THAT(driver.Take<action::OpenStream>(), IsEmpty());
  // What had not begun belongs to the other now; the run may still end first.
  EXPECT_THAT(driver.core().held(), ElementsAre(Key(1, 1), Key(9, 1)));
  driver.Step(event::IdentityTaken{"another uuid 16b"});
  driver.Finish(1);
  const auto spooled = driver.Take<action::SpoolResult>();
  ASSERT_EQ(spooled.size(), 1u);
  EXPECT_EQ(spooled[0].envelope.worker_uuid(), "worker uuid 16 b");
  EXPECT_EQ(spooled[0].envelope.session_id(), "session 1");
  const auto opened = driver.Take<action::OpenStream>();
  ASSERT_EQ(opened.size(), 1u);
  EXPECT_EQ(opened[0].first.hello().worker_uuid(), "another uuid 16b");
  EXPECT_EQ(opened[0].first.held_size(), 2);
}

TEST(AgentCore, AttachesAgainBeforeItStartsAnything_AfterALongStop) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}, {2, 1}});
  driver.FetchAll();
  driver.Runs();
  const v1::DesiredState before = driver.Desired({{1, 1}, {2, 1}, {3, 1}});
  driver.Stop(kTtl + absl::Seconds(5));
  // What lay in the pipe and in the socket meanwhile is read first.
  driver.Finish(1);
  driver.Step(event::StateReceived{driver.stream(), before});
  EXPECT_THAT(driver.Runs(), IsEmpty());
  driver.FetchAll();
  EXPECT_THAT(driver.Runs(), IsEmpty());
  EXPECT_EQ(driver.Take<action::CloseStream>().size(), 1u);
  const auto opened = driver.Take<action::OpenStream>();
  ASSERT_EQ(opened.size(), 1u);
  v1::DesiredState welcome = driver.Desired({{1, 1}, {2, 1}}, false);
  welcome.mutable_welcome()->set_session_id("session 2");
  welcome.set_state_seq(1);
  welcome.set_beat_ack(0);
  driver.Step(event::StateReceived{opened[0].stream, welcome});
  EXPECT_THAT(driver.Runs(), IsEmpty());  // no beat of this session was heard
  welcome.set_state_seq(2);
  welcome.set_beat_ack(opened[0].first.beat_seq());
  driver.Step(event::StateReceived{opened[0].stream, welcome});
  EXPECT_THAT(driver.Runs(), ElementsAre(2u));
}

TEST(AgentCore, AnswersEachPollWithTheNext_AndIsQuietOtherwise) {
  AgentSettings settings;
  settings.control = Control::kPoll;
  Driver driver(settings);
  driver.Step(event::Started{});
  driver.StartEngine();
  const auto opened = driver.Take<action::OpenStream>();
  ASSERT_EQ(opened.size(), 1u);
  EXPECT_TRUE(opened[0].poll);
  v1::DesiredState welcome;
  welcome.set_state_seq(1);
  welcome.set_beat_ack(opened[0].first.beat_seq());
  welcome.mutable_welcome()->set_session_id("session 1");
  driver.Step(event::StateReceived{opened[0].stream, welcome});
  EXPECT_EQ(driver.Take<action::SendState>().size(), 1u);
  driver.Advance(kHeartbeat);
  EXPECT_THAT(driver.Take<action::SendState>(), IsEmpty());
  v1::DesiredState answer;
  answer.set_state_seq(2);
  driver.Step(event::StateReceived{opened[0].stream, answer});
  EXPECT_EQ(driver.Take<action::SendState>().size(), 1u);
  // What is done is said at once.
  driver.Step(event::ShutdownRequested{"SIGINT", /*at_once=*/true});
  EXPECT_TRUE(driver.LastState().goodbye());
}

TEST(AgentCore, PollsForASession_WhenThreeStreamsEndBeforeTheirFirstWord) {
  Driver driver;
  driver.StartAndAttach();
  const auto opened = [&](const absl::Status& why) {
    driver.Step(event::StreamClosed{driver.stream(), why});
    driver.Advance(absl::Seconds(20));
    const auto streams = driver.Take<action::OpenStream>();
    EXPECT_EQ(streams.size(), 1u);
    driver.set_stream(streams[0].stream);
    return streams[0];
  };
  const absl::Status broken = absl::UnavailableError("reset by a proxy");
  const absl::Status refused = MakeError(kUnreachable, "refused");
  for (int i = 0; i < 5; ++i) {  // nobody there: polls would not help
    EXPECT_FALSE(opened(refused).poll);
  }
  EXPECT_FALSE(opened(broken).poll);
  EXPECT_FALSE(opened(broken).poll);
  EXPECT_TRUE(opened(broken).poll);
  EXPECT_FALSE(opened(broken).poll);  // it did not help either
}

TEST(AgentCore, IsBackWithinASecond_AfterAShortAbsenceOfTheCoordinator) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    AgentSettings settings;
    settings.seed = seed;
    Driver driver(settings);
    driver.StartAndAttach();
    driver.Step(
        event::StreamClosed{driver.stream(), absl::UnavailableError("")});
    absl::Duration since_last;
    for (absl::Duration away; away < absl::Seconds(4);
         away += absl::Milliseconds(100)) {
      driver.Advance(absl::Milliseconds(100));
      since_last += absl::Milliseconds(100);
      for (const auto& open : driver.Take<action::OpenStream>()) {
        since_last = absl::ZeroDuration();
        driver.Step(event::StreamClosed{open.stream,
                                        absl::UnavailableError("refused")});
      }
      ASSERT_LE(since_last, absl::Seconds(1)) << "seed " << seed;
    }
  }
}

TEST(AgentCore, LeavesAtTheTimeLimit_AndSaysHowLongIsLeft) {
  AgentSettings settings;
  settings.lifetime = absl::Minutes(10);
  Driver driver(settings);
  driver.StartAndAttach();
  for (int i = 0; i < 24; ++i) {
    driver.Advance(kHeartbeat);
    driver.Desire({});
  }
  EXPECT_EQ(driver.LastState().lifetime_left_ms(), 6u * 60'000);
  driver.Advance(absl::Minutes(6) + absl::Seconds(1));
  EXPECT_EQ(driver.Take<action::Exit>().size(), 1u);
}

TEST(AgentCore, FinishesWhatRuns_WhenItIsDrained) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}, {2, 1}});
  driver.FetchAll();
  v1::DesiredState drain = driver.Desired({{1, 1}, {2, 1}}, false);
  drain.set_drain(true);
  driver.Step(event::StateReceived{driver.stream(), drain});
  const auto released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].request.task_id(), 2u);
  EXPECT_EQ(released[0].request.reason(), v1::RELEASE_REASON_DRAINED);
  EXPECT_TRUE(driver.LastState().draining());
  EXPECT_EQ(driver.LastState().credits(), 0u);
  driver.Step(event::ReleaseAnswered{Key(2, 1)});
  driver.Finish(1);
  driver.Step(event::ResultSpooled{Key(1, 1)});
  EXPECT_FALSE(driver.LastState().goodbye());
  driver.Step(event::ResultAnswered{Key(1, 1), v1::COMMIT_OUTCOME_OK, {}});
  EXPECT_TRUE(driver.LastState().goodbye());
}

TEST(AgentCore, GivesBackWhatStillRuns_AtTheDeadlineOfADrain) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  const auto drain = [&driver] {
    v1::DesiredState state = driver.Desired({{1, 1}}, false);
    state.set_drain(true);
    state.set_drain_deadline_ms(60'000);
    driver.Step(event::StateReceived{driver.stream(), state});
  };
  drain();
  driver.Advance(absl::Seconds(30));
  drain();  // said again it counts from the first time
  EXPECT_THAT(driver.Take<action::Release>(), IsEmpty());
  driver.Advance(absl::Seconds(31));
  const auto released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].request.task_id(), 1u);
}

TEST(AgentCore, KeepsWhatItHas_WhenTheCertificateIsAnothers) {
  for (const ErrorCode* code : {&kWrongCertificate, &kCertificateExpired}) {
    Driver driver;
    driver.StartAndAttach();
    driver.Desire({{1, 1}});
    driver.FetchAll();
    for (int i = 0; i < 3; ++i) {
      driver.Step(event::StreamClosed{
          driver.stream(), MakeError(*code, "not the one that is pinned")});
      driver.Advance(absl::Seconds(21));
      const auto opened = driver.Take<action::OpenStream>();
      ASSERT_EQ(opened.size(), 1u);  // it tries on
      EXPECT_EQ(opened[0].first.held_size(), 1);
      driver.set_stream(opened[0].stream);
    }
    EXPECT_THAT(driver.Take<action::Exit>(), IsEmpty());
  }
}

TEST(AgentCore, Exits_WhenItNeverMetThePinnedCertificate) {
  Driver driver;
  driver.Step(event::Started{});
  driver.StartEngine();
  for (const auto& open : driver.Take<action::OpenStream>()) {
    driver.Step(event::StreamClosed{open.stream,
                                    MakeError(kWrongCertificate, "another's")});
  }
  EXPECT_EQ(driver.Take<action::Exit>().size(), 1u);
}

// "model memory", in the order of the newest state.
std::vector<std::string> ModelsOf(const v1::WorkerState& state) {
  std::vector<std::string> models;
  for (const v1::ResidentModel& model : state.models()) {
    models.push_back(absl::StrCat(
        model.digest(), model.level() == v1::ResidentModel::LEVEL_MEMORY
                            ? " memory"
                            : " disk"));
  }
  return models;
}

TEST(AgentCore, TellsWhichModelsItHas_InMemoryAndOnItsDisk) {
  Driver driver;
  driver.Step(event::Started{.models = {"other"}});
  driver.StartEngine();
  driver.Attach();
  EXPECT_THAT(ModelsOf(driver.LastState()), ElementsAre("other disk"));
  driver.Desire({{1, 1}});
  driver.FetchAll();
  driver.Progress(1, v1::TASK_PHASE_FETCH);
  EXPECT_THAT(ModelsOf(driver.LastState()), ElementsAre("other disk"));
  driver.Progress(1);
  driver.Progress(1);
  EXPECT_THAT(ModelsOf(driver.LastState()),
              ElementsAre("model memory", "other disk"));
  const auto kept = driver.Take<action::KeepModel>();
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_EQ(kept[0].digest, "model");
  // The engine's memory is gone, the disk is not.
  driver.Die();
  EXPECT_THAT(ModelsOf(driver.LastState()),
              ElementsAre("model disk", "other disk"));
}

TEST(AgentCore, DoesNotTellOfAModelThatItCouldNotFetch) {
  Driver driver;
  driver.Step(event::Started{.models = {"model", "other"}});
  driver.StartEngine();
  driver.Attach();
  driver.Desire({{1, 1}});
  const auto fetches = driver.Take<action::Fetch>();
  ASSERT_EQ(fetches.size(), 1u);
  driver.Step(event::FetchFailed{fetches[0].task, fetches[0].grant,
                                 absl::NotFoundError("no model")});
  EXPECT_THAT(ModelsOf(driver.LastState()), ElementsAre("other disk"));
}

}  // namespace
}  // namespace qsweep
