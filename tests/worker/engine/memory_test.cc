// What a sweep takes of memory, measured: a process of its own.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <malloc.h>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/job/configuration.h"
#include "tests/support/error_matchers.h"
#include "tests/support/sanitized.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_llama.h"
#include "worker/engine/engine.h"

namespace qsweep {
namespace {

namespace fs = std::filesystem;

using testing::CodeOf;
using ::testing::HasSubstr;
using testing::Sanitized;
using testing::TempDir;
using testing::TinyLlama;

int64_t AnonymousBytes() {
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line)) {
    absl::string_view rest = line;
    int64_t kib = 0;
    if (absl::ConsumePrefix(&rest, "RssAnon:") &&
        absl::ConsumeSuffix(&rest, " kB") && absl::SimpleAtoi(rest, &kib)) {
      return kib << 10;
    }
  }
  return 0;
}

// The most anonymous memory that `call` takes beyond what there was.
template <typename Call>
int64_t PeakOf(const Call& call) {
  malloc_trim(0);  // what was freed before counts as used otherwise
  const int64_t before = AnonymousBytes();
  std::atomic<int64_t> peak = before;
  {
    const std::jthread watcher([&](const std::stop_token& stop) {
      std::mutex mutex;
      std::unique_lock lock(mutex);
      std::condition_variable_any period;
      do {
        peak = std::max(peak.load(), AnonymousBytes());
      } while (!period.wait_for(lock, stop, std::chrono::milliseconds(1),
                                [&] { return stop.stop_requested(); }));
    });
    call();
  }
  return peak - before;
}

class Sink : public EngineSink {
 public:
  void OnProgress(const EngineProgress& progress) override {
    in_file |= absl::StartsWith(progress.text, "keeping ");
    if (progress.text == stop_at) {
      stop.request_stop();
    }
  }
  bool in_file = false;
  std::string stop_at;
  std::stop_source stop;
};

using RowValues = std::tuple<int, int, double, double, double, uint64_t>;
std::vector<RowValues> Values(const EngineResult& result) {
  std::vector<RowValues> values;
  for (const EngineRow& row : result.rows) {
    values.emplace_back(row.configuration, row.document, row.nll_sum,
                        row.nll_fp_sum, row.kl_sum, row.top1);
  }
  return values;
}

// A model of 24 layers, 3 MiB each, and pairs of its layers.
class EngineMemoryTest : public ::testing::Test {
 protected:
  static constexpr int kLayers = 24;

  static void SetUpTestSuite() {
    model_ = std::make_unique<TempDir>();
    TinyLlama{.layers = kLayers,
              .hidden_size = 256,
              .intermediate_size = 768,
              .heads = 8,
              .kv_heads = 4,
              .head_dim = 32}
        .WriteTo(*model_);
  }
  static void TearDownTestSuite() { model_.reset(); }

  static int64_t ModelBytes() {
    return static_cast<int64_t>(fs::file_size(*model_ / "model.safetensors"));
  }

  std::unique_ptr<Engine> MakeEngine(int64_t memory_bytes,
                                     const std::string& state_dir) {
    auto engine = Engine::Create({.device = "cpu",
                                  .threads = 1,
                                  .memory = {.bytes = memory_bytes},
                                  .state_dir = state_dir});
    QSWEEP_EXPECT_OK(engine);
    return *std::move(engine);
  }

  static EngineTask Task(Engine& engine) {
    const ModelDescription& model = *engine.Describe(model_->path()).value();
    EngineTask task;
    task.model_path = model_->path();
    task.evaluation =
        EvaluationText("aligned", model.tokenizer_digest, 0).value();
    for (int first = 0; first < kLayers; first += 5) {
      for (int second = first; second < kLayers; second += 2) {
        task.configurations.push_back(
            {.quantizer = "rtn:bits=4,group=32",
             .layer_set = absl::StrCat("L", first, "+L", second)});
      }
    }
    task.languages = {
        {.language = "eng",
         .texts = {std::string(160, 'a') + std::string(140, 'b')}}};
    task.documents = {{.text = 0}};
    return task;
  }

  static absl::StatusOr<EngineResult> Run(Engine& engine, Sink& sink) {
    return engine.Run(Task(engine), sink, sink.stop.get_token());
  }

  inline static std::unique_ptr<TempDir> model_;
  TempDir states_;
};

TEST_F(EngineMemoryTest, SweepsAModelFourTimesItsMemory_WithTheSameRows) {
  const int64_t memory = ModelBytes() / 4;
  const auto large = MakeEngine(0, "");
  absl::StatusOr<EngineResult> want;
  Sink sink;
  const int64_t unbounded = PeakOf([&] { want = Run(*large, sink); });
  QSWEEP_ASSERT_OK(want);
  EXPECT_FALSE(sink.in_file);
  EXPECT_GT(unbounded, memory);  // or the rest would show nothing

  const auto small = MakeEngine(memory, states_.path());
  absl::StatusOr<EngineResult> got;
  const int64_t bounded = PeakOf([&] { got = Run(*small, sink); });
  QSWEEP_ASSERT_OK(got);
  EXPECT_TRUE(sink.in_file);
  if (!Sanitized()) {
    EXPECT_LE(bounded, memory);
  }
  EXPECT_EQ(Values(*got), Values(*want));
  EXPECT_TRUE(fs::is_empty(states_.path()));
}

TEST_F(EngineMemoryTest, LeavesNothing_WhenItIsCancelled) {
  const auto engine = MakeEngine(ModelBytes() / 4, states_.path());
  Sink stopped;
  stopped.stop_at = absl::StrCat("layer 10 of ", kLayers);
  EXPECT_EQ(Run(*engine, stopped).status().code(),
            absl::StatusCode::kCancelled);
  EXPECT_TRUE(stopped.in_file);
  EXPECT_TRUE(fs::is_empty(states_.path()));
}

TEST_F(EngineMemoryTest, NamesTheFolder_WhenItHasNoRoom) {
  const auto engine = MakeEngine(ModelBytes() / 4, "/proc");
  Sink sink;
  const absl::Status status = Run(*engine, sink).status();
  EXPECT_EQ(CodeOf(status), "QS5006");
  EXPECT_THAT(status.message(), HasSubstr("in /proc, which has 0"));
}

}  // namespace
}  // namespace qsweep
