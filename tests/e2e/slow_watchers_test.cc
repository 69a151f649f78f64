// Watchers that stop reading cost no memory to speak of and hold nobody up;
// they go on where they were.
#include "tests/e2e/slow_watchers.h"

#include <memory>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "common/rpc/status_conversion.h"
#include "qsweep/v1/coordinator.grpc.pb.h"
#include "tests/e2e/soak.h"
#include "tests/support/error_matchers.h"

namespace qsweep::testing {
namespace {

constexpr int kTasks = 900;
constexpr int kProcesses = 3;
constexpr int kReaders = 40;
constexpr int64_t kMiB = int64_t{1} << 20;

// A watcher on a connection of its own that reads one message and then nothing
// until it is told to. Its window stays at what HTTP/2 begins with: a probe
// would let gRPC take in as much as the coordinator has to say.
class StoppedReader {
 public:
  StoppedReader(const std::string& address, const std::string& job) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    stub_ = v1::CoordinatorService::NewStub(grpc::CreateCustomChannel(
        address, grpc::InsecureChannelCredentials(), arguments));
    request_.mutable_job()->set_text(job);
    Open();
    v1::WatchEvent snapshot;
    EXPECT_TRUE(reader_->Read(&snapshot) && snapshot.has_snapshot());
  }

  // Reads the stream to its end; how it ended.
  absl::Status Finish() {
    v1::WatchEvent event;
    while (reader_->Read(&event)) {
      if (event.has_durable()) {
        gaps_ += event.durable().job_seq() != job_seq_ + 1;
        job_seq_ = event.durable().job_seq();
        request_.set_from_seq(event.durable().seq());
      }
    }
    return FromGrpcStatus(reader_->Finish());
  }
  // Watches on from where it was, as often as it takes. Should it be cut once
  // more, it has come further.
  absl::Status Resume() {
    while (true) {
      const uint64_t before = job_seq_;
      Open();
      const absl::Status ended = Finish();
      if (CodeOf(ended) != "QS4040" || job_seq_ == before) {
        return ended;
      }
    }
  }
  uint64_t job_seq() const { return job_seq_; }
  int gaps() const { return gaps_; }

 private:
  void Open() {
    reader_.reset();
    context_ = std::make_unique<grpc::ClientContext>();
    reader_ = stub_->WatchJob(context_.get(), request_);
  }

  std::unique_ptr<v1::CoordinatorService::Stub> stub_;
  v1::WatchJobRequest request_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReader<v1::WatchEvent>> reader_;
  uint64_t job_seq_ = 0;
  int gaps_ = 0;
};

TEST(SlowWatchers, AreCutWithAName_AndGoOnWithoutAGap) {
  SlowWatchers load(kTasks);
  ASSERT_NO_FATAL_FAILURE(load.Start());
  LocalCluster& cluster = load.cluster();
  const std::string job = load.SubmitJob();
  ASSERT_NO_FATAL_FAILURE(load.StopWatchers(job, kProcesses));
  std::vector<std::unique_ptr<StoppedReader>> readers;
  for (int i = 0; i < kReaders; ++i) {
    readers.push_back(
        std::make_unique<StoppedReader>(cluster.endpoint().address, job));
  }
  const auto rss = [&cluster] {
    return SampleResources(cluster.coordinator().pid(), "").rss_bytes;
  };
  const int64_t before = rss();
  load.Work(job);  // the workers are not held up
  EXPECT_LT(rss() - before, 24 * kMiB);

  const int64_t last =
      cluster.QueryInteger("SELECT max(job_seq) FROM events_v1 WHERE job = 1");
  for (const auto& reader : readers) {
    EXPECT_EQ(CodeOf(reader->Finish()), "QS4040");
    EXPECT_GT(reader->job_seq(), 0u);
    EXPECT_LT(static_cast<int64_t>(reader->job_seq()), last);
  }
  QSWEEP_EXPECT_OK(readers.front()->Resume());
  EXPECT_EQ(static_cast<int64_t>(readers.front()->job_seq()), last);
  EXPECT_EQ(readers.front()->gaps(), 0);
  load.ContinueWatchers();
}

}  // namespace
}  // namespace qsweep::testing
