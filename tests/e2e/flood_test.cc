// What strangers can make a coordinator keep in memory.
#include <fstream>
#include <future>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);

int64_t PeakMiB(pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  std::string word;
  int64_t kib = 0;
  while (status >> word) {
    if (word == "VmHWM:") {
      status >> kib;
    }
  }
  return kib >> 10;
}

struct PendingCall {
  grpc::ClientContext context;
  grpc::ByteBuffer response;
  std::promise<grpc::Status> done;
};

// Three gigabytes, of which gRPC would keep all: it looks at a message when it
// has the whole of it.
TEST(Flood, OfLargeMessagesWithoutAToken_LeavesMemoryBounded) {
  constexpr int kConnections = 6;
  constexpr int kCalls = 8;  // of each at a time
  const TempDir dir;
  const auto coordinator = ChildProcess::Start(
      {.argv = {QSWEEP_BINARY_DIR "/bin/qcoordinator", "serve", "--dir",
                dir / "c", "--listen", "127.0.0.1:0"},
       .log_path = dir / "log"});
  std::string address;
  ASSERT_TRUE(AwaitTrue(kPatience, [&] {
    std::ifstream file(dir / "c/server");
    return static_cast<bool>(std::getline(file, address));
  }));
  const grpc::Slice bytes(std::string(64 << 20, 'x'));  // shared by all
  const grpc::ByteBuffer message(&bytes, 1);
  std::list<PendingCall> calls;
  std::vector<std::unique_ptr<grpc::GenericStub>> stubs;
  for (int c = 0; c < kConnections; ++c) {
    grpc::ChannelArguments own;
    own.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    own.SetMaxSendMessageSize(-1);
    stubs.push_back(
        std::make_unique<grpc::GenericStub>(grpc::CreateCustomChannel(
            address, grpc::InsecureChannelCredentials(), own)));
    for (int i = 0; i < kCalls; ++i) {
      PendingCall& call = calls.emplace_back();
      call.context.set_deadline(std::chrono::system_clock::now() +
                                absl::ToChronoMilliseconds(kPatience));
      stubs.back()->UnaryCall(
          &call.context, "/qsweep.v1.CoordinatorService/SubmitJob", {},
          &message, &call.response,
          [&call](grpc::Status status) { call.done.set_value(status); });
    }
  }
  for (PendingCall& call : calls) {
    const grpc::Status status = call.done.get_future().get();
    EXPECT_FALSE(status.ok());
    EXPECT_NE(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  EXPECT_LT(PeakMiB(coordinator->pid()), 800);
  // It serves on.
  PendingCall last;
  const grpc::Slice nothing;
  const grpc::ByteBuffer empty(&nothing, 1);
  stubs.back()->UnaryCall(
      &last.context, "/grpc.health.v1.Health/Check", {}, &empty, &last.response,
      [&last](grpc::Status status) { last.done.set_value(status); });
  const grpc::Status health = last.done.get_future().get();
  EXPECT_TRUE(health.ok()) << health.error_message();
  EXPECT_TRUE(coordinator->running());
}

}  // namespace
}  // namespace qsweep::testing
