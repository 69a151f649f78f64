#include "worker/engine/pipe.h"

#include <atomic>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/mutex.h"
#include "common/job/configuration.h"
#include "common/rpc/frame.h"
#include "tests/support/error_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_llama.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::TempDir;
using testing::TinyLlama;

// The agent's end of the pipe, and ServePipe on a thread.
class Served {
 public:
  explicit Served(Engine& engine) {
    int fds[2] = {};
    EXPECT_EQ(pipe(fds), 0);
    in_ = fds[0];
    to_engine_ = fds[1];
    EXPECT_EQ(pipe(fds), 0);
    from_engine_ = fds[0];
    out_ = fds[1];
    reader_ = std::make_unique<FrameReader>(from_engine_);
    server_ = std::jthread([this, &engine] {
      status_ = ServePipe(engine, in_, out_, [this] {
        ended_ = true;
        ended_.notify_all();
      });
    });
  }
  ~Served() {
    Finish().IgnoreError();
    close(in_);
    close(out_);
    close(from_engine_);
  }

  void Send(const v1::EngineRequest& request) {
    EXPECT_TRUE(WriteFrame(to_engine_, request.SerializeAsString()).ok());
  }
  void SendBytes(const std::string& bytes) {
    EXPECT_EQ(write(to_engine_, bytes.data(), bytes.size()),
              static_cast<ssize_t>(bytes.size()));
  }
  v1::EngineEvent Next() {
    v1::EngineEvent event;
    const auto frame = reader_->Read();
    EXPECT_TRUE(frame.ok() && frame->has_value());
    EXPECT_TRUE(event.ParseFromString(frame->value_or("")));
    return event;
  }
  // The next event that is no progress.
  v1::EngineEvent NextOutcome() {
    v1::EngineEvent event = Next();
    while (event.has_progress()) {
      event = Next();
    }
    return event;
  }
  // Waits for the engine's own end, its stdin being open.
  void AwaitEnd() { ended_.wait(false); }
  // Ends the engine's stdin and waits for ServePipe.
  absl::Status Finish() {
    if (to_engine_ >= 0) {
      close(to_engine_);
      to_engine_ = -1;
    }
    if (server_.joinable()) {
      server_.join();
    }
    return status_;
  }
  bool ended() const { return ended_; }

 private:
  int in_ = -1, out_ = -1, to_engine_ = -1, from_engine_ = -1;
  std::unique_ptr<FrameReader> reader_;
  absl::Status status_;
  std::atomic<bool> ended_ = false;
  std::jthread server_;
};

// Runs until it is cancelled.
class PatientEngine : public Engine {
 public:
  const EngineInfo& info() const override { return info_; }
  absl::StatusOr<const ModelDescription*> Describe(
      const std::string&) override {
    return absl::UnimplementedError("no model");
  }
  absl::StatusOr<EngineResult> Run(const EngineTask&, EngineSink& sink,
                                   std::stop_token stop) override {
    sink.OnProgress({.fraction = 0.5, .text = "waiting"});
    Mutex mutex;
    CondVar stopped;
    const std::stop_callback wake(stop, [&] {
      const MutexLock lock(mutex);
      stopped.NotifyAll();
    });
    const MutexLock lock(mutex);
    while (!stop.stop_requested()) {
      stopped.WaitFor(mutex, absl::Seconds(1));
    }
    return absl::CancelledError("cancelled");
  }
  absl::StatusOr<std::shared_ptr<const kernels::CodedTensor>> FindCodes(
      const std::string&, const Scheme&) override {
    return absl::NotFoundError("no codes");
  }

 private:
  EngineInfo info_ = {.fingerprint = "patient", .device = "cpu"};
};

// Its GPU has failed.
class BrokenEngine : public PatientEngine {
 public:
  absl::StatusOr<EngineResult> Run(const EngineTask&, EngineSink&,
                                   std::stop_token) override {
    return MakeError(kDeviceFailed, "an illegal memory access");
  }
};

v1::EngineRequest RunRequest(uint64_t task_id) {
  v1::EngineRequest request;
  request.mutable_run()->mutable_task()->set_task_id(task_id);
  return request;
}

v1::EngineRequest CancelRequest(uint64_t task_id) {
  v1::EngineRequest request;
  request.mutable_cancel()->set_task_id(task_id);
  return request;
}

TEST(ServePipe, SaysReadyFirst) {
  PatientEngine engine;
  Served served(engine);
  const v1::EngineEvent event = served.Next();
  ASSERT_TRUE(event.has_ready());
  EXPECT_EQ(event.ready().fingerprint(), "patient");
  EXPECT_EQ(event.ready().evaluations_size(), 2);
  EXPECT_TRUE(served.Finish().ok());
  EXPECT_TRUE(served.ended());
}

TEST(ServePipe, RefusesASecondTaskAndCancelsTheFirst) {
  PatientEngine engine;
  Served served(engine);
  served.Next();
  served.Send(RunRequest(7));
  v1::EngineEvent event = served.Next();
  ASSERT_TRUE(event.has_progress());
  EXPECT_EQ(event.progress().task_id(), 7u);
  EXPECT_EQ(event.progress().progress().progress_seq(), 1u);
  EXPECT_EQ(event.progress().progress().phase(), v1::TASK_PHASE_RUN);

  served.Send(RunRequest(8));
  event = served.Next();
  ASSERT_TRUE(event.has_failed());
  EXPECT_EQ(event.failed().task_id(), 8u);
  EXPECT_EQ(event.failed().failure().status_code(),
            static_cast<int>(absl::StatusCode::kFailedPrecondition));

  served.Send(CancelRequest(8));  // does not run: no effect
  served.Send(CancelRequest(7));
  event = served.Next();
  ASSERT_TRUE(event.has_failed());
  EXPECT_EQ(event.failed().task_id(), 7u);
  EXPECT_EQ(event.failed().failure().status_code(),
            static_cast<int>(absl::StatusCode::kCancelled));

  served.Send(RunRequest(9));  // free again
  EXPECT_EQ(served.Next().progress().task_id(), 9u);
}

TEST(ServePipe, EndsAfterItsAnswer_WhenTheGpuHasFailed) {
  BrokenEngine engine;
  Served served(engine);
  served.Next();
  served.Send(RunRequest(7));
  const v1::EngineEvent event = served.Next();
  ASSERT_TRUE(event.has_failed());
  EXPECT_EQ(event.failed().failure().detail().code(), "QS5013");
  EXPECT_TRUE(event.failed().failure().retryable());
  // Its own end, which comes after the answer, not that of its stdin, which
  // would be OK.
  served.AwaitEnd();
  EXPECT_EQ(served.Finish().code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(served.ended());
}

TEST(ServePipe, Ends_WhenTheAgentGoesInTheMiddleOfATask) {
  PatientEngine engine;
  Served served(engine);
  served.Next();
  served.Send(RunRequest(7));
  served.Next();
  EXPECT_TRUE(served.Finish().ok());
  EXPECT_TRUE(served.ended());
}

TEST(ServePipe, ReportsDamage_WhenAFrameIsNone) {
  PatientEngine engine;
  for (const std::string& bytes :
       {std::string("\x03\xFF\xFF\xFF"), std::string(11, '\xFF')}) {
    Served served(engine);
    served.Next();
    served.SendBytes(bytes);
    EXPECT_EQ(served.Finish().code(), absl::StatusCode::kDataLoss);
  }
}

// A task over one English document, as an agent sends it.
class RealPipeTest : public ::testing::Test {
 protected:
  RealPipeTest() {
    TinyLlama().WriteTo(directory_);
    engine_ = Engine::Create({.device = "cpu", .threads = 1}).value();
    model_ = **engine_->Describe(directory_.path());
  }

  v1::EngineRequest Request() const {
    v1::EngineRequest request = RunRequest(3);
    v1::EngineRun& run = *request.mutable_run();
    run.set_model_path(directory_.path());
    run.mutable_task()->set_model_digest(model_.digest.bytes());
    run.mutable_task()->set_evaluation(
        *EvaluationText("aligned", model_.tokenizer_digest, 0));
    run.mutable_task()->set_compute(v1::COMPUTE_FP32);
    for (const auto& [quantizer, layer_set] :
         {std::pair("fp", "all"), std::pair("rtn:bits=4,group=32", "L1")}) {
      v1::ConfigurationSpec& spec = *run.mutable_task()->add_configurations();
      spec.set_quantizer(quantizer);
      spec.set_layer_set(layer_set);
      spec.set_digest(
          ParseConfiguration(model_, quantizer, layer_set, Compute::kFp32)
              ->digest.bytes());
    }
    run.mutable_task()->add_languages()->set_language("eng");
    v1::LanguageCorpus& corpus = *run.add_languages();
    corpus.set_language("eng");
    for (const char* text : {"Everyone has the right", "", "to life"}) {
      corpus.add_documents()->set_text(text);
    }
    for (const char* text : {"to life", ""}) {
      run.mutable_task()->add_documents()->set_digest(Digest::Of(text).bytes());
    }
    return request;
  }

  TempDir directory_;
  std::unique_ptr<Engine> engine_;
  ModelDescription model_;
};

TEST_F(RealPipeTest, AnswersATaskWithItsRows) {
  Served served(*engine_);
  served.Next();
  served.Send(Request());
  const v1::EngineEvent event = served.NextOutcome();
  ASSERT_TRUE(event.has_done()) << event.ShortDebugString();
  EXPECT_EQ(event.done().task_id(), 3u);
  const v1::TaskResult& result = event.done().result();
  ASSERT_EQ(result.rows_size(), 4);
  const v1::Measurement& quantized = result.rows(1);
  EXPECT_EQ(quantized.configuration_index(), 1u);
  EXPECT_EQ(quantized.document_index(), 0u);
  EXPECT_EQ(quantized.status(), v1::ROW_STATUS_OK);
  EXPECT_EQ(quantized.tokens(), 7u);
  EXPECT_TRUE(quantized.has_kl_sum());
  EXPECT_GT(quantized.kl_sum(), 0);
  EXPECT_GT(quantized.unigram_nll_sum(), 0);
  const v1::Measurement& empty = result.rows(2);
  EXPECT_EQ(empty.status(), v1::ROW_STATUS_EMPTY);
  EXPECT_FALSE(empty.has_kl_sum());
  EXPECT_EQ(result.report().layer_evaluations(),
            result.report().layer_evaluations_planned());
  EXPECT_EQ(result.report().engine(), engine_->info().fingerprint);
}

TEST_F(RealPipeTest, FailsTheTask_WhenItIsNotForThisModel) {
  Served served(*engine_);
  served.Next();
  v1::EngineRequest request = Request();
  request.mutable_run()->mutable_task()->set_model_digest(
      Digest::Of("another").bytes());
  served.Send(request);
  v1::EngineEvent event = served.NextOutcome();
  ASSERT_TRUE(event.has_failed());
  EXPECT_EQ(event.failed().failure().detail().code(), "QS3010");
  // Another machine may have the right one.
  EXPECT_TRUE(event.failed().failure().retryable());

  request = Request();
  request.mutable_run()->mutable_task()->mutable_documents(1)->set_digest(
      Digest::Of("not sent").bytes());
  served.Send(request);
  event = served.NextOutcome();
  ASSERT_TRUE(event.has_failed());
  EXPECT_EQ(event.failed().failure().detail().code(), "QS4042");

  served.Send(Request());  // and the engine goes on
  EXPECT_TRUE(served.NextOutcome().has_done());
}

}  // namespace
}  // namespace qsweep
