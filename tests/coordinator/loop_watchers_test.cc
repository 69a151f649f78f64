// Who watches, and for how long.
#include "coordinator/loop_watchers.h"

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/error_codes.h"
#include "tests/support/error_matchers.h"
#include "tests/support/loop_harness.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;

using Fault = FaultyStore::Fault;

TEST(LoopWatchers, EndsAWatchWithItsToken_WhileTheDiskIsFull) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  v1::CreateTokenRequest token;
  token.set_secret_sha256(Digest::Of("secret").bytes());
  token.set_kind(v1::TOKEN_KIND_ACCESS);
  token.set_role(v1::ROLE_READ);
  token.set_ttl_ms(25'000);
  QSWEEP_ASSERT_OK(*harness.CallAs<v1::CreateTokenResponse>(Caller{}, token));
  v1::WatchJobRequest watch;
  watch.mutable_job()->set_text("1");
  const auto sink = std::make_shared<RecordingSink>();
  harness.loop().PostWatch({.identity = "token/1"}, watch, sink);
  QSWEEP_ASSERT_OK(harness.Step());
  ASSERT_FALSE(sink->closed.has_value());
  const absl::Status full = MakeError(kDiskFull, "no space left");
  harness.store().FailNext(Fault::kBeforeCommit, full);
  EXPECT_EQ(CodeOf(harness.Submit({.uuid = "b", .layer_range = "0"})),
            "QS4004");
  // A load closes all watches.
  const auto again = std::make_shared<RecordingSink>();
  harness.loop().PostWatch({.identity = "token/1"}, watch, again);
  QSWEEP_ASSERT_OK(harness.Step());
  while (!again->closed) {
    const absl::Duration wait =
        harness.loop().NextDeadline() - harness.clock().SteadyNow();
    ASSERT_GT(wait, absl::ZeroDuration());
    harness.store().FailNext(Fault::kRestoreReserve, full);
    QSWEEP_ASSERT_OK(harness.StepAfter(wait));
    harness.store().ClearFaults();
  }
  EXPECT_EQ(CodeOf(*again->closed), "QS6004");
}

// Two are open; two were authenticated before it, and come to the loop with it.
TEST(LoopWatchers, EndsTheStreamsOfAReplacedSecret) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  v1::CreateTokenRequest token;
  token.set_secret_sha256(Digest::Of("old").bytes());
  token.set_kind(v1::TOKEN_KIND_ACCESS);
  token.set_role(v1::ROLE_ADMIN);
  QSWEEP_ASSERT_OK(*harness.CallAs<v1::CreateTokenResponse>(Caller{}, token));
  v1::RotateTokenRequest rotate;
  rotate.set_token_id(1);
  rotate.set_secret_sha256(Digest::Of("new").bytes());
  const auto post_rotation = [&] {
    harness.loop().Post(Caller{}, rotate,
                        [](absl::StatusOr<v1::RotateTokenResponse> rotated) {
                          QSWEEP_EXPECT_OK(rotated);
                        });
  };
  v1::WatchJobRequest watch;
  watch.mutable_job()->set_text("1");
  const auto watch_as = [&](const char* secret) {
    auto sink = std::make_shared<RecordingSink>();
    harness.loop().PostWatch(
        {.identity = "token/1", .secret = Digest::Of(secret)}, watch, sink);
    return sink;
  };
  const auto attach_as = [&](const char* secret) {
    auto link = std::make_shared<RecordingLink>();
    v1::WorkerState report;
    *report.mutable_hello() = MakeHello(secret, {});
    harness.loop().PostAttach(
        {.identity = "token/1", .secret = Digest::Of(secret)}, report, link);
    return link;
  };
  const auto is_refused = [](const auto& stream) {
    return stream->closed.has_value() && CodeOf(*stream->closed) == "QS6001";
  };
  const auto open_sink = watch_as("old");
  const auto open_link = attach_as("old");
  QSWEEP_ASSERT_OK(harness.Step());
  ASSERT_FALSE(open_sink->closed || open_link->closed);
  post_rotation();
  const auto old_sink = watch_as("old");
  const auto old_link = attach_as("old");
  QSWEEP_ASSERT_OK(harness.Step());
  EXPECT_TRUE(is_refused(open_sink));
  EXPECT_TRUE(is_refused(open_link));
  EXPECT_TRUE(is_refused(old_sink));
  EXPECT_TRUE(is_refused(old_link));
  const auto new_sink = watch_as("new");
  const auto new_link = attach_as("new");
  QSWEEP_ASSERT_OK(harness.Step());
  EXPECT_FALSE(new_sink->closed.has_value());
  EXPECT_FALSE(new_link->closed.has_value());
}

TEST(LoopWatchers, ShowsEachEventOnceAndInOrder_ToOldAndNewWatchers) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  v1::WatchJobRequest request;
  request.mutable_job()->set_text("1");
  auto early = std::make_shared<RecordingSink>();
  harness.loop().PostWatch(Caller{}, request, early);
  const auto link = Attach(harness, "w");
  const v1::DesiredLease& lease = link->states[0].leases(0);
  harness.Commit(
      EnvelopeOf(lease.spec(), lease.epoch(), HonestResult(lease.spec())));
  EXPECT_THAT(
      early->Kinds(),
      ElementsAre("snapshot", "job_submitted", "job_queued", "job_running",
                  "task_leased", "task_done", "job_succeeded"));
  ASSERT_TRUE(early->closed.has_value());
  QSWEEP_EXPECT_OK(*early->closed);
  for (size_t i = 1; i < early->events.size(); ++i) {
    EXPECT_EQ(early->events[i].durable().job_seq(), i);
  }
  // One that resumes after the job has ended.
  request.set_from_seq(early->events[5].durable().seq());
  auto late = std::make_shared<RecordingSink>();
  harness.loop().PostWatch(Caller{}, request, late);
  QSWEEP_ASSERT_OK(harness.Step());
  EXPECT_THAT(late->Kinds(), ElementsAre("snapshot", "job_succeeded"));
  QSWEEP_EXPECT_OK(*late->closed);
}

TEST(LoopWatchers, SendsOldEventsNoFasterThanTheWatcherReads) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  v1::CancelJobRequest cancel;
  cancel.mutable_job()->set_text("1");
  QSWEEP_ASSERT_OK(*harness.Call<v1::CancelJobResponse>(cancel));
  v1::WatchJobRequest request;
  request.mutable_job()->set_text("1");
  const auto sink = std::make_shared<RecordingSink>();
  sink->room = 2;
  harness.loop().PostWatch(Caller{}, request, sink);
  QSWEEP_ASSERT_OK(harness.Step());
  EXPECT_THAT(sink->Kinds(),
              ElementsAre("snapshot", "job_submitted", "job_queued"));
  sink->room = 0;
  QSWEEP_ASSERT_OK(harness.Step());
  EXPECT_EQ(sink->events.size(), 3u);
  // Not again before the sink says so, but then at once.
  bool idle = false;
  while (!idle) {
    QSWEEP_ASSERT_OK(harness.loop().Step(harness.clock().SteadyNow(), &idle));
  }
  EXPECT_EQ(sink->events.size(), 3u);
  EXPECT_GT(harness.loop().NextDeadline(),
            harness.clock().SteadyNow() + absl::Milliseconds(500));
  EXPECT_FALSE(sink->closed.has_value());
  sink->room = 100;
  harness.loop().PostRoom();
  QSWEEP_ASSERT_OK(harness.Step());
  EXPECT_EQ(sink->Kinds().back(), "job_cancelled");
  ASSERT_TRUE(sink->closed.has_value());
  QSWEEP_EXPECT_OK(*sink->closed);
}

TEST(LoopWatchers, LetsWatchersResume_WhenACommitThatFailedWasWritten) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  const auto watch = [&](uint64_t from_seq) {
    auto sink = std::make_shared<RecordingSink>();
    v1::WatchJobRequest request;
    request.mutable_job()->set_text("1");
    request.set_from_seq(from_seq);
    harness.loop().PostWatch(Caller{}, request, sink);
    QSWEEP_EXPECT_OK(harness.Step());
    return sink;
  };
  const auto first = watch(0);
  harness.store().FailNext(Fault::kAfterCommit,
                           absl::UnavailableError("COMMIT"));
  v1::CancelJobRequest cancel;
  cancel.mutable_job()->set_text("1");
  harness.Call<v1::CancelJobResponse>(cancel);
  ASSERT_TRUE(first->closed && absl::IsUnavailable(*first->closed));
  const auto second = watch(first->events.back().durable().seq());
  EXPECT_EQ(second->Kinds().back(), "job_cancelled");
  EXPECT_EQ(second->events[1].durable().job_seq(),
            first->events.back().durable().job_seq() + 1);
}

TEST(LoopWatchers, CutsASlowWatcher_AndRefusesAnUnknownJob) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({}));
  v1::WatchJobRequest request;
  request.mutable_job()->set_text("1");
  auto slow = std::make_shared<RecordingSink>();
  slow->capacity = 2;
  harness.loop().PostWatch(Caller{}, request, slow);
  request.mutable_job()->set_text("no-such-job");
  auto unknown = std::make_shared<RecordingSink>();
  harness.loop().PostWatch(Caller{}, request, unknown);
  QSWEEP_ASSERT_OK(harness.Step());
  ASSERT_TRUE(slow->closed && unknown->closed);
  EXPECT_EQ(CodeOf(*slow->closed), "QS4040");
  EXPECT_EQ(CodeOf(*unknown->closed), "QS4020");
}

}  // namespace
}  // namespace qsweep::testing
