#include "common/rpc/worker_client.h"

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/mutex.h"
#include "common/rpc/status_conversion.h"
#include "tests/support/scripted_worker_service.h"
#include "tests/support/temp_dir.h"

namespace qsweep {
namespace {

// What the callbacks of one stream said.
class StreamListener {
 public:
  AttachCallbacks callbacks() {
    return {.on_state =
                [this](v1::DesiredState state) {
                  MutexLock lock(mutex_);
                  state_ = std::move(state);
                  changed_.NotifyAll();
                },
            .on_closed =
                [this](absl::Status why) {
                  MutexLock lock(mutex_);
                  EXPECT_FALSE(closed_.has_value());
                  closed_ = std::move(why);
                  changed_.NotifyAll();
                }};
  }
  v1::DesiredState State() { return *Await(state_); }
  absl::Status Closed() { return *Await(closed_); }
  bool is_closed() {
    MutexLock lock(mutex_);
    return closed_.has_value();
  }

 private:
  template <typename T>
  std::optional<T> Await(std::optional<T>& value) {
    MutexLock lock(mutex_);
    while (!value) {
      if (changed_.WaitFor(mutex_, absl::Seconds(20))) {
        ADD_FAILURE() << "nothing came";
        return T();
      }
    }
    return value;
  }
  Mutex mutex_;
  CondVar changed_;
  std::optional<v1::DesiredState> state_;
  std::optional<absl::Status> closed_;
};

v1::WorkerState Beat(uint64_t seq) {
  v1::WorkerState state;
  state.set_beat_seq(seq);
  if (seq == 1) {
    state.mutable_hello()->set_name("w");
  }
  return state;
}

TEST(WorkerClient, CarriesStatesBothWays) {
  const testing::TempDir dir;
  ScriptedWorkerService service(dir / "s");
  const auto client = MakeWorkerClient(service.endpoint());
  StreamListener listener;
  const auto stream = client->Attach(Beat(1), listener.callbacks());
  EXPECT_EQ(service.NextState().hello().name(), "w");
  stream->Send(Beat(2));
  EXPECT_EQ(service.NextState().beat_seq(), 2u);
  v1::DesiredState desired;
  desired.set_state_seq(7);
  service.Push(desired);
  EXPECT_EQ(listener.State().state_seq(), 7u);
}

TEST(WorkerClient, SendsTheHelloFirstAndTheNewestLast_WhenManyAreSentAtOnce) {
  const testing::TempDir dir;
  ScriptedWorkerService service(dir / "s");
  const auto client = MakeWorkerClient(service.endpoint());
  StreamListener listener;
  const auto stream = client->Attach(Beat(1), listener.callbacks());
  for (uint64_t seq = 2; seq <= 5000; ++seq) {
    stream->Send(Beat(seq));
  }
  uint64_t last = service.NextState().beat_seq();
  EXPECT_EQ(last, 1u);
  int received = 1;
  while (last < 5000) {
    const uint64_t next = service.NextState().beat_seq();
    ASSERT_GT(next, last);
    last = next;
    ++received;
  }
  EXPECT_LT(received, 5000);  // older ones were replaced
}

TEST(WorkerClient, SaysWhyAStreamEnded) {
  const testing::TempDir dir;
  StreamListener unreachable;
  {
    const auto client = MakeWorkerClient({.address = "unix:" + (dir / "none")});
    const auto stream = client->Attach(Beat(1), unreachable.callbacks());
    const absl::Status why = unreachable.Closed();
    EXPECT_EQ(GetErrorInfo(why)->code, "QS4001");
    EXPECT_EQ(GetErrorInfo(why)->hint,
              "start one: qctl up --dir " + dir.path());
    stream->Send(Beat(2));  // nothing happens
  }
  ScriptedWorkerService service(dir / "s");
  service.Refuse(absl::PermissionDeniedError("role"));
  const auto client = MakeWorkerClient(service.endpoint());
  StreamListener refused;
  const auto stream = client->Attach(Beat(1), refused.callbacks());
  EXPECT_TRUE(absl::IsPermissionDenied(refused.Closed()));
}

TEST(WorkerClient, SaysNothingMore_OnceASessionIsDestroyed) {
  const testing::TempDir dir;
  ScriptedWorkerService service(dir / "s");
  std::atomic<bool> destroyed = false;
  const auto check = [&destroyed] { EXPECT_FALSE(destroyed); };
  for (int i = 0; i < 50; ++i) {
    destroyed = false;
    auto client = MakeWorkerClient(service.endpoint());
    const AttachCallbacks callbacks = {
        .on_state = [&](const v1::DesiredState&) { check(); },
        .on_closed = [&](const absl::Status&) { check(); }};
    auto stream = client->Attach(Beat(1), callbacks);
    auto polls = client->Poll(Beat(1), callbacks);
    stream->Send(Beat(2));
    polls->Send(Beat(2));
    service.AnswerPoll({});
    stream.reset();
    polls.reset();
    destroyed = true;
    client.reset();  // waits for what gRPC has not finished
  }
}

TEST(WorkerClient, ConnectsAtOnce_WhenACoordinatorIsThereAgain) {
  const testing::TempDir dir;
  const auto client = MakeWorkerClient({.address = "unix:" + (dir / "s")});
  for (int i = 0; i < 3; ++i) {
    StreamListener refused;
    const auto stream = client->Attach(Beat(1), refused.callbacks());
    EXPECT_EQ(GetErrorInfo(refused.Closed())->code, "QS4001");
  }
  ScriptedWorkerService service(dir / "s");
  StreamListener listener;
  const auto stream = client->Attach(Beat(1), listener.callbacks());
  EXPECT_EQ(service.NextState().hello().name(), "w");  // no second try
  service.Push({});
  listener.State();
}

TEST(WorkerClient, CarriesStatesBothWays_ByPolls) {
  const testing::TempDir dir;
  ScriptedWorkerService service(dir / "s");
  const auto client = MakeWorkerClient(service.endpoint());
  StreamListener listener;
  const auto polls = client->Poll(Beat(1), listener.callbacks());
  EXPECT_EQ(service.NextState().hello().name(), "w");
  polls->Send(Beat(2));  // takes the place of the first, which is no end
  EXPECT_EQ(service.NextState().beat_seq(), 2u);
  v1::DesiredState desired;
  desired.set_state_seq(7);
  service.AnswerPoll(desired);
  EXPECT_EQ(listener.State().state_seq(), 7u);
}

TEST(WorkerClient, GoesOnPolling_WhenAnOlderPollIsEndedLate) {
  const testing::TempDir dir;
  ScriptedWorkerService service(dir / "s");
  service.HoldOvertakenPolls(true);
  auto client = MakeWorkerClient(service.endpoint());
  StreamListener listener;
  const auto polls = client->Poll(Beat(1), listener.callbacks());
  service.NextState();
  polls->Send(Beat(2));
  service.NextState();
  service.AnswerPoll({});
  listener.State();
  service.HoldOvertakenPolls(false);
  client.reset();  // waits until the first call has ended
  EXPECT_FALSE(listener.is_closed());
}

TEST(WorkerClient, SaysWhyPollsEnded) {
  const testing::TempDir dir;
  StreamListener unreachable;
  const auto nobody = MakeWorkerClient({.address = "unix:" + (dir / "none")});
  const auto polls = nobody->Poll(Beat(1), unreachable.callbacks());
  EXPECT_EQ(GetErrorInfo(unreachable.Closed())->code, "QS4001");
  polls->Send(Beat(2));  // nothing happens
  ScriptedWorkerService service(dir / "s");
  service.Refuse(MakeError(kWorkerSuperseded, "a newer process"));
  const auto client = MakeWorkerClient(service.endpoint());
  StreamListener refused;
  const auto ended = client->Poll(Beat(1), refused.callbacks());
  EXPECT_EQ(GetErrorInfo(refused.Closed())->code, "QS5010");
}

TEST(WorkerClient, TellsABrokenStreamFromNoConnection) {
  const testing::TempDir dir;
  ScriptedWorkerService service(dir / "s");
  service.Refuse(absl::UnavailableError("bad gateway"));
  const auto client = MakeWorkerClient(service.endpoint());
  StreamListener broken;
  const auto stream = client->Attach(Beat(1), broken.callbacks());
  const absl::Status why = broken.Closed();
  EXPECT_TRUE(absl::IsUnavailable(why));
  EXPECT_FALSE(GetErrorInfo(why).has_value());
}

TEST(WorkerClient, ReturnsOneOutcomePerResult) {
  const testing::TempDir dir;
  ScriptedWorkerService service(dir / "s");
  service.AnswerCommitsWith(v1::COMMIT_OUTCOME_SUPERSEDED);
  const auto client = MakeWorkerClient(service.endpoint());
  v1::CommitResultRequest request;
  request.add_results()->set_task_id(1);
  request.add_results()->set_task_id(2);
  const auto response = client->CommitResult(request);
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_EQ(response->results_size(), 2);
  EXPECT_EQ(response->results(1).outcome(), v1::COMMIT_OUTCOME_SUPERSEDED);
  service.Refuse(absl::ResourceExhaustedError("full"));
  EXPECT_TRUE(
      absl::IsResourceExhausted(client->CommitResult(request).status()));
}

TEST(WorkerClient, JoinsAndChecksAnArtifact) {
  const testing::TempDir dir;
  ScriptedWorkerService service(dir / "s");
  const auto client = MakeWorkerClient(service.endpoint());
  const std::string bytes = "all human beings are born free";
  const auto got = client->GetArtifact(service.AddArtifact(bytes));
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(*got, bytes);
  EXPECT_TRUE(absl::IsNotFound(
      client->GetArtifact(Digest::Of("something else")).status()));
}

// As on a connection that died unseen: gRPC may take longer than a call may.
TEST(WorkerClient, EndsWaitingCalls_WhenASessionAfterASilentOneIsWelcome) {
  const testing::TempDir dir;
  ScriptedWorkerService service(dir / "s");
  service.HoldCommits();
  const auto client = MakeWorkerClient(service.endpoint());
  StreamListener listener;
  auto stream = client->Attach(Beat(1), listener.callbacks());
  service.NextState();
  absl::Status answer;
  std::thread thread([&] {
    v1::CommitResultRequest request;
    request.add_results()->set_task_id(1);
    answer = client->CommitResult(request).status();
  });
  service.NextCommit();
  stream.reset();
  stream = client->Attach(Beat(1), listener.callbacks());
  service.NextState();
  v1::DesiredState desired;
  desired.mutable_welcome()->set_session_id("again");
  service.Push(desired);
  thread.join();
  EXPECT_TRUE(absl::IsUnavailable(answer)) << answer;
}

TEST(WorkerClient, EndsItsCalls_WhenTheyAreCancelled) {
  const testing::TempDir dir;
  ScriptedWorkerService service(dir / "s");
  const auto client = MakeWorkerClient(service.endpoint());
  client->CancelCalls();
  EXPECT_TRUE(absl::IsCancelled(client->ReleaseTask({})));
}

}  // namespace
}  // namespace qsweep
