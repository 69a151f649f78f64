#include "worker/agent/agent_core.h"

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/digest.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"

namespace qsweep {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr absl::Duration kHeartbeat = absl::Seconds(10);
constexpr absl::Duration kTtl = absl::Seconds(60);

// Drives a core as the shell would, and plays coordinator, engine and disk.
class Driver {
 public:
  explicit Driver(AgentSettings settings = {}) : core_(Named(settings)) {}

  void Step(AgentEvent e) {
    for (AgentAction& action : core_.Step(e, now_)) {
      if (!std::holds_alternative<action::Note>(action)) {
        actions_.push_back(std::move(action));
      }
    }
  }
  // Lets time pass, with the ticks the core asks for.
  void Advance(absl::Duration duration) {
    const SteadyTime end = now_ + duration;
    int ticks = 0;
    while (core_.NextTick() <= end) {
      ASSERT_LT(++ticks, 10'000) << "the core asks for ticks in the past";
      now_ = std::max(now_, core_.NextTick());
      Step(event::Tick{});
    }
    now_ = end;
  }

  // All actions of this kind since the last Take of any kind of it.
  template <typename Action>
  std::vector<Action> Take() {
    std::vector<Action> taken;
    std::vector<AgentAction> rest;
    for (AgentAction& action : actions_) {
      if (auto* a = std::get_if<Action>(&action)) {
        taken.push_back(std::move(*a));
      } else {
        rest.push_back(std::move(action));
      }
    }
    actions_ = std::move(rest);
    return taken;
  }
  // The newest state sent, on an open stream.
  v1::WorkerState LastState() {
    for (auto& sent : Take<action::SendState>()) {
      last_state_ = sent.state;
    }
    return last_state_;
  }

  void StartEngine() {
    v1::EngineReady ready;
    ready.set_fingerprint("fake 1");
    ready.set_device("cpu");
    ready.add_evaluations("aligned@1");
    Step(event::EngineBecameReady{ready});
  }
  void Attach() {
    for (auto& open : Take<action::OpenStream>()) {
      stream_ = open.stream;
      last_state_ = open.first;
    }
    state_seq_ = 0;
    v1::DesiredState state = Desired({});
    state.mutable_welcome()->set_session_id(absl::StrCat("session ", stream_));
    state.mutable_welcome()->set_heartbeat_ms(10'000);
    state.mutable_welcome()->set_lease_ttl_ms(60'000);
    Step(event::StateReceived{stream_, state});
  }
  void StartAndAttach() {
    Step(event::Started{});
    StartEngine();
    Attach();
  }

  struct Lease {
    int task;
    int epoch;
  };
  // A message that has seen everything sent so far. withheld_spec: without
  // specs, as for tasks that were listed.
  v1::DesiredState Desired(const std::vector<Lease>& leases,
                           bool with_spec = true) {
    v1::DesiredState state;
    state.set_state_seq(++state_seq_);
    state.set_beat_ack(LastState().beat_seq());
    for (const Lease& lease : leases) {
      v1::DesiredLease& out = *state.add_leases();
      out.set_task_id(static_cast<uint64_t>(lease.task));
      out.set_epoch(static_cast<uint64_t>(lease.epoch));
      out.set_ttl_ms(60'000);
      if (with_spec) {
        out.mutable_spec()->set_task_id(static_cast<uint64_t>(lease.task));
        out.mutable_spec()->set_content_key(absl::StrCat("key ", lease.task));
        out.mutable_spec()->set_model_digest("model");
      }
    }
    return state;
  }
  void Desire(const std::vector<Lease>& leases, bool with_spec = true) {
    Step(event::StateReceived{stream_, Desired(leases, with_spec)});
  }
  void FetchAll() {
    for (const action::Fetch& fetch : Take<action::Fetch>()) {
      auto run = std::make_shared<v1::EngineRun>();
      *run->mutable_task() = fetch.spec;
      Step(event::Fetched{fetch.task, fetch.grant, run});
    }
  }
  void Finish(int task) {
    v1::EngineDone done;
    done.set_task_id(static_cast<uint64_t>(task));
    done.mutable_result()->add_rows()->set_nll_sum(1.5);
    Step(event::EngineFinished{done});
  }
  void Progress(int task, v1::TaskPhase phase = v1::TASK_PHASE_RUN) {
    v1::EngineProgress progress;
    progress.set_task_id(static_cast<uint64_t>(task));
    progress.mutable_progress()->set_phase(phase);
    Step(event::EngineProgressed{progress});
  }
  void Die(absl::Status why = absl::UnavailableError("killed by signal 9")) {
    Step(event::EngineExited{std::move(why)});
  }
  // "task:epoch phase" of everything the newest state lists.
  std::vector<std::string> Listed() {
    std::vector<std::string> listed;
    const v1::WorkerState state = LastState();
    for (const v1::HeldTask& held : state.held()) {
      listed.push_back(
          absl::StrCat(held.task_id(), ":", held.epoch(), " ",
                       v1::TaskPhase_Name(held.progress().phase()).substr(11)));
    }
    return listed;
  }
  std::vector<uint64_t> Runs() {
    std::vector<uint64_t> tasks;
    for (const action::Run& run : Take<action::Run>()) {
      tasks.push_back(run.run->task().task_id());
    }
    return tasks;
  }

  uint64_t stream() const { return stream_; }
  AgentCore& core() { return core_; }

 private:
  static AgentSettings Named(AgentSettings settings) {
    settings.hello.set_worker_uuid("worker uuid 16 b");
    return settings;
  }

  AgentCore core_;
  SteadyTime now_ = SteadyTime::FromSinceBoot(absl::Hours(5));
  std::vector<AgentAction> actions_;
  v1::WorkerState last_state_;
  uint64_t stream_ = 0;
  uint64_t state_seq_ = 0;
};

LeaseKey Key(int task, int epoch) { return {TaskId(task), Epoch(epoch)}; }

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
  driver.Finish(1);
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
  EXPECT_EQ(driver.Take<action::Release>()[0].request.failure().detail().code(),
            "QS3001");
  driver.Step(event::Fetched{TaskId(1), fetches[0].grant,
                             std::make_shared<v1::EngineRun>()});
  v1::EngineFailed refused;
  refused.set_task_id(1);
  refused.mutable_failure()->set_status_code(9);
  refused.mutable_failure()->mutable_detail()->set_code("QS3010");
  driver.Step(event::EngineRefused{refused});
  const auto released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].request.reason(), v1::RELEASE_REASON_FAILED);
  EXPECT_EQ(released[0].request.failure().detail().code(), "QS3010");
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
  driver.Progress(1,
                  v1::TASK_PHASE_FETCH);  // counts from the start all the same
  pass(absl::Minutes(9));
  EXPECT_THAT(driver.Take<action::KillEngine>(), IsEmpty());
  pass(absl::Minutes(2));
  EXPECT_EQ(driver.Take<action::KillEngine>().size(), 1u);
  driver.Die();
  const auto released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].request.reason(), v1::RELEASE_REASON_STALLED);
  EXPECT_EQ(released[0].request.failure().message(),
            "the model was not loaded within 30m; the engine was killed");
}

TEST(AgentCore, BeatsAtTheIntervalOfTheWelcome_AndSoonerForProgress) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}});
  driver.FetchAll();
  driver.Progress(1);
  driver.Take<action::SendState>();
  driver.Advance(kHeartbeat * 0.99);
  EXPECT_THAT(driver.Take<action::SendState>(), IsEmpty());
  driver.Advance(kHeartbeat * 0.01);
  EXPECT_EQ(driver.Take<action::SendState>().size(), 1u);
  for (int i = 0; i < 100; ++i) {  // a hundred signs of progress in 0.1 s
    driver.Progress(1);
    driver.Advance(absl::Milliseconds(1));
  }
  EXPECT_THAT(driver.Take<action::SendState>(), IsEmpty());
  driver.Advance(absl::Seconds(1));
  EXPECT_EQ(driver.Take<action::SendState>().size(), 1u);
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
  driver.Attach();
  EXPECT_THAT(driver.Listed(), ElementsAre("1:1 COMMIT", "2:1 FETCH"));
  driver.Desire({{1, 1}, {2, 1}}, false);
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
  driver.Step(event::ShutdownRequested{"SIGTERM"});
  const auto released = driver.Take<action::Release>();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].request.task_id(), 2u);
  EXPECT_EQ(released[0].request.reason(), v1::RELEASE_REASON_PREEMPTED);
  EXPECT_EQ(driver.Take<action::KillEngine>().size(), 1u);
  EXPECT_TRUE(driver.LastState().goodbye());
  EXPECT_EQ(driver.LastState().reason(), "SIGTERM");
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
  driver.Step(event::ShutdownRequested{"SIGTERM"});
  EXPECT_THAT(driver.Take<action::Exit>(), IsEmpty());
  driver.Advance(absl::Seconds(1));
  const auto exits = driver.Take<action::Exit>();
  ASSERT_EQ(exits.size(), 1u);
  EXPECT_TRUE(exits[0].status.ok());
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

TEST(AgentCore, GivesTheTaskBack_WhenTheSpoolHasNoRoom_AndEnds_WhenItIsBroken) {
  Driver driver;
  driver.StartAndAttach();
  driver.Desire({{1, 1}, {2, 1}});
  driver.FetchAll();
  driver.Finish(1);
  driver.Step(event::SpoolFailed{Key(1, 1), MakeError(kSpoolFull, "no room")});
  EXPECT_EQ(driver.Take<action::Release>()[0].request.failure().detail().code(),
            "QS5009");
  EXPECT_THAT(driver.Take<action::Exit>(), IsEmpty());
  driver.Finish(2);
  driver.Step(event::SpoolFailed{Key(2, 1), absl::DataLossError("fsync")});
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

TEST(AgentCore, TriesTheEngineAgain_ThenEnds_WhenItStoppedStarting) {
  Driver driver;
  driver.StartAndAttach();
  driver.Take<action::StartEngine>();
  size_t starts = 0;
  for (int i = 0; i < 10 && driver.Take<action::Exit>().empty(); ++i) {
    driver.Die();
    driver.Advance(absl::Seconds(30));
    starts += driver.Take<action::StartEngine>().size();
  }
  EXPECT_EQ(starts, 4u);
}

}  // namespace
}  // namespace qsweep
