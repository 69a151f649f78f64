// What an agent may rely on, of the real engine and of the fake one.
#include <memory>
#include <set>
#include <signal.h>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/clock.h"
#include "common/job/configuration.h"
#include "tests/support/engine_listener.h"
#include "tests/support/real_engine.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_llama.h"
#include "worker/agent/engine_process.h"
#include "worker/model/checkpoint.h"

namespace qsweep::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

constexpr char kFakeEngine[] = "/tests/fake_qengine";
constexpr char kRealEngine[] = "/bin/qengine";

// A tiny model and tasks on it.
class EnginePipe : public ::testing::TestWithParam<const char*> {
 protected:
  static void SetUpTestSuite() {
    signal(SIGPIPE, SIG_IGN);
    // The fake takes this long for a task; the real one takes what it takes.
    setenv("QSWEEP_FAKE_DELAY_MS", "300", 1);
    TinyLlama llama;
    llama.context_length = 4096;
    model_dir_ = std::make_unique<TempDir>();
    llama.WriteTo(*model_dir_);
    const auto checkpoint = Checkpoint::Open(model_dir_->path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    model_ = std::make_unique<ModelDescription>(*(*checkpoint)->Describe(""));
  }
  static void TearDownTestSuite() {
    model_.reset();
    model_dir_.reset();
  }

  void SetUp() override {
    if (GetParam() == absl::string_view(kRealEngine)) {
      QSWEEP_SKIP_WITHOUT_ENGINE();
    }
    auto engine = EngineProcess::Start(
        {.program = absl::StrCat(QSWEEP_BINARY_DIR, GetParam()),
         .arguments = {"serve", "--threads", "1"}},
        listener_.callbacks());
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
    const v1::EngineEvent first = listener_.Next();
    ASSERT_TRUE(first.has_ready()) << first.ShortDebugString();
    ready_ = first.ready();
  }

  // Three configurations on documents of `bytes` bytes in two languages.
  v1::EngineRequest Run(uint64_t task_id, int bytes) const {
    v1::EngineRequest request;
    v1::EngineRun& run = *request.mutable_run();
    run.set_model_path(model_dir_->path());
    v1::TaskSpec& task = *run.mutable_task();
    task.set_task_id(task_id);
    task.set_model_digest(model_->digest.bytes());
    task.set_evaluation(
        *EvaluationText("aligned", model_->tokenizer_digest, 0));
    task.set_compute(v1::COMPUTE_FP32);
    for (const char* layer_set : {"all", "none", "L1"}) {
      const Configuration configuration =
          *MakeConfiguration(*model_, *ParseQuantizer("rtn:bits=4,group=32"),
                             *LayerSet::Parse(layer_set), Compute::kFp32);
      v1::ConfigurationSpec& spec = *task.add_configurations();
      spec.set_digest(configuration.digest.bytes());
      spec.set_quantizer(configuration.quantizer_text);
      spec.set_layer_set(configuration.layer_set_text);
    }
    for (uint32_t language = 0; language < 2; ++language) {
      const std::string code = language == 0 ? "deu" : "eng";
      v1::LanguageCorpus& corpus = *run.add_languages();
      corpus.set_language(code);
      task.add_languages()->set_language(code);
      for (int i = 0; i < 2; ++i) {
        v1::Document& document = *corpus.add_documents();
        document.set_id(absl::StrCat(i));
        std::string text = absl::StrCat(code, " ", i, " ");
        while (text.size() < static_cast<size_t>(bytes)) {
          text += static_cast<char>('a' + (text.size() * 7 + language) % 26);
        }
        document.set_text(text);
        document.set_digest(Digest::Of(text).bytes());
        v1::TaskDocument& in_task = *task.add_documents();
        in_task.set_language_index(language);
        in_task.set_digest(document.digest());
      }
    }
    return request;
  }
  static v1::EngineRequest Cancel(uint64_t task_id) {
    v1::EngineRequest request;
    request.mutable_cancel()->set_task_id(task_id);
    return request;
  }
  void Send(const v1::EngineRequest& request) {
    const absl::Status sent = engine_->Send(request);
    ASSERT_TRUE(sent.ok()) << sent;
  }

  static std::unique_ptr<TempDir> model_dir_;
  static std::unique_ptr<ModelDescription> model_;
  EngineListener listener_;
  std::unique_ptr<EngineProcess> engine_;
  v1::EngineReady ready_;
};

std::unique_ptr<TempDir> EnginePipe::model_dir_;
std::unique_ptr<ModelDescription> EnginePipe::model_;

constexpr int kShort = 60;    // bytes of a document
constexpr int kLong = 1'500;  // takes a while

TEST_P(EnginePipe, SaysWhatItCanDoFirst) {
  EXPECT_FALSE(ready_.fingerprint().empty());
  EXPECT_FALSE(ready_.device().empty());
  EXPECT_GT(ready_.memory_bytes(), 0u);
  EXPECT_THAT(ready_.evaluations(), Contains("aligned@1"));
  EXPECT_THAT(ready_.evaluations(), Contains("hf-text@1"));
  EXPECT_THAT(ready_.methods(), Contains("rtn"));
}

TEST_P(EnginePipe, AnswersWithEveryRowOnce_AndTheSameRowsAgain) {
  std::string before;
  for (uint64_t task = 1; task <= 2; ++task) {
    Send(Run(task, kShort));
    const v1::EngineEvent event = listener_.NextAnswer();
    ASSERT_TRUE(event.has_done()) << event.ShortDebugString();
    EXPECT_EQ(event.done().task_id(), task);
    std::set<std::pair<uint32_t, uint32_t>> keys;
    std::string values;
    for (const v1::Measurement& row : event.done().result().rows()) {
      keys.emplace(row.configuration_index(), row.document_index());
      EXPECT_EQ(row.status(), v1::ROW_STATUS_OK);
      EXPECT_GT(row.tokens(), 0u);
      EXPECT_LE(row.bytes_scored(), row.bytes());
      if (row.configuration_index() == 0) {  // the baseline
        EXPECT_EQ(row.nll_sum(), row.nll_fp_sum());
        EXPECT_EQ(row.kl_sum(), 0);
        EXPECT_EQ(row.top1(), row.tokens());
      }
      values += row.SerializeAsString();
    }
    EXPECT_EQ(event.done().result().rows_size(), 3 * 4);
    EXPECT_EQ(keys.size(), size_t{3 * 4});
    EXPECT_LT(keys.rbegin()->first, 3u);
    EXPECT_LT(keys.rbegin()->second, 4u);
    EXPECT_FALSE(event.done().result().report().engine().empty());
    EXPECT_TRUE(before.empty() || before == values);
    before = values;
  }
}

TEST_P(EnginePipe, ShowsProgressThatGrows) {
  Send(Run(1, kLong));
  uint64_t seq = 0;
  int num_progress = 0;
  v1::EngineEvent event = listener_.Next();
  for (; event.has_progress(); event = listener_.Next()) {
    ++num_progress;
    EXPECT_EQ(event.progress().task_id(), 1u);
    EXPECT_GT(event.progress().progress().progress_seq(), seq);
    seq = event.progress().progress().progress_seq();
  }
  EXPECT_GT(num_progress, 1);
  EXPECT_TRUE(event.has_done()) << event.ShortDebugString();
}

TEST_P(EnginePipe, RefusesASecondTask_WhileOneRuns) {
  Send(Run(1, kLong));
  Send(Run(2, kShort));
  const v1::EngineEvent refused = listener_.NextAnswer();
  ASSERT_TRUE(refused.has_failed()) << refused.ShortDebugString();
  EXPECT_EQ(refused.failed().task_id(), 2u);
  EXPECT_EQ(refused.failed().failure().status_code(),
            static_cast<int>(absl::StatusCode::kFailedPrecondition));
  const v1::EngineEvent done = listener_.NextAnswer();
  ASSERT_TRUE(done.has_done()) << done.ShortDebugString();
  EXPECT_EQ(done.done().task_id(), 1u);
}

TEST_P(EnginePipe, StopsTheCancelledTaskOnly_AndTakesTheNext) {
  Send(Run(1, kLong));
  Send(Cancel(7));
  Send(Cancel(1));
  const v1::EngineEvent event = listener_.NextAnswer();
  ASSERT_TRUE(event.has_failed()) << event.ShortDebugString();
  EXPECT_EQ(event.failed().task_id(), 1u);
  EXPECT_EQ(event.failed().failure().status_code(),
            static_cast<int>(absl::StatusCode::kCancelled));
  Send(Run(2, kShort));
  EXPECT_TRUE(listener_.NextAnswer().has_done());
}

TEST_P(EnginePipe, SaysWhyATaskFailed_AndLivesOn) {
  v1::EngineRequest request = Run(1, kShort);
  request.mutable_run()->set_model_path("/nonexistent/model");
  Send(request);
  const v1::EngineEvent event = listener_.NextAnswer();
  ASSERT_TRUE(event.has_failed()) << event.ShortDebugString();
  EXPECT_EQ(event.failed().failure().detail().code(), "QS3001");
  // Another machine may have the file.
  EXPECT_TRUE(event.failed().failure().retryable());
  Send(Run(2, kShort));
  EXPECT_TRUE(listener_.NextAnswer().has_done());
}

TEST_P(EnginePipe, IsGoneWithinTwoSeconds_WhenItsInputEndsInTheMiddleOfATask) {
  Send(Run(1, kLong));
  ASSERT_TRUE(listener_.Next().has_progress());
  const SteadyTime begin = Clock::Real().SteadyNow();
  engine_->CloseInput();
  EXPECT_THAT(std::string(listener_.Exit().message()),
              HasSubstr("exited with code 0"));
  EXPECT_LT(Clock::Real().SteadyNow() - begin, absl::Seconds(2));
}

INSTANTIATE_TEST_SUITE_P(
    Engines, EnginePipe, ::testing::Values(kFakeEngine, kRealEngine),
    [](const ::testing::TestParamInfo<const char*>& engine) {
      return std::string(engine.index == 0 ? "Fake" : "Real");
    });

}  // namespace
}  // namespace qsweep::testing
