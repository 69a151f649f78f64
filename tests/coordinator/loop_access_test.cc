// Calls whose token ends while they wait.
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"
#include "tests/support/loop_harness.h"

namespace qsweep::testing {
namespace {

using ::testing::Each;

// A loop with a token, whose holder has a worker with a task.
class LoopAccessTest : public ::testing::Test {
 protected:
  LoopAccessTest() {
    harness_.AddCorpus(3);
    QSWEEP_EXPECT_OK(harness_.Submit({}));
    v1::CreateTokenRequest token;
    token.set_secret_sha256(caller_.secret.bytes());
    token.set_kind(v1::TOKEN_KIND_ACCESS);
    token.set_role(v1::ROLE_ADMIN);
    QSWEEP_EXPECT_OK(
        *harness_.CallAs<v1::CreateTokenResponse>(Caller{}, token));
    link_ = std::make_shared<RecordingLink>();
    v1::WorkerState report;
    *report.mutable_hello() = MakeHello("w", {});
    report.set_beat_seq(1);
    report.set_credits(1);
    harness_.loop().PostAttach(caller_, report, link_);
    QSWEEP_EXPECT_OK(harness_.Step());
    lease_ = link_->states.back().leases(0);
  }

  template <typename Request>
  void Post(Request request) {
    harness_.loop().Post(caller_, std::move(request), [this](const auto& r) {
      answers_.push_back(CodeOf(r.status()));
    });
  }
  v1::CommitResultRequest Result() const {
    v1::CommitResultRequest request;
    *request.add_results() =
        EnvelopeOf(lease_.spec(), lease_.epoch(), HonestResult(lease_.spec()));
    return request;
  }
  v1::ReleaseTaskRequest Release() const {
    v1::ReleaseTaskRequest request;
    request.set_task_id(lease_.task_id());
    request.set_epoch(lease_.epoch());
    request.set_reason(v1::RELEASE_REASON_DRAINED);
    return request;
  }
  // All that changes something, as it waits with the token.
  void PostAll() {
    Post(Result());
    Post(Release());
    Post(SweepRequest({.uuid = "late"}));
    v1::CancelJobRequest cancel;
    cancel.mutable_job()->set_text("1");
    Post(cancel);
    v1::ControlJobRequest pause;
    pause.mutable_job()->set_text("1");
    pause.set_action(v1::JOB_ACTION_PAUSE);
    Post(pause);
    v1::ControlWorkerRequest drain;
    drain.set_worker("w");
    drain.set_action(v1::WORKER_ACTION_DRAIN);
    Post(drain);
    Post(v1::CollectGarbageRequest());
    Post(v1::AddCorpusRequest());
    v1::CreateTokenRequest create;
    create.set_secret_sha256(Digest::Of("another").bytes());
    create.set_kind(v1::TOKEN_KIND_ACCESS);
    create.set_role(v1::ROLE_ADMIN);
    Post(create);
    v1::RevokeTokenRequest revoke;
    revoke.set_token_id(1);
    Post(revoke);
    v1::RotateTokenRequest rotate;
    rotate.set_token_id(1);
    rotate.set_secret_sha256(Digest::Of("third").bytes());
    Post(rotate);
  }
  void ExpectNothingChanged() const {
    const State& state = harness_.state();
    const Task& task = state.task(TaskId(1));
    EXPECT_NE(task.state, v1::TASK_STATE_DONE);
    EXPECT_EQ(task.history->preempted, 0);
    EXPECT_EQ(state.job(JobNumber(1)).state, v1::JOB_STATE_RUNNING);
    EXPECT_EQ(state.FindJob(JobNumber(2)), nullptr);
    EXPECT_EQ(state.FindWorker(TestWorker("w"))->mode, WorkerMode::kOpen);
    EXPECT_EQ(state.tokens().size(), 1u);
  }

  LoopHarness harness_;
  const Caller caller_{.identity = "token/1", .secret = Digest::Of("old")};
  std::shared_ptr<RecordingLink> link_;
  v1::DesiredLease lease_;
  std::vector<std::string> answers_;
};

TEST_F(LoopAccessTest, DoesNothingThatWaitedWithARevokedToken) {
  v1::RevokeTokenRequest revoke;
  revoke.set_token_id(1);
  std::optional<absl::Status> revoked;
  harness_.loop().Post(Caller{}, revoke,
                       [&revoked](const auto& r) { revoked = r.status(); });
  PostAll();
  QSWEEP_ASSERT_OK(harness_.Step());
  QSWEEP_ASSERT_OK(*revoked);
  EXPECT_EQ(answers_.size(), 11u);
  EXPECT_THAT(answers_, Each("QS6005"));
  ExpectNothingChanged();
}

TEST_F(LoopAccessTest, DoesNothingThatWaitedWithAReplacedSecret) {
  v1::RotateTokenRequest rotate;
  rotate.set_token_id(1);
  rotate.set_secret_sha256(Digest::Of("new").bytes());
  harness_.loop().Post(Caller{}, rotate, [](auto) {});
  PostAll();
  QSWEEP_ASSERT_OK(harness_.Step());
  EXPECT_EQ(answers_.size(), 11u);
  EXPECT_THAT(answers_, Each("QS6001"));
  ExpectNothingChanged();
}

// Its answer was lost and it came again, before the token had another secret.
TEST_F(LoopAccessTest, AnswersARotationByTheTokenItselfTwice) {
  v1::RotateTokenRequest rotate;
  rotate.set_token_id(1);
  rotate.set_secret_sha256(Digest::Of("new").bytes());
  Post(rotate);
  Post(rotate);
  QSWEEP_ASSERT_OK(harness_.Step());
  EXPECT_EQ(answers_, (std::vector<std::string>{"OK", "OK"}));
}

TEST_F(LoopAccessTest, TakesAResultThatCameBeforeTheRevocation) {
  Post(Result());
  v1::RevokeTokenRequest revoke;
  revoke.set_token_id(1);
  Post(revoke);
  QSWEEP_ASSERT_OK(harness_.Step());
  EXPECT_EQ(answers_, (std::vector<std::string>{"OK", "OK"}));
  EXPECT_EQ(harness_.state().task(TaskId(1)).state, v1::TASK_STATE_DONE);
}

}  // namespace
}  // namespace qsweep::testing
