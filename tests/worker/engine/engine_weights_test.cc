#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_llama.h"
#include "tests/worker/engine/engine_fixture.h"
#include "worker/engine/engine.h"
#include "worker/engine/ready_checkpoints.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::EngineTest;
using testing::MakeEngine;
using testing::TempDir;
using testing::TinyLlama;
using testing::Values;

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

// A layer whose weights are all zero adds nothing: whatever quantizes it.
TEST_F(EngineTest, KeepsTensorsThatAreAllZero) {
  TinyLlama model;
  model.edit = [](const std::string& name, std::vector<float>& values) {
    if (name.starts_with("model.layers.1.") && name.ends_with("proj.weight")) {
      std::fill(values.begin(), values.end(), 0.0f);
    }
  };
  model.WriteTo(directory_);
  const auto engine = MakeEngine(2);
  EngineTask task = Task(*engine);
  task.configurations.clear();
  for (const char* quantizer :
       {"rtn:bits=4,group=32", "rtn:bits=4,sym=0,group=32",
        "rtn:bits=4,grid=awq,group=32", "upstream:gpu", "nf4",
        "nf4:double_quant=1", "hqq:bits=4,group=32",
        "hqq:bits=4,group=32,axis=0"}) {
    task.configurations.push_back(
        {.quantizer = quantizer, .layer_set = "L0+L2+embed+head"});
  }
  for (const EngineRow& row : Run(*engine, task).rows) {
    EXPECT_EQ(row.nll_sum, row.nll_fp_sum)
        << task.configurations[static_cast<size_t>(row.configuration)]
               .quantizer;
    EXPECT_EQ(row.nonfinite, 0u);
  }
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

}  // namespace
}  // namespace qsweep
