#include "tests/worker/agent/agent_suite.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"

namespace qsweep {

TEST_P(AgentTest, RunsATaskAndCommitsItsRows) {
  const auto agent = Start();
  Welcome();
  service_->Push(Desired(7));
  const v1::CommitResultRequest commit = service_->NextCommit();
  ASSERT_EQ(commit.results_size(), 1);
  const v1::ResultEnvelope& envelope = commit.results(0);
  EXPECT_EQ(envelope.task_id(), 7u);
  EXPECT_EQ(envelope.payload_sha256(), Digest::Of(envelope.payload()).bytes());
  v1::TaskResult result;
  ASSERT_TRUE(result.ParseFromString(envelope.payload()));
  EXPECT_EQ(result.rows_size(), 1);
  service_->AwaitState([](const auto& s) { return s.held_size() == 0; });
  End(*agent);
}

TEST_P(AgentTest, RunsATask_WhenItPolls) {
  control_ = Control::kPoll;
  const auto agent = Start();
  service_->AwaitState([](const auto& s) { return s.has_hello(); });
  v1::DesiredState welcome = Desired(0);
  welcome.mutable_welcome()->set_session_id("session 16 bytes");
  welcome.mutable_welcome()->set_heartbeat_ms(10'000);
  service_->AnswerPoll(welcome);
  service_->AwaitState([](const auto& s) { return !s.session_id().empty(); });
  service_->AnswerPoll(Desired(7));
  EXPECT_EQ(service_->NextCommit().results(0).task_id(), 7u);
  service_->AwaitState([](const auto& s) { return s.held_size() == 0; });
  End(*agent);
  service_->AwaitState([](const auto& s) { return s.goodbye(); });
}

TEST_P(AgentTest, FetchesAnArtifactOnce) {
  const auto agent = Start();
  Welcome();
  for (uint64_t task = 1; task <= 3; ++task) {
    service_->Push(Desired(task));
    service_->NextCommit();
  }
  EXPECT_EQ(service_->artifacts_sent(), 1);
  End(*agent);
}

TEST_P(AgentTest, ReportsTheDeathOfTheEngineAndLivesOn) {
  setenv("QSWEEP_FAKE_DIE_ON", "1", 1);
  const auto agent = Start();
  Welcome();
  service_->Push(Desired(1));
  const v1::ReleaseTaskRequest release = service_->NextRelease();
  EXPECT_EQ(release.reason(), v1::RELEASE_REASON_FAILED);
  EXPECT_EQ(release.failure().message(),
            "the engine was killed by signal 9 (Killed)");
  service_->AwaitState(
      [](const auto& s) { return s.held_size() == 0 && s.credits() == 2; });
  End(*agent);
}

TEST_P(AgentTest, GivesTheTaskBack_WhenTheModelIsNotHere) {
  const auto agent = Start();
  Welcome();
  v1::DesiredState desired = Desired(1);
  desired.mutable_leases(0)->mutable_spec()->mutable_model()->set_path("/none");
  service_->Push(desired);
  EXPECT_EQ(service_->NextRelease().failure().detail().code(), "QS3001");
  End(*agent);
}

TEST_P(AgentTest, GivesTheTaskBack_WhenAReadyCheckpointIsNotHere) {
  const auto agent = Start();
  Welcome();
  v1::DesiredState state = Desired(1);
  state.mutable_leases(0)->mutable_spec()->add_configurations()->set_quantizer(
      "checkpoint:path=/nowhere,digest=0123456789abcdef,bits=4");
  service_->Push(state);
  const v1::ErrorDetail detail = service_->NextRelease().failure().detail();
  EXPECT_EQ(detail.code(), "QS3001");
  EXPECT_EQ(detail.field(), "checkpoint");
  End(*agent);
}

TEST_P(AgentTest, BeatsOn_WhileTheEngineHangsAndTheCommitsFail) {
  setenv("QSWEEP_FAKE_HANG_ON", "2", 1);
  const auto agent = Start();
  Welcome();
  service_->Refuse(absl::UnavailableError("down"));
  service_->Push(Desired(1));
  service_->AwaitState([](const auto& s) {
    return s.held_size() == 1 &&
           s.held(0).progress().phase() == v1::TASK_PHASE_COMMIT;
  });
  v1::DesiredState both = Desired(2);
  both.add_leases()->set_task_id(1);
  both.mutable_leases(1)->set_epoch(1);
  service_->Push(both);
  service_->AwaitState([](const auto& s) {
    return s.held_size() == 2 &&
           s.held(1).progress().phase() == v1::TASK_PHASE_RUN;
  });
  const uint64_t beat = service_->NextState().beat_seq();
  service_->AwaitState([&](const auto& s) { return s.beat_seq() > beat + 5; });
  service_->Refuse(std::nullopt);
  EXPECT_EQ(service_->NextCommit().results(0).task_id(), 1u);
  End(*agent);
}

TEST_P(AgentTest, SendsWhatWaitsInTheSpool_AfterAStart) {
  {
    const auto agent = Start();
    Welcome();
    service_->Refuse(absl::UnavailableError("down"));
    service_->Push(Desired(5, 3));
    service_->AwaitState([](const auto& s) {
      return s.held_size() == 1 &&
             s.held(0).progress().phase() == v1::TASK_PHASE_COMMIT;
    });
    agent->Shutdown("test");
    EXPECT_TRUE(agent->Wait().ok());
  }
  service_->Refuse(std::nullopt);
  const auto agent = Start();
  const v1::ResultEnvelope result = service_->NextCommit().results(0);
  EXPECT_EQ(result.task_id(), 5u);
  EXPECT_EQ(result.epoch(), 3u);
  End(*agent);
}

TEST_P(AgentTest, CommitsTheOthers_WhenOneResultAlwaysFails) {
  const auto agent = Start();
  Welcome();
  service_->FailCommitsOf(1);
  service_->Push(Desired(1));
  service_->AwaitState([](const auto& s) {
    return s.held_size() == 1 &&
           s.held(0).progress().phase() == v1::TASK_PHASE_COMMIT;
  });
  v1::DesiredState both = Desired(2);
  both.add_leases()->set_task_id(1);
  both.mutable_leases(1)->set_epoch(1);
  service_->Push(both);
  const v1::CommitResultRequest commit = service_->NextCommit();
  ASSERT_EQ(commit.results_size(), 1);
  EXPECT_EQ(commit.results(0).task_id(), 2u);
  End(*agent);
}

TEST_P(AgentTest, KeepsARejectedResult_UntilItIsSetAside) {
  const std::string aside = dir_ / "rejected-5-3";
  std::filesystem::create_directory(aside);  // in the way of the file
  service_->AnswerCommitsWith(v1::COMMIT_OUTCOME_REJECTED);
  {
    const auto agent = Start();
    Welcome();
    service_->Push(Desired(5, 3));
    EXPECT_EQ(service_->NextRelease().task_id(), 5u);
    End(*agent);
  }
  std::filesystem::remove(aside);
  const auto agent = Start();
  EXPECT_EQ(service_->NextRelease().task_id(), 5u);
  v1::ResultEnvelope kept;
  std::ifstream file(aside, std::ios::binary);
  EXPECT_TRUE(kept.ParseFromIstream(&file));
  EXPECT_EQ(kept.content_key(), "key");
  End(*agent);
}

TEST_P(AgentTest, SetsAsideAResultThatIsNeverTaken_AndReleasesItsTask) {
  const auto agent = Start();
  Welcome();
  service_->FailCommitsOf(5, absl::InvalidArgumentError("cannot be read"));
  service_->Push(Desired(5, 3));
  const v1::ReleaseTaskRequest release = service_->NextRelease();
  EXPECT_EQ(release.task_id(), 5u);
  EXPECT_EQ(release.reason(), v1::RELEASE_REASON_FAILED);
  EXPECT_EQ(release.failure().message(), "cannot be read");
  End(*agent);
  v1::ResultEnvelope kept;
  std::ifstream file(dir_ / "rejected-5-3", std::ios::binary);
  EXPECT_TRUE(kept.ParseFromIstream(&file));
  EXPECT_EQ(kept.task_id(), 5u);
}

TEST_P(AgentTest, SendsFromMemory_WhenTheSpoolHasNoRoom) {
  spool_bytes_ = 200;  // less than any result
  const auto agent = Start();
  Welcome();
  service_->Refuse(absl::UnavailableError("down"));
  service_->Push(Desired(1));
  service_->AwaitState([](const auto& s) {
    return s.credits() == 0 && s.reason().starts_with("QS5009: ") &&
           s.held_size() == 1;
  });
  service_->Refuse(std::nullopt);
  EXPECT_EQ(service_->NextCommit().results(0).task_id(), 1u);
  service_->AwaitState(
      [](const auto& s) { return s.credits() == 2 && s.held_size() == 0; });
  End(*agent);
}

TEST_P(AgentTest, GoesOnUnderAnotherIdentity_WhenItIsSuperseded) {
  const auto agent = Start();
  Welcome();
  service_->FailStream(MakeError(kWorkerSuperseded, "a newer process has it"));
  const v1::WorkerState state =
      service_->AwaitState([](const auto& s) { return s.has_hello(); });
  EXPECT_NE(state.hello().worker_uuid(), "0123456789abcdef");
  EXPECT_EQ(state.hello().worker_uuid().size(), WorkerUuid::kSize);
  EXPECT_EQ(kept_uuids_.Take(absl::Seconds(20)), state.hello().worker_uuid());
  End(*agent);
}

TEST_P(AgentTest, AttachesAgain_WhenTheStreamEnds) {
  const auto agent = Start();
  Welcome();
  setenv("QSWEEP_FAKE_DELAY_MS", "0", 1);
  service_->EndStream();
  Welcome();
  service_->Push(Desired(1));
  EXPECT_EQ(service_->NextCommit().results(0).session_id(), "session 16 bytes");
  End(*agent);
}

TEST_P(AgentTest, LeavesWithinASecond_EvenWhenNobodyAnswers) {
  goodbye_limit_ = AgentSettings().goodbye_limit;
  setenv("QSWEEP_FAKE_HANG_ON", "1", 1);
  const auto agent = Start();
  Welcome();
  service_->Push(Desired(1));
  service_->AwaitState([](const auto& s) {
    return s.held_size() == 1 &&
           s.held(0).progress().phase() == v1::TASK_PHASE_RUN;
  });
  service_->Refuse(absl::UnavailableError("down"));
  const SteadyTime begin = Clock::Real().SteadyNow();
  End(*agent);
  EXPECT_LT(Clock::Real().SteadyNow() - begin, absl::Milliseconds(1500));
  service_->AwaitState([](const auto& s) { return s.goodbye(); });
}

TEST_P(AgentTest, EndsWithTheReason_WhenTheEngineIsMissing) {
  AgentOptions options;
  options.directory = dir_.path();
  options.engine.program = dir_ / "no-engine";
  const auto agent = Agent::Start(options, service_->MakeClient());
  ASSERT_TRUE(agent.ok());
  EXPECT_EQ(GetErrorInfo((*agent)->Wait())->code, "QS5001");
}

// What it ran is on its disk after a restart, too, while it is there.
TEST_P(AgentTest, TellsWhatIsOnItsDisk_AfterAStart) {
  {
    const auto agent = Start();
    Welcome();
    service_->Push(Desired(7));
    service_->NextCommit();
    End(*agent);
  }
  const auto hello_models = [this] {
    const auto agent = Start();
    const v1::WorkerState hello =
        service_->AwaitState([](const auto& s) { return s.has_hello(); });
    End(*agent);
    return hello.models();
  };
  const auto models = hello_models();
  ASSERT_EQ(models.size(), 1);
  EXPECT_EQ(models[0].digest(), Digest::Of("model").bytes());
  EXPECT_EQ(models[0].level(), v1::ResidentModel::LEVEL_DISK);
  std::filesystem::remove(dir_ / "model");
  EXPECT_TRUE(hello_models().empty());
}

}  // namespace qsweep
