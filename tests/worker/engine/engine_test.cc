#include "worker/engine/engine.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <stop_token>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/job/configuration.h"
#include "tests/support/error_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_llama.h"
#include "worker/engine/ready_checkpoints.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::TempDir;
using testing::TinyLlama;

class RecordingSink : public EngineSink {
 public:
  void OnProgress(const EngineProgress& progress) override {
    seen.push_back(progress);
    if (then) {
      then(progress);
    }
  }
  std::vector<EngineProgress> seen;
  std::function<void(const EngineProgress&)> then;
};

std::unique_ptr<Engine> MakeEngine(int threads, int64_t memory_bytes = 0,
                                   const std::string& state_dir = "") {
  auto engine = Engine::Create({.device = "cpu",
                                .threads = threads,
                                .memory_bytes = memory_bytes,
                                .state_dir = state_dir});
  EXPECT_TRUE(engine.ok()) << engine.status();
  return *std::move(engine);
}

// Bytes that hold the states of the longest document, but not of all; and bytes
// that hold weights and buffers alone, with what another thread needs.
constexpr int64_t kLittleMemory = 4'900'000;
constexpr int64_t kLeastMemory = 3'500'000;
constexpr int64_t kMemoryOfThread = 1'800'000;

// Every value of a row, so that == means equal to the last bit.
using RowValues =
    std::tuple<int, int, RowStatus, double, double, double, uint64_t, uint64_t,
               uint64_t, uint64_t, double, uint64_t, uint64_t>;
RowValues Values(const EngineRow& row) {
  return {row.configuration, row.document,        row.status, row.nll_sum,
          row.nll_fp_sum,    row.unigram_nll_sum, row.tokens, row.bytes,
          row.bytes_scored,  row.chars,           row.kl_sum, row.top1,
          row.nonfinite};
}
std::vector<RowValues> Values(const EngineResult& result) {
  std::vector<RowValues> values;
  for (const EngineRow& row : result.rows) {
    values.push_back(Values(row));
  }
  return values;
}

// Of a message that says "The least that works is N bytes".
int64_t LeastBytes(const absl::Status& status) {
  constexpr absl::string_view kBefore = "The least that works is ";
  const absl::string_view text = status.message();
  const size_t at = text.find(kBefore);
  int64_t bytes = 0;
  EXPECT_NE(at, absl::string_view::npos) << text;
  EXPECT_TRUE(absl::SimpleAtoi(
      at == absl::string_view::npos
          ? absl::string_view()
          : text.substr(at + kBefore.size(),
                        text.find(" bytes", at) - at - kBefore.size()),
      &bytes))
      << text;
  return bytes;
}

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() { TinyLlama().WriteTo(directory_); }

  // Configurations of every kind of sharing: single layers, pairs, parts of a
  // layer, other bits, quantized embeddings, heads and norms.
  EngineTask Task(Engine& engine) {
    const ModelDescription& model = *engine.Describe(directory_.path()).value();
    EngineTask task;
    task.model_path = directory_.path();
    task.model_digest = model.digest;
    task.evaluation =
        EvaluationText("aligned", model.tokenizer_digest, 0).value();
    for (const auto& [quantizer, layer_set] :
         std::vector<std::pair<std::string, std::string>>{
             {"rtn:bits=4,group=32", "none"},
             {"fp", "all"},
             {"rtn:bits=4,group=32", "L0"},
             {"rtn:bits=4,group=32", "L1"},
             {"rtn:bits=4,group=32", "L2"},
             {"rtn:bits=4,group=32", "L0+L2"},
             {"rtn:bits=4,group=32", "attn@L1"},
             {"rtn:bits=3,group=-1", "none"},
             {"upstream:gpu", "none"},
             {"upstream:gpu", "L0"},
             {"upstream:p5-weights", "L0"}}) {
      task.configurations.push_back(
          {.quantizer = quantizer, .layer_set = layer_set});
    }
    std::string filler = "All human beings are born free and equal. ";
    while (filler.size() < 300) {
      filler += filler;
    }
    task.languages = {
        {.language = "eng",
         .texts = {"All human beings", filler.substr(0, 300), "z", "equal"}},
        {.language = "deu",
         .texts = {"Alle Menschen sind frei und gleich an W\xC3\xBCrde",
                   filler.substr(7, 131), "Rechte"}}};
    for (int language = 0; language < 2; ++language) {
      const auto texts = static_cast<int>(
          task.languages[static_cast<size_t>(language)].texts.size());
      for (int text = 0; text < texts; ++text) {
        task.documents.push_back({.language = language, .text = text});
      }
    }
    return task;
  }

  static EngineResult Run(Engine& engine, const EngineTask& task) {
    RecordingSink sink;
    auto result = engine.Run(task, sink, std::stop_token());
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *std::move(result) : EngineResult();
  }
  static absl::Status RunError(Engine& engine, const EngineTask& task) {
    RecordingSink sink;
    return engine.Run(task, sink, std::stop_token()).status();
  }

  TempDir directory_;
};

TEST_F(EngineTest, GivesARowPerConfigurationAndDocument) {
  const auto engine = MakeEngine(1);
  const EngineTask task = Task(*engine);
  const EngineResult result = Run(*engine, task);
  ASSERT_EQ(result.rows.size(),
            task.configurations.size() * task.documents.size());
  for (size_t i = 0; i < result.rows.size(); ++i) {
    const EngineRow& row = result.rows[i];
    const auto configurations = static_cast<int>(task.configurations.size());
    EXPECT_EQ(row.configuration, static_cast<int>(i) % configurations);
    EXPECT_EQ(row.document, static_cast<int>(i) / configurations);
    EXPECT_EQ(row.status, RowStatus::kOk);
    EXPECT_EQ(row.tokens, row.bytes);  // a token per byte, all scored
    EXPECT_EQ(row.bytes_scored, row.bytes);
    EXPECT_GT(row.nll_sum, 0);
    EXPECT_EQ(row.nonfinite, 0u);
  }
  EXPECT_EQ(result.rows.back().chars, 6u);
}

TEST_F(EngineTest, BaselineDiffersFromItselfByNothing) {
  const auto engine = MakeEngine(2);
  const EngineResult result = Run(*engine, Task(*engine));
  int others_that_differ = 0;
  for (const EngineRow& row : result.rows) {
    if (row.configuration == 1) {
      EXPECT_EQ(row.nll_sum, row.nll_fp_sum);
      EXPECT_EQ(row.kl_sum, 0);
      EXPECT_EQ(row.top1, row.tokens);
    } else {
      others_that_differ += row.kl_sum > 1e-4 ? 1 : 0;
    }
  }
  EXPECT_GT(others_that_differ, 60);
}

TEST_F(EngineTest, NaiveEqualsTrieToTheBit) {
  const auto engine = MakeEngine(2);
  EngineTask task = Task(*engine);
  const EngineResult trie = Run(*engine, task);
  task.naive = true;
  const EngineResult naive = Run(*engine, task);
  EXPECT_EQ(Values(naive), Values(trie));
  EXPECT_EQ(naive.report.layer_evaluations, 11 * 3);
  EXPECT_LT(trie.report.layer_evaluations, naive.report.layer_evaluations);
}

// Four bits, a scale per 32 weights of a row; from that magnitude on, as it is.
std::vector<float> RoundedButLargest(const std::vector<float>& weights,
                                     float from) {
  std::vector<float> rounded = weights;
  for (size_t begin = 0; begin < weights.size(); begin += 32) {
    float largest = 0;
    for (size_t i = begin; i < begin + 32; ++i) {
      largest = std::max(largest, std::fabs(weights[i]));
    }
    const float scale = largest / 7;
    for (size_t i = begin; i < begin + 32; ++i) {
      if (std::fabs(weights[i]) < from) {
        rounded[i] = std::nearbyint(weights[i] / scale) * scale;
      }
    }
  }
  return rounded;
}

TEST_F(EngineTest, KeepsTheLargestWeightsOfTheModel) {
  // Another model whose stored weights are what the configuration makes.
  std::vector<float> magnitudes;
  TinyLlama llama;
  llama.tensor = [&](const std::string&, const std::vector<int64_t>&,
                     const std::vector<float>& values) {
    for (const float value : values) {
      magnitudes.push_back(std::fabs(value));
    }
  };
  TempDir unchanged;
  llama.WriteTo(unchanged);
  std::ranges::sort(magnitudes, std::greater<>());
  const size_t kept = magnitudes.size() / 20;
  llama.tensor = nullptr;
  llama.edit = [&](const std::string& name, std::vector<float>& values) {
    if (name.find("_proj") != std::string::npos &&
        name.find("layers.0.") == std::string::npos) {
      values = RoundedButLargest(values, magnitudes[kept - 1]);
    }
  };
  TempDir edited;
  llama.WriteTo(edited);
  const auto engine = MakeEngine(2);
  for (const Compute compute : {Compute::kFp32, Compute::kBf16}) {
    EngineTask task = Task(*engine);
    task.compute = compute;
    task.configurations = {
        {.quantizer = "rtn:bits=4,group=32", .layer_set = "L0+top5%"},
        {.quantizer = "rtn:bits=4,group=32", .layer_set = "L0"}};
    const EngineResult result = Run(*engine, task);
    task.model_path = edited.path();
    task.model_digest = Digest();
    task.configurations = {{.quantizer = "fp", .layer_set = "all"}};
    const EngineResult want = Run(*engine, task);
    ASSERT_EQ(result.rows.size(), 2 * want.rows.size());
    for (size_t d = 0; d < want.rows.size(); ++d) {
      EXPECT_EQ(result.rows[2 * d].nll_sum, want.rows[d].nll_sum) << d;
      EXPECT_NE(result.rows[2 * d].nll_sum, result.rows[2 * d + 1].nll_sum);
    }
  }
}

TEST_F(EngineTest, KeepsTheLargestWeights_HoweverTheWorkIsShared) {
  const auto engine = MakeEngine(2);
  EngineTask task = Task(*engine);
  task.configurations = {
      {.quantizer = "rtn:bits=4,group=32", .layer_set = "none"},
      {.quantizer = "rtn:bits=4,group=32", .layer_set = "top5%"},
      {.quantizer = "rtn:bits=4,group=32", .layer_set = "L1+top5%"},
      {.quantizer = "rtn:bits=4,group=32", .layer_set = "top0.5%"},
      {.quantizer = "nf4", .layer_set = "top5%"},
      {.quantizer = "hqq", .layer_set = "L0:int8+top5%"},
      {.quantizer = "rtn:group=32,replicate=1", .layer_set = "top5%"},
      // Embeddings, head and norms in the tensors' own memory.
      {.quantizer = "upstream:p5-weights", .layer_set = "top20%"},
      {.quantizer = "upstream:p5-weights", .layer_set = "top99.9999%"}};
  const EngineResult trie = Run(*engine, task);
  task.naive = true;
  EXPECT_EQ(Values(Run(*MakeEngine(1), task)), Values(trie));
  // Nine and the baseline; "top5%" and "L1+top5%" share the first layer alone.
  EXPECT_EQ(trie.report.layer_evaluations, 10 * 3 - 1);
  // All but one of the weights.
  const size_t n = task.configurations.size();
  for (size_t d = 0; d < task.documents.size(); ++d) {
    EXPECT_LT(trie.rows[d * n + 8].kl_sum, trie.rows[d * n + 7].kl_sum);
    EXPECT_LT(trie.rows[d * n + 8].kl_sum, 1e-3);
    EXPECT_NE(trie.rows[d * n + 1].nll_sum, trie.rows[d * n].nll_sum);
  }
}

// The text of a quantizer that takes its weights from there.
std::string CheckpointQuantizer(const TempDir& directory,
                                const ModelDescription& model) {
  return CompleteQuantizer("checkpoint:path=" + directory.path(), model, "")
      .value();
}

TEST_F(EngineTest, TakesWeightsFromAReadyCheckpoint) {
  // Of other weights everywhere.
  TempDir other;
  TinyLlama({.seed = 2}).WriteTo(other);
  const auto engine = MakeEngine(2);
  EngineTask task = Task(*engine);
  const std::string quantizer =
      CheckpointQuantizer(other, *engine->Describe(directory_.path()).value());
  task.configurations = {
      {.quantizer = quantizer, .layer_set = "none"},
      {.quantizer = quantizer, .layer_set = "L0"},
      {.quantizer = quantizer, .layer_set = "L0+L2+embed"},
      {.quantizer = quantizer, .layer_set = "embed+norm+L0-1"},
      {.quantizer = quantizer, .layer_set = "top20%"},
      {.quantizer = "rtn:bits=4,group=32", .layer_set = "L0"}};
  const EngineResult result = Run(*engine, task);
  task.naive = true;
  EXPECT_EQ(Values(Run(*MakeEngine(1), task)), Values(result));
  EngineTask own = task;
  own.naive = false;
  own.model_path = other.path();
  own.model_digest = Digest();
  own.configurations = {{.quantizer = "fp", .layer_set = "all"}};
  const EngineResult want = Run(*engine, own);
  EngineTask base = task;
  base.configurations = own.configurations;
  const EngineResult fp = Run(*engine, base);
  const size_t n = task.configurations.size();
  for (size_t d = 0; d < task.documents.size(); ++d) {
    EXPECT_EQ(result.rows[d * n].nll_sum, want.rows[d].nll_sum);
    EXPECT_EQ(result.rows[d * n].nll_fp_sum, fp.rows[d].nll_sum);
    for (size_t c = 1; c < n; ++c) {
      EXPECT_NE(result.rows[d * n + c].nll_sum, want.rows[d].nll_sum);
      EXPECT_NE(result.rows[d * n + c].nll_sum, fp.rows[d].nll_sum);
    }
  }
}

TEST_F(EngineTest, RefusesACheckpointThatIsNotWhatTheTaskSays) {
  TempDir other;
  TinyLlama llama{.seed = 2};
  llama.WriteTo(other);
  const auto engine = MakeEngine(1);
  EngineTask task = Task(*engine);
  const ModelDescription model = *engine->Describe(directory_.path()).value();
  const std::string quantizer = CheckpointQuantizer(other, model);
  task.configurations = {{.quantizer = quantizer, .layer_set = "none"}};
  EXPECT_EQ(Run(*engine, task).rows.size(), task.documents.size());
  // Other weights at the same path.
  llama.seed = 3;
  llama.WriteTo(other);
  EXPECT_EQ(CodeOf(RunError(*engine, task)), "QS3010");
  // Constants that no shape tells.
  std::string config = llama.Config();
  config.replace(config.find("10000.0"), 7, "20000.0");
  other.Write("config.json", config);
  task.configurations[0].quantizer = CheckpointQuantizer(other, model);
  const absl::Status refused = RunError(*engine, task);
  EXPECT_EQ(CodeOf(refused), "QS3013");
  EXPECT_THAT(std::string(refused.message()),
              ::testing::HasSubstr("base of the rotary embedding 20000"));
  // Where it lies is not known, or it was not looked at.
  task.configurations[0].quantizer =
      "checkpoint:digest=0123456789abcdef,bits=4";
  EXPECT_EQ(CodeOf(RunError(*engine, task)), "QS3001");
  task.configurations[0].quantizer = "checkpoint:path=" + other.path();
  EXPECT_EQ(CodeOf(RunError(*engine, task)), "QS1003");
}

TEST_F(EngineTest, StopsWhileItLooksForTheLargestWeights) {
  const auto engine = MakeEngine(1);
  EngineTask task = Task(*engine);
  task.configurations = {
      {.quantizer = "rtn:bits=4,group=32", .layer_set = "top5%"}};
  std::stop_source stop;
  RecordingSink sink;
  sink.then = [&](const EngineProgress& progress) {
    if (progress.text == "finding the largest weights") {
      stop.request_stop();
    }
  };
  EXPECT_TRUE(
      absl::IsCancelled(engine->Run(task, sink, stop.get_token()).status()));
  EXPECT_EQ(Run(*engine, task).rows.size(), task.documents.size());
}

TEST_F(EngineTest, RowsAreEqualToTheBit_WhenThreadsDiffer) {
  const auto one = MakeEngine(1);
  const EngineTask task = Task(*one);
  const EngineResult want = Run(*one, task);
  for (const int threads : {2, 5}) {
    const auto engine = MakeEngine(threads);
    EXPECT_EQ(Values(Run(*engine, task)), Values(want)) << threads;
  }
}

TEST_F(EngineTest, ComputesInBf16_ToTheBitForAnyThreadsAndSharing) {
  const auto one = MakeEngine(1);
  EngineTask task = Task(*one);
  const EngineResult fp32 = Run(*one, task);
  task.compute = Compute::kBf16;
  const EngineResult want = Run(*one, task);
  ASSERT_EQ(want.rows.size(), fp32.rows.size());
  size_t others = 0;
  for (size_t i = 0; i < want.rows.size(); ++i) {
    const EngineRow& row = want.rows[i];
    EXPECT_NEAR(row.nll_sum, fp32.rows[i].nll_sum, 0.02 * fp32.rows[i].nll_sum);
    others += row.nll_sum != fp32.rows[i].nll_sum ? 1 : 0;
    if (row.configuration == 1) {  // the baseline, itself in bf16
      EXPECT_EQ(row.nll_sum, row.nll_fp_sum);
      EXPECT_EQ(row.kl_sum, 0);
    }
  }
  EXPECT_GT(others, want.rows.size() * 9 / 10);
  const auto two = MakeEngine(2);
  EXPECT_EQ(Values(Run(*two, task)), Values(want));
  task.naive = true;
  EXPECT_EQ(Values(Run(*two, task)), Values(want));
}

TEST_F(EngineTest, MeasuresItsNoise_OnceForAModelAndCompute) {
  const auto engine = MakeEngine(2);
  EngineTask task = Task(*engine);
  EXPECT_FALSE(Run(*engine, task).report.noise.has_value());
  task.measure_noise = true;
  const EngineResult first = Run(*engine, task);
  ASSERT_TRUE(first.report.noise.has_value());
  const EngineNoise fp32 = *first.report.noise;
  EXPECT_GT(fp32.nll_per_token, 0);
  EXPECT_LT(fp32.nll_per_token, 1e-5);
  // Of 16, 300, 1, 5, 44, 131 and 6 tokens all but the second.
  EXPECT_EQ(fp32.documents, 6u);
  EXPECT_EQ(fp32.tokens, 203u);
  // Neither counted nor repeated.
  EXPECT_EQ(first.report.layer_evaluations,
            first.report.layer_evaluations_planned);
  EXPECT_FALSE(Run(*engine, task).report.noise.has_value());
  task.compute = Compute::kBf16;
  const EngineResult second = Run(*engine, task);
  ASSERT_TRUE(second.report.noise.has_value());
  EXPECT_GT(second.report.noise->nll_per_token, 3 * fp32.nll_per_token);
  EXPECT_LT(second.report.noise->nll_per_token, 0.01);
}

TEST_F(EngineTest, MeasuresItsNoiseInMemory_WhenItsFolderHasNoRoom) {
  const auto engine = MakeEngine(1);
  EngineTask task = Task(*engine);
  task.measure_noise = true;
  const EngineResult want = Run(*engine, task);
  ASSERT_TRUE(want.report.noise.has_value());
  const EngineResult got = Run(*MakeEngine(1, 0, "/proc"), task);
  EXPECT_EQ(Values(got), Values(want));
  ASSERT_TRUE(got.report.noise.has_value());
  EXPECT_EQ(got.report.noise->nll_per_token, want.report.noise->nll_per_token);
  // And in a file where the rest is.
  const TempDir states;
  const EngineResult small =
      Run(*MakeEngine(1, kLeastMemory, states.path()), task);
  ASSERT_TRUE(small.report.noise.has_value());
  EXPECT_EQ(small.report.noise->nll_per_token,
            want.report.noise->nll_per_token);
}

TEST_F(EngineTest, KeepsTheRows_WhenItIsStoppedWhileItMeasuresItsNoise) {
  const auto engine = MakeEngine(1);
  EngineTask task = Task(*engine);
  const EngineResult want = Run(*engine, task);
  task.measure_noise = true;
  std::stop_source stop;
  RecordingSink sink;
  sink.then = [&](const EngineProgress& progress) {
    if (progress.text == "noise floor: layer 1 of 3") {
      EXPECT_EQ(progress.partial.size(),
                task.languages.size() * task.configurations.size());
      stop.request_stop();
    }
  };
  const auto got = engine->Run(task, sink, stop.get_token());
  EXPECT_TRUE(stop.stop_requested());
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(Values(*got), Values(want));
  EXPECT_FALSE(got->report.noise.has_value());
  EXPECT_TRUE(Run(*engine, task).report.noise.has_value());
}

TEST_F(EngineTest, RefusesADigestOfAnotherCompute) {
  const auto engine = MakeEngine(1);
  EngineTask task = Task(*engine);
  const ModelDescription& model = *engine->Describe(directory_.path()).value();
  task.configurations.resize(1);
  task.configurations[0].digest =
      ParseConfiguration(model, task.configurations[0].quantizer,
                         task.configurations[0].layer_set, Compute::kFp32)
          ->digest;
  EXPECT_EQ(Run(*engine, task).rows.size(), task.documents.size());
  task.compute = Compute::kBf16;
  EXPECT_EQ(CodeOf(RunError(*engine, task)), "QS3010");
}

TEST_F(EngineTest, RowsAreEqualToTheBit_WhenDocumentsAreCutIntoTasks) {
  const auto engine = MakeEngine(2);
  EngineTask task = Task(*engine);
  const EngineResult want = Run(*engine, task);
  const std::vector<EngineDocument> documents = task.documents;
  const size_t configurations = task.configurations.size();
  for (size_t d = 0; d < documents.size(); ++d) {
    // Alone, and then behind another document.
    for (const bool alone : {true, false}) {
      task.documents = {documents[d]};
      if (!alone) {
        task.documents.insert(task.documents.begin(), documents[1]);
      }
      const EngineResult part = Run(*engine, task);
      for (size_t c = 0; c < configurations; ++c) {
        EngineRow got = part.rows[part.rows.size() - configurations + c];
        got.document = static_cast<int>(d);
        EXPECT_EQ(Values(got), Values(want.rows[d * configurations + c]));
      }
    }
  }
}

TEST_F(EngineTest, RowsAreEqualToTheBit_WhenMemoryForcesPasses) {
  const auto large = MakeEngine(1);
  const EngineTask task = Task(*large);
  const EngineResult want = Run(*large, task);
  const auto small = MakeEngine(1, kLittleMemory);
  RecordingSink sink;
  const auto got = small->Run(task, sink, std::stop_token());
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(Values(*got), Values(want));
  const auto first_layers = std::count_if(
      sink.seen.begin(), sink.seen.end(),
      [](const EngineProgress& p) { return p.text == "scoring"; });
  EXPECT_GT(first_layers, 1);
}

TEST_F(EngineTest, RowsAreEqualToTheBit_WhenStatesAreInAFile) {
  const auto large = MakeEngine(1);
  EngineTask task = Task(*large);
  const EngineResult want = Run(*large, task);
  const TempDir states;
  for (const int threads : {1, 2}) {
    const auto small = MakeEngine(
        threads, kLeastMemory + (threads - 1) * kMemoryOfThread, states.path());
    RecordingSink sink;
    const auto got = small->Run(task, sink, std::stop_token());
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(Values(*got), Values(want));
    EXPECT_EQ(std::count_if(sink.seen.begin(), sink.seen.end(),
                            [&](const EngineProgress& progress) {
                              return progress.text.ends_with(
                                  " MiB of states in " + states.path());
                            }),
              1);
    task.naive = true;
    EXPECT_EQ(Values(Run(*small, task)), Values(want));
    task.naive = false;
  }
}

TEST_F(EngineTest, TellsWhatDeviceIsMissing) {
  EXPECT_EQ(CodeOf(Engine::Create({.device = "tpu"}).status()), "QS1004");
  const auto automatic = Engine::Create({.device = "auto", .threads = 1});
  ASSERT_TRUE(automatic.ok()) << automatic.status();
  if ((*automatic)->info().device != "cpu") {
    GTEST_SKIP() << "there is a GPU; worker/engine/cuda_engine runs on it";
  }
  EXPECT_EQ(CodeOf(Engine::Create({.device = "cuda"}).status()), "QS5014");
}

TEST_F(EngineTest, RefusesTheTask_WhenMemoryHoldsNoDocument) {
  const auto engine = MakeEngine(1, kLeastMemory);
  EXPECT_EQ(CodeOf(RunError(*engine, Task(*engine))), "QS5006");
}

TEST_F(EngineTest, CountsLayerEvaluationsWhereProductsRun) {
  const auto engine = MakeEngine(2);
  EngineTask task = Task(*engine);
  task.configurations.resize(5);  // none, baseline, L0, L1, L2
  const EngineResult result = Run(*engine, task);
  // At most one of 3 protected: 2 + 3 + 4 nodes, the baseline L - 1 more.
  EXPECT_EQ(result.report.layer_evaluations, 9 + 2);
  EXPECT_EQ(result.report.layer_evaluations_planned, 9 + 2);
}

TEST_F(EngineTest, ComparesWithTheBaseline_WhenTheTaskDoesNotHoldIt) {
  const auto engine = MakeEngine(2);
  EngineTask task = Task(*engine);
  const EngineResult all = Run(*engine, task);
  task.configurations = {task.configurations[3]};
  const EngineResult one = Run(*engine, task);
  ASSERT_EQ(one.rows.size(), task.documents.size());
  for (size_t d = 0; d < one.rows.size(); ++d) {
    EngineRow got = one.rows[d];
    got.configuration = 3;
    EXPECT_EQ(Values(got), Values(all.rows[d * 11 + 3]));
  }
}

TEST_F(EngineTest, FlagsDocumentsWithoutSums) {
  const auto engine = MakeEngine(1);
  EngineTask task = Task(*engine);
  const ModelDescription& model = *engine->Describe(directory_.path()).value();
  task.evaluation =
      EvaluationText("hf-text", model.tokenizer_digest, 0).value();
  task.languages = {
      {.language = "eng", .texts = {"", "a", "ab", std::string(600, 'x')}}};
  task.documents = {{0, 0}, {0, 1}, {0, 2}, {0, 3}};
  task.configurations.resize(1);
  const EngineResult result = Run(*engine, task);
  ASSERT_EQ(result.rows.size(), 4u);
  EXPECT_EQ(result.rows[0].status, RowStatus::kEmpty);
  EXPECT_EQ(result.rows[1].status, RowStatus::kOneToken);
  EXPECT_EQ(result.rows[2].status, RowStatus::kOk);
  EXPECT_EQ(result.rows[3].status, RowStatus::kTooLong);
  EXPECT_EQ(result.rows[2].tokens, 1u);
  EXPECT_EQ(result.rows[3].bytes, 600u);
  EXPECT_EQ(result.rows[3].tokens, 0u);
  task.documents = {{0, 0}};
  EXPECT_EQ(Run(*engine, task).rows.at(0).status, RowStatus::kEmpty);
}

TEST_F(EngineTest, RefusesWhatTheTaskWasNotMadeFor) {
  const auto engine = MakeEngine(1);
  const EngineTask task = Task(*engine);
  const auto expect = [&](const char* code, auto change) {
    EngineTask changed = task;
    change(changed);
    EXPECT_EQ(CodeOf(RunError(*engine, changed)), code);
  };
  expect("QS3010", [](EngineTask& t) { t.model_digest = Digest::Of("x"); });
  expect("QS3010",
         [](EngineTask& t) { t.configurations[2].digest = Digest::Of("x"); });
  expect("QS3010", [](EngineTask& t) {
    t.evaluation = "aligned@1;tok=" + Digest::Of("x").hex();
  });
  expect("QS1052", [](EngineTask& t) { t.evaluation = "aligned@9"; });
  expect("QS1004", [](EngineTask& t) { t.compute = Compute::kFp16; });
  expect("QS1011", [](EngineTask& t) { t.configurations[2].layer_set = "L9"; });
  expect("QS1020",
         [](EngineTask& t) { t.configurations[0].quantizer = "qat"; });
  expect("QS3001", [](EngineTask& t) { t.model_path = "/no/such/model"; });
  EXPECT_EQ(Run(*engine, task).rows.size(), 77u);  // none of it lasts
}

TEST_F(EngineTest, StopsAndGoesOn_WhenCancelled) {
  const auto engine = MakeEngine(2);
  const EngineTask task = Task(*engine);
  for (const std::string& when :
       {std::string("layer 2 of 3"), std::string("scoring")}) {
    std::stop_source stop;
    RecordingSink sink;
    sink.then = [&](const EngineProgress& progress) {
      if (progress.text == when) {
        stop.request_stop();
      }
    };
    const auto result = engine->Run(task, sink, stop.get_token());
    // The last step's report may come when all is done.
    if (when != "scoring" || !result.ok()) {
      EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
    }
  }
  EXPECT_EQ(Run(*engine, task).rows.size(), 77u);
}

TEST_F(EngineTest, DoesNothingMore_WhenItIsStoppedWhileItLoads) {
  const auto engine = MakeEngine(2);
  const EngineTask task = Task(*MakeEngine(1));
  std::stop_source stop;
  RecordingSink sink;
  sink.then = [&](const EngineProgress&) { stop.request_stop(); };
  EXPECT_EQ(engine->Run(task, sink, stop.get_token()).status().code(),
            absl::StatusCode::kCancelled);
  ASSERT_EQ(sink.seen.size(), 1u);
  EXPECT_EQ(sink.seen[0].text, "reading the model");
  EXPECT_EQ(Run(*engine, task).rows.size(), 77u);
}

TEST_F(EngineTest, SaysTheLeastMemoryThatWorks) {
  const TempDir states;
  for (const std::string& directory : {std::string(), states.path()}) {
    const auto engine = MakeEngine(1, 100'000, directory);
    const EngineTask task = Task(*engine);
    const absl::Status status = RunError(*engine, task);
    EXPECT_EQ(CodeOf(status), "QS5006");
    const int64_t least = LeastBytes(status);
    EXPECT_EQ(Run(*MakeEngine(1, least, directory), task).rows.size(), 77u);
    EXPECT_EQ(CodeOf(RunError(*MakeEngine(1, least - 1, directory), task)),
              "QS5006");
  }
}

TEST_F(EngineTest, ReportsGrowingProgressAndFinalSums) {
  const auto engine = MakeEngine(2);
  const EngineTask task = Task(*engine);
  RecordingSink sink;
  const auto result = engine->Run(task, sink, std::stop_token());
  ASSERT_TRUE(result.ok());
  double last = 0;
  for (const EngineProgress& progress : sink.seen) {
    EXPECT_GE(progress.fraction, last);
    EXPECT_LE(progress.fraction, 1.0 + 1e-9);
    last = progress.fraction;
  }
  // The last word has every language under every configuration, as the rows
  // say it.
  EXPECT_EQ(sink.seen.back().partial.size(),
            task.languages.size() * task.configurations.size());
  for (const EnginePartial& partial : sink.seen.back().partial) {
    double nll = 0;
    uint64_t tokens = 0;
    for (const EngineRow& row : result->rows) {
      if (row.configuration == partial.configuration &&
          task.documents[static_cast<size_t>(row.document)].language ==
              partial.language) {
        nll += row.nll_sum;
        tokens += row.tokens;
      }
    }
    EXPECT_EQ(partial.tokens, tokens);
    EXPECT_NEAR(partial.nll_sum, nll, 1e-6);
  }
}

TEST_F(EngineTest, TellsHowLongItWaitedForWeights) {
  const auto engine = MakeEngine(2);
  EngineTask task = Task(*engine);
  const EngineReport report = Run(*engine, task).report;
  const auto model = engine->Describe(task.model_path);
  ASSERT_TRUE(model.ok());
  int64_t layers = 0;
  for (const TensorDescription& tensor : (*model)->tensors) {
    layers += tensor.layer >= 0 ? tensor.stored_bytes() : 0;
  }
  EXPECT_EQ(report.weight_bytes, layers);
  EXPECT_GT(report.weight_seconds, 0);
  EXPECT_LT(report.weight_seconds, report.run_seconds);
  task.naive = true;  // each configuration reads them for itself
  EXPECT_EQ(Run(*engine, task).report.weight_bytes,
            layers * static_cast<int64_t>(task.configurations.size()));
}

TEST_F(EngineTest, NamesTheTensor_WhenAWeightIsNotFinite) {
  TinyLlama model;
  model.edit = [](const std::string& name, std::vector<float>& values) {
    if (name == "model.layers.1.mlp.up_proj.weight") {
      values[77] = std::numeric_limits<float>::quiet_NaN();
    }
  };
  const auto engine = MakeEngine(2);
  EngineTask task = Task(*engine);
  model.WriteTo(directory_);
  task.model_digest = Digest();
  const absl::Status status = RunError(*engine, task);
  EXPECT_EQ(CodeOf(status), "QS3007");
  EXPECT_THAT(std::string(status.message()),
              ::testing::HasSubstr("layers.1.mlp.up_proj"));
}

TEST_F(EngineTest, CountsTokens_WhenTheirLossIsNotFinite) {
  TinyLlama model;
  model.edit = [](const std::string& name, std::vector<float>& values) {
    if (name == "model.norm.weight") {
      std::fill(values.begin(), values.end(), 3e38F);  // logits overflow
    }
  };
  model.WriteTo(directory_);
  const auto engine = MakeEngine(1);
  for (const EngineRow& row : Run(*engine, Task(*engine)).rows) {
    EXPECT_EQ(row.nonfinite, row.tokens);
    EXPECT_EQ(row.nll_sum, 0);
    EXPECT_TRUE(std::isfinite(row.kl_sum));
  }
}

TEST_F(EngineTest, ReadsTheModelAgain_WhenItsFileIsReplaced) {
  const auto engine = MakeEngine(1);
  const Digest before = (*engine->Describe(directory_.path()))->digest;
  std::filesystem::rename(directory_.path() + "/model.safetensors",
                          directory_.path() + "/old");
  TinyLlama{.seed = 2}.WriteTo(directory_);
  EXPECT_NE((*engine->Describe(directory_.path()))->digest, before);
}

}  // namespace
}  // namespace qsweep
