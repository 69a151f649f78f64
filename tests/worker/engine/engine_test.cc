#include "worker/engine/engine.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <stop_token>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "common/job/configuration.h"
#include "tests/support/error_matchers.h"
#include "tests/support/tiny_llama.h"
#include "tests/worker/engine/engine_fixture.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::EngineTest;
using testing::MakeEngine;
using testing::RecordingSink;
using testing::TinyLlama;
using testing::Values;

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

TEST_F(EngineTest, TellsWhatDeviceIsMissing) {
  EXPECT_EQ(CodeOf(Engine::Create({.device = "tpu"}).status()), "QS1004");
  const auto automatic = Engine::Create({.device = "auto", .threads = 1});
  ASSERT_TRUE(automatic.ok()) << automatic.status();
  if ((*automatic)->info().device != "cpu") {
    GTEST_SKIP() << "there is a GPU; worker/engine/cuda_engine runs on it";
  }
  EXPECT_EQ(CodeOf(Engine::Create({.device = "cuda"}).status()), "QS5014");
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
