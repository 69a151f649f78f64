#include "coordinator/core/attach.h"

#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/core/lease.h"
#include "coordinator/core/lists.h"
#include "coordinator/core/worker_state_check.h"
#include "tests/support/error_matchers.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Decision<AttachReply> Decide(const State& state, const v1::WorkerState& report,
                             const std::string& credential = "",
                             Now now = TestNow(absl::Seconds(10))) {
  return DecideWorkerState(state, credential,
                           std::make_shared<v1::WorkerState>(report),
                           TestSession("new"), kSettings, now);
}

v1::WorkerState Hello(const std::string& worker, uint64_t boot_seq = 1) {
  v1::WorkerState report;
  *report.mutable_hello() = MakeHello(worker, {.boot_seq = boot_seq});
  report.set_credits(2);
  return report;
}

void Hold(v1::WorkerState& report, uint64_t task, uint64_t epoch) {
  v1::HeldTask* held = report.add_held();
  held->set_task_id(task);
  held->set_epoch(epoch);
  held->mutable_progress()->set_phase(v1::TASK_PHASE_RUN);
}

// w runs task 1; the DesiredState that said so was number 5.
State Running() {
  return StateBuilder()
      .Job()
      .Task()
      .Worker("w")
      .Lease(1, "w")
      .Apply(WorkerInformed{.worker = TestWorker("w"), .state_seq = 5})
      .Build();
}

std::vector<LeaseEnd> EndsOf(const Decision<AttachReply>& decision) {
  std::vector<LeaseEnd> ends;
  for (const EndedLease& ended : decision.reply->ended) {
    ends.push_back(ended.end);
  }
  return ends;
}

TEST(DecideWorkerState, OpensSessionAndWelcomes_WhenWorkerSaysHello) {
  const State state = StateBuilder().Build();
  const auto decision = Decide(state, Hello("w"));
  QSWEEP_ASSERT_OK(decision.reply);
  EXPECT_EQ(decision.reply->worker, TestWorker("w"));
  const State after = After(state, decision.mutations);
  const Worker& worker = *after.FindWorkerBySession(TestSession("new"));
  EXPECT_EQ(worker.liveness, WorkerLiveness::kLive);
  const v1::DesiredState desired = MakeDesiredState(after, worker, kSettings);
  EXPECT_EQ(desired.welcome().session_id(), TestSession("new").bytes());
  EXPECT_EQ(desired.welcome().heartbeat_ms(), 10'000u);
  EXPECT_EQ(desired.welcome().lease_ttl_ms(), 60'000u);
}

TEST(DecideWorkerState, AgreesOnTheOlderVersion_WithANewerWorker) {
  v1::WorkerState hello = Hello("w");
  hello.mutable_hello()->set_protocol_max(kProtocols.max + 1);
  const State state = StateBuilder().Build();
  const auto decision = Decide(state, hello);
  QSWEEP_ASSERT_OK(decision.reply);
  const State after = After(state, decision.mutations);
  EXPECT_EQ(
      MakeDesiredState(after, *after.FindWorkerBySession(TestSession("new")),
                       kSettings)
          .welcome()
          .protocol(),
      kProtocols.max);
}

TEST(CommonProtocol, IsTheNewestOfBoth) {
  struct Case {
    ProtocolRange worker;
    ProtocolRange coordinator;
    std::optional<uint32_t> want;
  };
  for (const Case& c : {Case{{1, 1}, {1, 1}, 1u}, Case{{1, 2}, {1, 1}, 1u},
                        Case{{1, 1}, {1, 2}, 1u}, Case{{1, 2}, {1, 2}, 2u},
                        Case{{2, 3}, {1, 2}, 2u}, Case{{2, 2}, {1, 1}, {}},
                        Case{{1, 1}, {2, 3}, {}}, Case{{2, 1}, {1, 3}, {}}}) {
    SCOPED_TRACE(absl::StrCat(c.worker.min, "-", c.worker.max, " with ",
                              c.coordinator.min, "-", c.coordinator.max));
    v1::Hello hello;
    hello.set_protocol_min(c.worker.min);
    hello.set_protocol_max(c.worker.max);
    const auto common = CommonProtocol(hello, c.coordinator);
    if (c.want.has_value()) {
      EXPECT_EQ(*common, *c.want);
    } else {
      EXPECT_EQ(CodeOf(common), "QS6003");
    }
  }
}

TEST(DecideWorkerState, RefusesAMessage_ThatWouldFillMemoryOrDisk) {
  v1::WorkerState hello = Hello("w");
  hello.mutable_hello()->set_name(std::string(70'000, 'x'));
  const auto stored = Decide(StateBuilder().Build(), hello);
  EXPECT_EQ(CodeOf(stored.reply), "QS1004");
  EXPECT_EQ(FieldOf(stored.reply), "hello");
  EXPECT_THAT(stored.mutations, IsEmpty());
  v1::WorkerState report;
  report.set_session_id(TestSession("w").bytes());
  report.set_reason(std::string(10 << 20, 'x'));
  EXPECT_EQ(CodeOf(Decide(Running(), report).reply), "QS1004");
}

TEST(DecideWorkerState, RefusesNumbersThatNoWorkerMeans) {
  struct Case {
    const char* field;
    void (*spoil)(v1::WorkerState&);
  };
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  for (const Case& c : {
           Case{"hello.usd_per_hour",
                [](auto& s) { s.mutable_hello()->set_usd_per_hour(kNan); }},
           Case{"hello.usd_per_hour",
                [](auto& s) { s.mutable_hello()->set_usd_per_hour(-1); }},
           Case{
               "hello.usd_per_hour",
               [](auto& s) { s.mutable_hello()->set_usd_per_hour(kInfinity); }},
           Case{"hello.boot_seq",
                [](auto& s) { s.mutable_hello()->set_boot_seq(kMost); }},
           Case{"hello.devices[0].gflops",
                [](auto& s) {
                  s.mutable_hello()->mutable_devices(0)->set_gflops(kNan);
                }},
           Case{"hello.devices[0].gflops",
                [](auto& s) {
                  s.mutable_hello()->mutable_devices(0)->set_gflops(kInfinity);
                }},
           Case{"hello.devices[0].memory_bytes",
                [](auto& s) {
                  s.mutable_hello()->mutable_devices(0)->set_memory_bytes(
                      kMost);
                }},
           Case{"hello.devices",
                [](auto& s) {
                  for (int i = 0; i < kDevicesMax; ++i) {
                    s.mutable_hello()->add_devices();
                  }
                }},
           Case{"lifetime_left_ms",
                [](auto& s) { s.set_lifetime_left_ms(kMost); }},
           Case{"held[0].task_id", [](auto& s) { Hold(s, kMost, 1); }},
           Case{"held[0].epoch", [](auto& s) { Hold(s, 1, kMost); }},
           Case{"held[0].progress.fraction",
                [](auto& s) {
                  Hold(s, 1, 1);
                  s.mutable_held(0)->mutable_progress()->set_fraction(kNan);
                }},
           Case{"held[0].progress.partial",
                [](auto& s) {
                  Hold(s, 1, 1);
                  s.mutable_held(0)
                      ->mutable_progress()
                      ->add_partial()
                      ->set_nll_sum(kInfinity);
                }},
       }) {
    SCOPED_TRACE(c.field);
    v1::WorkerState report = Hello("w");
    c.spoil(report);
    const auto decision = Decide(StateBuilder().Build(), report);
    EXPECT_EQ(CodeOf(decision.reply), "QS1004");
    EXPECT_EQ(FieldOf(decision.reply), c.field);
    EXPECT_THAT(decision.mutations, IsEmpty());
  }
}

// A phase has its own time limit: one that is not known would have none.
TEST(DecideWorkerState, RefusesAPhaseThatIsNotKnown) {
  for (const int phase : {0, 4, -1}) {
    SCOPED_TRACE(phase);
    v1::WorkerState report = MakeReport("w", {}, 2);
    Hold(report, 1, 1);
    report.mutable_held(0)->mutable_progress()->set_phase(
        static_cast<v1::TaskPhase>(phase));
    const auto decision = Decide(Running(), report);
    EXPECT_EQ(FieldOf(decision.reply), "held[0].progress.phase");
    EXPECT_THAT(decision.mutations, IsEmpty());
  }
}

// It says with every beat that it has the result, and that it gets on.
TEST(DecideWorkerState, LetsNoWorkerKeepATaskWhoseResultItDoesNotBring) {
  State state = Running();
  const auto beat = [&state](absl::Duration at, v1::TaskPhase phase) {
    const uint64_t seq = state.FindWorker(TestWorker("w"))->beat_seq + 1;
    v1::WorkerState report = MakeReport("w", {}, seq);
    Hold(report, 1, 1);
    v1::TaskProgress& progress = *report.mutable_held(0)->mutable_progress();
    progress.set_phase(phase);
    progress.set_progress_seq(seq);
    state = After(state, Decide(state, report, "", TestNow(at)).mutations);
  };
  const absl::Duration limit = kSettings.commit_deadline;
  for (absl::Duration at; at < limit; at += kSettings.heartbeat) {
    beat(at, v1::TASK_PHASE_COMMIT);
    ASSERT_THAT(DecideTimeout(state, TaskId(1), kSettings, TestNow(at)),
                IsEmpty());
  }
  beat(limit, v1::TASK_PHASE_COMMIT);
  const State after =
      After(state, DecideTimeout(state, TaskId(1), kSettings, TestNow(limit)));
  EXPECT_FALSE(after.task(TaskId(1)).lease);
  EXPECT_EQ(after.task(TaskId(1)).history->grants.back().end,
            LeaseEnd::kStalled);
}

// Loading has a time of its own, which one that ran does not get again.
TEST(DecideWorkerState, CountsOnWhatRan_WhenItIsSaidToLoadAgain) {
  State state = Running();
  v1::WorkerState report = MakeReport("w", {}, 2);
  Hold(report, 1, 1);
  state = After(state, Decide(state, report, "", TestNow()).mutations);
  const SteadyTime run = state.task(TaskId(1)).lease->run_deadline;
  report.set_beat_seq(3);
  report.mutable_held(0)->mutable_progress()->set_phase(v1::TASK_PHASE_FETCH);
  state = After(state, Decide(state, report, "", Now{.steady = run}).mutations);
  EXPECT_EQ(TimeoutOf(state, state.task(TaskId(1)), kSettings), run);
}

TEST(DecideWorkerState, RefusesHello_WhenItMustNotAttach) {
  struct Case {
    const char* name;
    const char* code;
    const char* credential;
    void (*spoil)(v1::Hello&);
  };
  for (const Case& c : {
           Case{"newer protocol", "QS6003", "",
                [](auto& h) {
                  h.set_protocol_min(2);
                  h.set_protocol_max(3);
                }},
           Case{"no protocol", "QS6003", "",
                [](auto& h) {
                  h.set_protocol_min(0);
                  h.set_protocol_max(0);
                }},
           Case{"short uuid", "QS1004", "",
                [](auto& h) { h.set_worker_uuid("x"); }},
           Case{"no boot id", "QS1004", "", [](auto& h) { h.clear_boot_id(); }},
           Case{"older process", "QS5010", "",
                [](auto& h) { h.set_boot_seq(0); }},
           Case{"another credential", "QS6002", "token-2", [](auto&) {}},
       }) {
    SCOPED_TRACE(c.name);
    v1::WorkerState report = Hello("w");
    c.spoil(*report.mutable_hello());
    const auto decision = Decide(Running(), report, c.credential);
    EXPECT_EQ(CodeOf(decision.reply), c.code);
    EXPECT_THAT(decision.mutations, IsEmpty());
  }
}

TEST(DecideWorkerState, BoundsTheWorkersOfOneCredential) {
  Settings settings;
  settings.workers_per_credential = 2;
  const auto decide = [&](const State& state, const std::string& credential,
                          const std::string& worker) {
    return CodeOf(DecideWorkerState(
                      state, credential,
                      std::make_shared<const v1::WorkerState>(Hello(worker)),
                      TestSession("new"), settings, TestNow())
                      .reply);
  };
  const State state = StateBuilder()
                          .Worker("a", {.credential = "token/1"})
                          .Worker("b", {.credential = "token/1"})
                          .Build();
  EXPECT_EQ(decide(state, "token/1", "c"), "QS4040");
  EXPECT_EQ(decide(state, "token/1", "a"), "OK");  // it is one of them
  EXPECT_EQ(decide(state, "token/2", "c"), "OK");
  const State left =
      After(state, {WorkerLivenessChanged{.worker = TestWorker("b")}});
  EXPECT_EQ(decide(left, "token/1", "c"), "OK");
}

TEST(DecideWorkerState, AsksForHello_WhenSessionIsNotKnown) {
  v1::WorkerState report = MakeReport("w", {}, 2);
  report.set_session_id(TestSession("of an earlier coordinator").bytes());
  EXPECT_EQ(CodeOf(Decide(Running(), report).reply), "QS5011");
  // Nor may another credential speak in its name.
  EXPECT_EQ(CodeOf(Decide(Running(), MakeReport("w", {}, 2), "x").reply),
            "QS5011");
}

TEST(DecideWorkerState, RenewsLeasesItLists) {
  v1::WorkerState report = MakeReport("w", {}, 2);
  Hold(report, 1, 1);
  const State state = Running();
  const auto decision = Decide(state, report);
  EXPECT_THAT(decision.reply->ended, IsEmpty());
  const State after = After(state, decision.mutations);
  EXPECT_EQ(after.task(TaskId(1)).lease->deadline,
            TestNow(absl::Seconds(70)).steady);
  // Listed now, so its spec is not sent again.
  const v1::DesiredState desired =
      MakeDesiredState(after, *after.FindWorker(TestWorker("w")), kSettings);
  ASSERT_EQ(desired.leases_size(), 1);
  EXPECT_FALSE(desired.leases(0).has_spec());
}

TEST(DecideWorkerState, IgnoresOvertakenMessage) {
  v1::WorkerState late = MakeReport("w", {}, 1);
  Hold(late, 1, 1);
  const auto decision = Decide(Running(), late);
  QSWEEP_EXPECT_OK(decision.reply);
  EXPECT_THAT(decision.mutations, IsEmpty());
}

TEST(DecideWorkerState, SendsLeaseAgain_UntilItsMessageIsSeen) {
  v1::WorkerState report = MakeReport("w", {}, 2);
  report.set_ack_seq(4);
  const State state = Running();
  const auto decision = Decide(state, report);
  EXPECT_THAT(decision.reply->ended, IsEmpty());
  const State after = After(state, decision.mutations);
  const v1::DesiredState desired =
      MakeDesiredState(after, *after.FindWorker(TestWorker("w")), kSettings);
  ASSERT_EQ(desired.leases_size(), 1);
  EXPECT_EQ(desired.leases(0).spec().documents_size(), 2);
  EXPECT_EQ(desired.leases(0).spec().content_key(),
            TestDigest("task 1").bytes());
}

TEST(DecideWorkerState, EndsLeaseAsLost_WhenItsMessageWasSeen) {
  v1::WorkerState report = MakeReport("w", {}, 2);
  report.set_ack_seq(5);
  EXPECT_THAT(EndsOf(Decide(Running(), report)), ElementsAre(LeaseEnd::kLost));
  // An older epoch of the task is another attempt.
  Hold(report, 1, 0);
  EXPECT_THAT(EndsOf(Decide(Running(), report)), ElementsAre(LeaseEnd::kLost));
}

// After a partition the same worker may get the task again.
TEST(DecideWorkerState, KeepsLease_WhileTheResultOfAnOlderGrantIsOnItsWay) {
  v1::WorkerState report = MakeReport("w", {}, 2);
  report.set_ack_seq(5);
  Hold(report, 1, 0);
  report.mutable_held(0)->mutable_progress()->set_phase(v1::TASK_PHASE_COMMIT);
  EXPECT_THAT(EndsOf(Decide(Running(), report)), IsEmpty());
  report.set_goodbye(true);
  EXPECT_THAT(EndsOf(Decide(Running(), report)),
              ElementsAre(LeaseEnd::kPreempted));
}

TEST(ListWorkers, TellsWhoLeftFromWhoIsMissed) {
  const auto state_after = [](bool goodbye, bool silent) {
    v1::WorkerState report = MakeReport("w", {}, 2);
    report.set_goodbye(goodbye);
    State state = After(Running(), Decide(Running(), report).mutations);
    state = After(state, DecideDetach(state, TestSession("w")));
    if (silent) {
      state =
          After(state, {WorkerLivenessChanged{.worker = TestWorker("w"),
                                              .to = WorkerLiveness::kLost}});
    }
    return ListWorkers(state, TestNow(absl::Seconds(20))).workers(0).state();
  };
  EXPECT_EQ(state_after(true, false), "left");
  EXPECT_EQ(state_after(true, true), "left");
  EXPECT_EQ(state_after(false, false), "suspect");
  EXPECT_EQ(state_after(false, true), "lost");
}

TEST(DecideWorkerState, KeepsLease_WhenTheSameProcessAttachesAgain) {
  const State state = Running();
  const auto decision = Decide(state, Hello("w"));
  EXPECT_THAT(decision.reply->ended, IsEmpty());
  const State after = After(state, decision.mutations);
  EXPECT_EQ(after.task(TaskId(1)).lease->sent_seq, 0u);
}

TEST(DecideWorkerState, EndsLeaseAsLost_WhenTheWorkerStartedAgain) {
  EXPECT_THAT(EndsOf(Decide(Running(), Hello("w", 2))),
              ElementsAre(LeaseEnd::kLost));
  // Unless its spool still has the result.
  v1::WorkerState report = Hello("w", 2);
  Hold(report, 1, 1);
  EXPECT_THAT(EndsOf(Decide(Running(), report)), IsEmpty());
}

// What was granted to the old one it could not bring.
TEST(DecideWorkerState, EndsLeaseAsLost_WhenTheWorkerHasAnotherCredential) {
  State state = Running();
  state = After(state, DecideDetach(state, TestSession("w")));
  EXPECT_THAT(EndsOf(Decide(state, Hello("w"))), IsEmpty());
  EXPECT_THAT(EndsOf(Decide(state, Hello("w"), "token/2")),
              ElementsAre(LeaseEnd::kLost));
}

TEST(DecideWorkerState, FreesUnlistedLeases_WhenWorkerSaysGoodbye) {
  v1::WorkerState report = MakeReport("w", {}, 2);
  report.set_goodbye(true);
  const State state = Running();
  const auto decision = Decide(state, report);
  EXPECT_THAT(EndsOf(decision), ElementsAre(LeaseEnd::kPreempted));
  EXPECT_EQ(
      After(state, decision.mutations).FindWorker(TestWorker("w"))->liveness,
      WorkerLiveness::kSuspect);
}

TEST(MakeDesiredState, LeavesOutWhatIsNotWanted) {
  // The worker holds a task that was cancelled: absence is the instruction.
  v1::WorkerState report = MakeReport("w", {}, 2);
  Hold(report, 1, 1);
  Hold(report, 77, 3);
  State state = Running();
  state = After(state, Decide(state, report).mutations);
  state.Apply(LeaseEnded{.task = TaskId(1),
                         .epoch = Epoch(1),
                         .end = LeaseEnd::kCancelled,
                         .to = v1::TASK_STATE_CANCELLED});
  const v1::DesiredState desired =
      MakeDesiredState(state, *state.FindWorker(TestWorker("w")), kSettings);
  EXPECT_EQ(desired.leases_size(), 0);
  EXPECT_EQ(desired.beat_ack(), 2u);
  EXPECT_EQ(desired.state_seq(), 6u);
  EXPECT_FALSE(desired.has_welcome());
}

TEST(DecideDetach, MakesWorkerSuspect_WithoutTouchingItsLeases) {
  const State state = Running();
  const State after = After(state, DecideDetach(state, TestSession("w")));
  EXPECT_EQ(after.FindWorker(TestWorker("w"))->liveness,
            WorkerLiveness::kSuspect);
  EXPECT_EQ(after.task(TaskId(1)).state, v1::TASK_STATE_LEASED);
  EXPECT_THAT(DecideDetach(state, TestSession("an older one")), IsEmpty());
}

TEST(DecideWorkerTimeout, LosesWorker_OnlyAtItsDeadline) {
  const State state = Running();
  EXPECT_THAT(DecideWorkerTimeout(state, TestWorker("w"), kSettings,
                                  TestNow(absl::Seconds(59))),
              IsEmpty());
  const State after =
      After(state, DecideWorkerTimeout(state, TestWorker("w"), kSettings,
                                       TestNow(absl::Seconds(60))));
  EXPECT_EQ(after.FindWorker(TestWorker("w"))->liveness, WorkerLiveness::kLost);
}

// What it was idle follows from this and from what its leases cost.
TEST(DecideWorkerTimeout, WritesTheTimeOfAWorker_OnceInAWhileAndAtItsEnd) {
  State state = Running();
  uint64_t beat = 10;
  const auto pass = [&](absl::Duration at, bool heard) {
    if (heard) {
      state.Apply(WorkerReported{
          .worker = TestWorker("w"),
          .state =
              std::make_shared<v1::WorkerState>(MakeReport("w", {}, ++beat)),
          .now = TestNow(at).steady,
          .deadline = TestNow(at + kSettings.lease_ttl).steady});
    }
    state = After(state, DecideWorkerTimeout(state, TestWorker("w"), kSettings,
                                             TestNow(at)));
    return state.FindWorker(TestWorker("w"))->attached;
  };
  EXPECT_EQ(pass(absl::Seconds(299), true), absl::ZeroDuration());
  EXPECT_EQ(pass(absl::Seconds(301), true), absl::Seconds(301));
  EXPECT_EQ(pass(absl::Seconds(310), true), absl::Seconds(301));
  // Silence that ends as a loss counts for nobody.
  EXPECT_EQ(pass(absl::Seconds(369), false), absl::Seconds(301));
  EXPECT_EQ(pass(absl::Seconds(370), false), absl::Seconds(310));
  // What lies between its end and its next hello is not its time.
  state.Apply(
      WorkerAttached{.worker = TestWorker("w"),
                     .session = TestSession("w"),
                     .hello = std::make_shared<v1::Hello>(MakeHello("w", {})),
                     .now = TestNow(absl::Hours(1)).steady,
                     .deadline = TestNow(absl::Hours(2)).steady});
  EXPECT_EQ(pass(absl::Hours(1) + absl::Minutes(6), true),
            absl::Seconds(310) + absl::Minutes(6));
}

}  // namespace
}  // namespace qsweep::testing
