// A stream of a worker over real gRPC, with a loop that takes a step when told.
#include "coordinator/service/attach_reactor.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include <grpcpp/grpcpp.h>

#include "qsweep/v1/worker.grpc.pb.h"
#include "tests/support/child_process.h"
#include "tests/support/error_matchers.h"
#include "tests/support/loop_harness.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {
namespace {

class AttachService : public v1::WorkerService::CallbackService {
 public:
  explicit AttachService(Loop& loop) : loop_(loop) {}
  grpc::ServerBidiReactor<v1::WorkerState, v1::DesiredState>* Attach(
      grpc::CallbackServerContext*) override {
    return NewAttachReactor(loop_, Caller{});
  }

 private:
  Loop& loop_;
};

class AttachReactorTest : public ::testing::Test {
 protected:
  // More than any window that gRPC opens for it: 100 MB.
  static constexpr int kBeats = 10'000;
  static constexpr size_t kBeatBytes = 10'000;

  void SetUp() override {
    const std::string address = absl::StrCat("unix:", directory_.path(), "/s");
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    stub_ = v1::WorkerService::NewStub(
        grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
    stream_ = stub_->Attach(&context_);
  }
  void TearDown() override {
    context_.TryCancel();
    if (writer_.joinable()) {
      writer_.join();
    }
    harness_.loop().End(absl::OkStatus());
    server_->Shutdown();
  }

  // Steps until done(), for so long at most; whether it was.
  bool StepUntil(absl::Duration timeout, const std::function<bool()>& done) {
    return AwaitTrue(timeout, [&] {
      for (int i = 0; i < 100 && !done(); ++i) {
        QSWEEP_EXPECT_OK(harness_.StepAfter(absl::Milliseconds(100)));
      }
      return done();
    });
  }

  void SayHello() {
    v1::WorkerState hello;
    *hello.mutable_hello() = MakeHello("w", {});
    hello.set_beat_seq(1);
    hello.set_credits(2);
    ASSERT_TRUE(stream_->Write(hello));
    v1::DesiredState answer;
    std::thread reader([&] { EXPECT_TRUE(stream_->Read(&answer)); });
    EXPECT_TRUE(StepUntil(absl::Seconds(20),
                          [&] { return !harness_.state().workers().empty(); }));
    reader.join();
    session_ = answer.welcome().session_id();
  }

  // Beats, as fast as they go out, without a look at the answers.
  void StartBeating() {
    writer_ = std::thread([this] {
      v1::WorkerState beat;
      beat.set_session_id(session_);
      beat.set_credits(2);
      beat.GetReflection()->MutableUnknownFields(&beat)->AddLengthDelimited(
          1000, std::string(kBeatBytes, 'x'));
      for (int i = 0; i < kBeats; ++i) {
        beat.set_beat_seq(static_cast<uint64_t>(i) + 2);
        if (!stream_->Write(beat)) {
          return;
        }
        ++written_;
      }
    });
  }

  // The last one that the loop took.
  uint64_t Beat() {
    return harness_.state().workers().begin()->second.beat_seq;
  }

  LoopHarness harness_;
  AttachService service_{harness_.loop()};
  TempDir directory_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerState, v1::DesiredState>>
      stream_;
  std::string session_;
  std::atomic<int> written_ = 0;
  std::thread writer_;
};

TEST_F(AttachReactorTest, StopsReading_WhileTheLoopDoesNotTakeWhatCame) {
  SayHello();
  StartBeating();
  EXPECT_TRUE(AwaitTrue(absl::Seconds(60), [this] {
    const int before = written_;
    return before > 0 && !AwaitTrue(absl::Seconds(1), [this, before] {
             return written_ != before;
           });
  }));
  EXPECT_LT(written_, kBeats);
  EXPECT_TRUE(StepUntil(absl::Seconds(60), [this] { return Beat() > 100; }));
}

TEST_F(AttachReactorTest, StopsReading_WhileItsWorkerDoesNotReadAnswers) {
  harness_.AddCorpus(1500);
  QSWEEP_ASSERT_OK(harness_.Submit({.uuid = "a"}));
  SayHello();
  // It lists no lease, so each answer has the specs again: 50 kB.
  StartBeating();
  EXPECT_TRUE(AwaitTrue(absl::Seconds(60), [this] {
    const uint64_t before = Beat();
    return !StepUntil(absl::Seconds(1),
                      [this, before] { return Beat() != before; });
  }));
  EXPECT_LT(written_, kBeats);
  const uint64_t held = Beat();
  std::thread reader([this] {
    v1::DesiredState answer;
    while (stream_->Read(&answer)) {
    }
  });
  EXPECT_TRUE(StepUntil(absl::Seconds(60),
                        [this, held] { return Beat() > held + 100; }));
  context_.TryCancel();
  reader.join();
}

}  // namespace
}  // namespace qsweep::testing
