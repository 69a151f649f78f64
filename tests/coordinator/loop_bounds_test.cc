// What one caller can cost the others.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/call_queue.h"
#include "tests/support/error_matchers.h"
#include "tests/support/loop_harness.h"

namespace qsweep::testing {
namespace {

using Fault = FaultyStore::Fault;

// Whoever can make the store refuse a call must not end the process with it.
TEST(Loop, RefusesACallThatTheStoreCannotTake_AsOftenAsItComes) {
  LoopHarness harness;
  harness.AddCorpus(3);
  QSWEEP_ASSERT_OK(harness.Submit({.uuid = "a"}));
  v1::CancelJobRequest request;
  request.mutable_job()->set_text("1");
  for (int i = 0; i < 30; ++i) {
    // With what else is in its batch, then alone.
    for (const char* why : {"batch", "alone"}) {
      harness.store().FailNext(Fault::kBeforeCommit, absl::InternalError(why));
    }
    const auto answer = harness.Call<v1::CancelJobResponse>(request);
    QSWEEP_ASSERT_OK(harness.last_step());
    EXPECT_EQ(answer->status().message(), "alone");
  }
  QSWEEP_EXPECT_OK(*harness.Call<v1::CancelJobResponse>(request));
}

TEST(Loop, EndsWithAnError_WhenNoCallIsToBlame) {
  LoopHarness harness;
  harness.AddCorpus(3);
  absl::Status end;
  int steps = 0;
  while (end.ok() && ++steps < 30) {
    // Each call is stored alone, and the next batch fails again.
    harness.store().FailNext(Fault::kBeforeCommit,
                             absl::InternalError("batch"));
    QSWEEP_EXPECT_OK(harness.Submit({.uuid = absl::StrCat("job ", steps)}));
    end = harness.last_step();
  }
  EXPECT_EQ(end.message(), "batch");
  EXPECT_EQ(steps, 11);
}

TEST(Loop, GrantsNoMoreInAStepThanItTakesCalls_AndGoesOnWithTheNextWorker) {
  Settings settings;
  settings.batch_requests_max = 3;
  settings.queue_high_water = 4;
  LoopHarness harness(settings);
  harness.AddCorpus(3);
  for (const char* worker : {"a", "b", "c", "d", "e"}) {
    Attach(harness, worker);
  }
  for (int i = 0; i < 8; ++i) {  // of another model, and one task, each
    harness.loop().Post(
        Caller{},
        SweepRequest({.uuid = absl::StrCat("job ", i), .layers = 2 + i}),
        [](const auto& r) { QSWEEP_EXPECT_OK(r); });
  }
  QSWEEP_ASSERT_OK(harness.Step());  // five calls wait: no lease
  std::vector<size_t> leases;
  for (int i = 0; i < 3; ++i) {
    QSWEEP_ASSERT_OK(harness.Step());
    leases.push_back(harness.state().leased_tasks().size());
    EXPECT_EQ(harness.loop().NextDeadline() == harness.clock().SteadyNow(),
              i < 1);
  }
  EXPECT_EQ(leases, (std::vector<size_t>{3, 5, 5}));
}

// A thousand megabytes wait as easily as a thousand beats.
TEST(CallQueue, RefusesCalls_WhenTooManyBytesWait) {
  const SimulatedClock clock;
  CallQueue queue(Settings(), clock);
  std::vector<std::string> refused;
  const auto push = [&](size_t bytes) {
    queue.Push(
        {.run = [](LoopCore&) {},
         .refuse =
             [&](const absl::Status& why) { refused.push_back(CodeOf(why)); },
         .bytes = bytes});
  };
  constexpr size_t kArtifact = size_t{256} << 20;
  push(kArtifact);
  push(kArtifact);
  EXPECT_THAT(refused, ::testing::IsEmpty());
  push(1);
  EXPECT_THAT(refused, ::testing::ElementsAre("QS4040"));
  push(0);
  EXPECT_EQ(queue.Drain().size(), 3u);
  push(kArtifact);  // there is room again
  EXPECT_EQ(queue.Drain().size(), 1u);
  EXPECT_EQ(refused.size(), 1u);
}

TEST(Loop, CountsTheBytesOfWhatItIsSent) {
  LoopHarness harness;
  std::vector<absl::Status> answers;
  for (int i = 0; i < 3; ++i) {
    harness.loop().PostArtifact(Digest::Of("y"), std::string(200 << 20, 'x'),
                                [&](auto r) { answers.push_back(r.status()); });
  }
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(CodeOf(answers[0]), "QS4040");
  QSWEEP_ASSERT_OK(harness.Step());
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(CodeOf(answers[1]), "QS4042");
}

// Posts a request with a field that nobody knows: any request has bytes so.
template <typename Request, typename Response, typename Post>
void ExpectRefused(const Post& post) {
  SCOPED_TRACE(Request::descriptor()->name());
  Request request;
  ASSERT_TRUE(request.ParseFromString("\xfa\x3f\x01x"));
  std::string code = "none";
  post(std::move(request), Reply<Response>([&code](absl::StatusOr<Response> r) {
         code = CodeOf(r);
       }));
  EXPECT_EQ(code, "QS4040");
}

TEST(Loop, CountsTheBytesOfEveryKindOfCall) {
  LoopHarness harness;
  Loop& loop = harness.loop();
  for (int i = 0; i < 2; ++i) {  // no byte is left
    loop.PostArtifact(Digest::Of("y"), std::string(256 << 20, 'x'),
                      [](const auto&) {});
  }
  const auto post = [&loop](auto request, auto reply) {
    loop.Post(std::move(request), std::move(reply));
  };
  ExpectRefused<v1::GetStatusRequest, v1::GetStatusResponse>(post);
  ExpectRefused<v1::ExplainTaskRequest, v1::ExplainTaskResponse>(post);
  ExpectRefused<v1::ListJobsRequest, v1::ListJobsResponse>(post);
  ExpectRefused<v1::GetJobRequest, v1::GetJobResponse>(post);
  ExpectRefused<v1::ListTasksRequest, v1::ListTasksResponse>(post);
  ExpectRefused<v1::ListWorkersRequest, v1::ListWorkersResponse>(post);
  ExpectRefused<v1::ListCorporaRequest, v1::ListCorporaResponse>(post);
  ExpectRefused<v1::ListTokensRequest, v1::ListTokensResponse>(post);
  ExpectRefused<v1::JobSelector, v1::JobSummary>(post);
  const auto post_as = [&loop](auto request, auto reply) {
    loop.Post(Caller(), std::move(request), std::move(reply));
  };
  ExpectRefused<v1::CancelJobRequest, v1::CancelJobResponse>(post_as);
  ExpectRefused<v1::ControlWorkerRequest, v1::ControlWorkerResponse>(post_as);
  ExpectRefused<v1::CollectGarbageRequest, v1::CollectGarbageResponse>(post_as);
  ExpectRefused<v1::AddCorpusRequest, v1::AddCorpusResponse>(post_as);
  ExpectRefused<v1::CreateTokenRequest, v1::CreateTokenResponse>(post_as);
  ExpectRefused<v1::RevokeTokenRequest, v1::RevokeTokenResponse>(post_as);
  ExpectRefused<v1::RotateTokenRequest, v1::RotateTokenResponse>(post_as);
  ExpectRefused<v1::ReleaseTaskRequest, v1::ReleaseTaskResponse>(post_as);
  ExpectRefused<v1::WorkerState, v1::DesiredState>(post_as);
  const auto post_prepared = [&loop](auto request, auto reply) {
    loop.Post(Caller(), std::move(request), std::move(reply), nullptr);
  };
  ExpectRefused<v1::SubmitJobRequest, v1::SubmitJobResponse>(post_prepared);
  ExpectRefused<v1::ControlJobRequest, v1::ControlJobResponse>(post_prepared);
  ExpectRefused<v1::JoinRequest, v1::JoinResponse>(
      [&loop](auto request, auto reply) {
        loop.PostJoin(TokenId(1), std::move(request), std::move(reply));
      });
  ExpectRefused<v1::ResultEnvelope, v1::CommitResultResponse>(
      [&loop](auto envelope, auto reply) {
        v1::CommitResultRequest request;
        *request.add_results() = std::move(envelope);
        loop.Post(Caller(), std::move(request), std::move(reply));
      });
  ExpectRefused<v1::WorkerState, v1::DesiredState>(
      [&loop](auto report, auto reply) {
        auto link = std::make_shared<RecordingLink>();
        report.mutable_hello();  // a beat that is lost closes nothing
        loop.PostAttach(Caller(), std::move(report), link, [] {});
        reply(link->closed.value_or(absl::UnknownError("open")));
      });
  ExpectRefused<v1::WatchJobRequest, v1::WatchEvent>(
      [&loop](auto request, auto reply) {
        auto sink = std::make_shared<RecordingSink>();
        loop.PostWatch(Caller(), std::move(request), sink);
        reply(sink->closed.value_or(absl::UnknownError("open")));
      });
  // Nobody waits for this one; it is not written.
  loop.PostAudit({.actor = "an address", .action = "refused"});
  QSWEEP_ASSERT_OK(harness.Step());
  auto database = Database::Open(DatabasePath(harness.directory()),
                                 Database::Mode::kReadOnly);
  QSWEEP_ASSERT_OK(database);
  EXPECT_EQ(*database->QueryInteger("SELECT count(*) FROM audit"), 0);
}

TEST(Loop, SaysOnceThatAReportWasTaken_AlsoWhenItIsRefusedOrRunAgain) {
  LoopHarness harness;
  auto link = std::make_shared<RecordingLink>();
  v1::WorkerState report;
  *report.mutable_hello() = MakeHello("w", {});
  int taken = 0;
  harness.loop().PostAttach(Caller{}, report, link, [&] { ++taken; });
  EXPECT_EQ(taken, 0);
  // Its batch fails: it is run again, alone.
  harness.store().FailNext(Fault::kBeforeCommit, absl::InternalError("batch"));
  QSWEEP_ASSERT_OK(harness.Step());
  EXPECT_EQ(taken, 1);
  harness.loop().Stop();
  auto late = std::make_shared<RecordingLink>();
  harness.loop().PostAttach(Caller{}, report, late, [&] { ++taken; });
  EXPECT_EQ(taken, 2);
  EXPECT_TRUE(late->closed.has_value());
}

}  // namespace
}  // namespace qsweep::testing
