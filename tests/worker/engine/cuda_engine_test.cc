// The engine on a GPU beside the engine on the CPU.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/job/configuration.h"
#include "common/job/model_description.h"
#include "tests/support/error_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_llama.h"
#include "tests/worker/engine/engine_fixture.h"
#include "worker/engine/engine.h"
#include "worker/engine/ready_checkpoints.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::Filler;
using testing::MakeTask;
using testing::TempDir;
using testing::TinyLlama;

class Silent : public EngineSink {
 public:
  void OnProgress(const EngineProgress&) override {}
};

class CountingSink : public EngineSink {
 public:
  void OnProgress(const EngineProgress& progress) override {
    const bool first = progress.text.rfind("layer 1 of", 0) == 0;
    passes_ += first && last_.rfind("layer 1 of", 0) != 0 ? 1 : 0;
    last_ = progress.text;
    if (then) {
      then(progress);
    }
  }
  int passes() const { return passes_; }
  std::function<void(const EngineProgress&)> then;

 private:
  int passes_ = 0;
  std::string last_;
};

class CudaEngineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto cuda = Engine::Create({.device = "cuda", .threads = 2});
    if (CodeOf(cuda.status()) == "QS5014") {
      GTEST_SKIP() << "no CUDA device";
    }
    ASSERT_TRUE(cuda.ok()) << cuda.status();
    cuda_ = *std::move(cuda);
    std::printf("%s\n", cuda_->info().fingerprint.c_str());
    cpu_ = Engine::Create({.device = "cpu", .threads = 2}).value();
  }

  EngineTask Task(const TempDir& directory) {
    const std::string filler = Filler(400);
    return MakeTask(*cpu_, directory.path(),
                    {{"rtn:bits=4,group=32", "none"},
                     {"fp", "all"},
                     {"rtn:bits=4,group=32", "L0"},
                     {"rtn:bits=4,group=32", "L0+L2"},
                     {"rtn:bits=4,group=32", "attn@L1"},
                     {"rtn:bits=3,group=-1", "none"},
                     {"nf4", "none"},
                     {"hqq:bits=4,group=32", "L1"},
                     {"upstream:gpu", "L0"},
                     {"upstream:p5-weights", "none"},
                     {"rtn:bits=4,group=32", "L0+top5%"},
                     {"upstream:p5-weights", "top5%"}},
                    {{.language = "eng",
                      .texts = {"All human beings", filler.substr(0, 400), "z",
                                filler.substr(7, 131), "equal"}}});
  }

  static EngineResult Run(Engine& engine, const EngineTask& task) {
    Silent sink;
    auto result = engine.Run(task, sink, std::stop_token());
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *std::move(result) : EngineResult();
  }

  // Of a token's loss and divergence, relative to one nat or the loss.
  static double LargestDifference(const EngineResult& a,
                                  const EngineResult& b) {
    EXPECT_EQ(a.rows.size(), b.rows.size());
    double largest = 0;
    for (size_t i = 0; i < std::min(a.rows.size(), b.rows.size()); ++i) {
      const auto tokens = static_cast<double>(a.rows[i].tokens);
      EXPECT_EQ(a.rows[i].tokens, b.rows[i].tokens);
      EXPECT_EQ(a.rows[i].nonfinite, 0u);
      largest =
          std::max({largest,
                    std::abs(a.rows[i].nll_sum - b.rows[i].nll_sum) /
                        std::max(tokens, a.rows[i].nll_sum),
                    std::abs(a.rows[i].kl_sum - b.rows[i].kl_sum) / tokens});
    }
    return largest;
  }

  static void ExpectSameBits(const EngineRow& a, const EngineRow& b) {
    EXPECT_EQ(a.nll_sum, b.nll_sum);
    EXPECT_EQ(a.nll_fp_sum, b.nll_fp_sum);
    EXPECT_EQ(a.kl_sum, b.kl_sum);
    EXPECT_EQ(a.top1, b.top1);
    EXPECT_EQ(a.tokens, b.tokens);
  }

  std::unique_ptr<Engine> cuda_;
  std::unique_ptr<Engine> cpu_;
};

TEST_F(CudaEngineTest, TakesWeightsFromAReadyCheckpoint) {
  const TempDir directory;
  TinyLlama().WriteTo(directory);
  const TempDir other;
  TinyLlama({.seed = 2}).WriteTo(other);
  EngineTask task = Task(directory);
  const std::string quantizer =
      CompleteQuantizer("checkpoint:path=" + other.path(),
                        *cpu_->Describe(directory.path()).value(), "")
          .value();
  task.configurations = {{.quantizer = quantizer, .layer_set = "none"},
                         {.quantizer = quantizer, .layer_set = "L0+top5%"}};
  const EngineResult cuda = Run(*cuda_, task);
  EXPECT_LT(LargestDifference(cuda, Run(*cpu_, task)), 1e-4);
  EngineTask own = task;
  own.model_path = other.path();
  own.configurations = {{.quantizer = "fp", .layer_set = "all"}};
  const EngineResult want = Run(*cuda_, own);
  for (size_t d = 0; d < want.rows.size(); ++d) {
    EXPECT_EQ(cuda.rows[2 * d].nll_sum, want.rows[d].nll_sum);
  }
}

TEST_F(CudaEngineTest, NamesTheLibraryOfItsProducts_InTheFingerprint) {
  EXPECT_THAT(cuda_->info().fingerprint,
              ::testing::ContainsRegex("cublas [0-9]+\\.[0-9]+"));
}

TEST_F(CudaEngineTest, EqualsTheCpu) {
  for (const auto& model : {TinyLlama(), TinyLlama{.hidden_size = 128,
                                         .heads = 4,
                                         .kv_heads = 4,
                                         .head_dim = 32,
                                         .tied_head = false}}) {
    TempDir directory;
    model.WriteTo(directory);
    const EngineTask task = Task(directory);
    const EngineResult cuda = Run(*cuda_, task);
    EXPECT_LT(LargestDifference(cuda, Run(*cpu_, task)), 1e-5);
    EXPECT_GT(cuda.report.device_memory_peak_bytes, 0);
  }
}

TEST_F(CudaEngineTest, BaselineDiffersFromItselfByNothing) {
  TempDir directory;
  TinyLlama().WriteTo(directory);
  for (const EngineRow& row : Run(*cuda_, Task(directory)).rows) {
    if (row.configuration == 1) {
      EXPECT_EQ(row.nll_sum, row.nll_fp_sum);
      EXPECT_EQ(row.kl_sum, 0);
      EXPECT_EQ(row.top1, row.tokens);
    }
  }
}

TEST_F(CudaEngineTest, RowsAreEqualToTheBit_WhateverIsComputedTogether) {
  TempDir directory;
  TinyLlama().WriteTo(directory);
  for (const Compute compute : {Compute::kFp32, Compute::kFp16}) {
    EngineTask task = Task(directory);
    task.compute = compute;
    const EngineResult want = Run(*cuda_, task);
    task.naive = true;
    const EngineResult naive = Run(*cuda_, task);
    ASSERT_EQ(naive.rows.size(), want.rows.size());
    for (size_t i = 0; i < want.rows.size(); ++i) {
      ExpectSameBits(naive.rows[i], want.rows[i]);
    }
    task.naive = false;
    task.documents = {task.documents[1]};
    const EngineResult alone = Run(*cuda_, task);
    for (size_t c = 0; c < alone.rows.size(); ++c) {
      ExpectSameBits(alone.rows[c], want.rows[task.configurations.size() + c]);
    }
  }
}

TEST_F(CudaEngineTest, ComputesInFp16) {
  TempDir directory;
  TinyLlama().WriteTo(directory);
  EngineTask task = Task(directory);
  const EngineResult fp32 = Run(*cuda_, task);
  task.compute = Compute::kFp16;
  const double difference = LargestDifference(Run(*cuda_, task), fp32);
  EXPECT_GT(difference, 0);
  EXPECT_LT(difference, 1e-2);
}

// More rows than go through a layer together, more than a tile of the head, a
// vocabulary of several pieces, a document longer than a tile of products.
class LargeCudaEngineTest : public CudaEngineTest {
 protected:
  LargeCudaEngineTest() {
    TinyLlama{.layers = 2,
              .context_length = 4096,
              .vocabulary_size = 8195,
              .tied_head = false}
        .WriteTo(directory_);
  }

  EngineTask LargeTask() {
    EngineTask task = Task(directory_);
    std::erase_if(task.configurations, [](const EngineConfiguration& c) {
      return c.layer_set.find("L2") != std::string::npos;
    });
    std::string text;
    while (text.size() < 3000) {
      text += "Everyone has the right to life, liberty and security. ";
    }
    task.languages[0].texts.push_back(text.substr(0, 3000));
    for (int length = 300; length < 420; length += 4) {
      task.languages[0].texts.push_back(text.substr(
          static_cast<size_t>(length) / 3, static_cast<size_t>(length)));
    }
    task.documents.clear();
    const auto texts = static_cast<int>(task.languages[0].texts.size());
    for (int i = 0; i < texts; ++i) {
      task.documents.push_back({.language = 0, .text = i});
    }
    return task;
  }

  TempDir directory_;
};

TEST_F(LargeCudaEngineTest, EqualsTheCpu) {
  const EngineTask task = LargeTask();
  EXPECT_LT(LargestDifference(Run(*cuda_, task), Run(*cpu_, task)), 1e-5);
}

TEST_F(LargeCudaEngineTest, RowsAreEqualToTheBit_WhenMemoryForcesPasses) {
  const EngineTask task = LargeTask();
  const EngineResult want = Run(*cuda_, task);
  // The least memory that works, to some MB: few documents a pass.
  int64_t too_little = 0;
  int64_t enough = 2'000'000'000;
  EngineResult got;
  int passes = 0;
  while (enough - too_little > 8'000'000) {
    const int64_t memory = (too_little + enough) / 2;
    auto engine = Engine::Create(
        {.device = "cuda", .threads = 1, .memory = {.bytes = memory}});
    ASSERT_TRUE(engine.ok()) << engine.status();
    CountingSink sink;
    auto result = (*engine)->Run(task, sink, std::stop_token());
    if (CodeOf(result.status()) == "QS5006") {
      too_little = memory;
      continue;
    }
    ASSERT_TRUE(result.ok()) << result.status();
    enough = memory;
    got = *std::move(result);
    passes = sink.passes();
  }
  std::printf("%d passes in %d MB\n", passes,
              static_cast<int>(enough / 1'000'000));
  EXPECT_GT(passes, 1);
  ASSERT_EQ(got.rows.size(), want.rows.size());
  for (size_t i = 0; i < want.rows.size(); ++i) {
    ExpectSameBits(got.rows[i], want.rows[i]);
  }
}

TEST_F(LargeCudaEngineTest, StopsAndGoesOn_WhenCancelled) {
  const EngineTask task = LargeTask();
  for (const std::string& when :
       {std::string("layer 1 of 2"), std::string("scoring")}) {
    std::stop_source stop;
    CountingSink sink;
    sink.then = [&](const EngineProgress& progress) {
      if (progress.text == when) {
        stop.request_stop();
      }
    };
    EXPECT_EQ(cuda_->Run(task, sink, stop.get_token()).status().code(),
              absl::StatusCode::kCancelled);
  }
  EXPECT_EQ(Run(*cuda_, task).rows.size(),
            task.configurations.size() * task.documents.size());
}

TEST_F(CudaEngineTest, RefusesWeightsThatAreNotFinite) {
  TempDir directory;
  TinyLlama{.edit = [](const std::string& name, std::vector<float>& values) {
    if (name.find("layers.1.mlp.up") != std::string::npos) {
      values[77] = std::numeric_limits<float>::infinity();
    }
  }}.WriteTo(directory);
  Silent sink;
  EXPECT_EQ(
      CodeOf(cuda_->Run(Task(directory), sink, std::stop_token()).status()),
      "QS3007");
}

TEST_F(CudaEngineTest, RefusesWeightsTooLargeForFp16_AsTheCpuDoes) {
  TempDir directory;
  TinyLlama{.edit = [](const std::string& name, std::vector<float>& values) {
    if (name.find("layers.1.mlp.up") != std::string::npos) {
      values[77] = 1e9f;
    }
  }}.WriteTo(directory);
  EngineTask task = Task(directory);
  for (const char* quantizer :
       {"rtn:bits=4,group=32,scale=fp16", "rtn:bits=4,group=32,arith=fp16"}) {
    task.configurations = {{.quantizer = quantizer, .layer_set = "none"}};
    Silent sink;
    const absl::Status cuda =
        cuda_->Run(task, sink, std::stop_token()).status();
    EXPECT_EQ(CodeOf(cuda), "QS1004");
    EXPECT_EQ(cuda, cpu_->Run(task, sink, std::stop_token()).status());
  }
}

// Their columns are rounded by the GPU's kernel.
TEST_F(CudaEngineTest, MakesTheCodesThatTheCpuMakes) {
  TempDir directory;
  TinyLlama().WriteTo(directory);
  EngineTask task = Task(directory);
  EngineLanguage language{.language = "deu"};
  EngineCalibration& calibration = task.calibrations.emplace_back();
  std::vector<Digest> digests;
  for (int i = 0; i < 40; ++i) {
    language.texts.push_back(
        absl::StrCat("Jeder hat das Recht auf ", i * 31, " ", i * 7919));
    calibration.documents.push_back({.language = 1, .text = i});
    digests.push_back(Digest::Of(language.texts.back()));
  }
  task.languages.push_back(std::move(language));
  const std::string texts = ShortDigestText(CalibrationTexts(digests));
  task.configurations.clear();
  for (const char* quantizer :
       {"gptq:bits=4,group=32", "gptq:bits=3,group=-1,sym=0",
        "gptq:bits=4,group=48,act_order=1",
        "gptq:bits=8,group=32,act_order=1,static_groups=1",
        "gptq:bits=2,group=32,calib=qpath", "awq:bits=3,group=32"}) {
    task.configurations.push_back(
        {.quantizer = absl::StrCat(quantizer, ",texts=", texts),
         .layer_set = "none"});
  }
  const EngineResult cuda = Run(*cuda_, task);
  const EngineResult cpu = Run(*cpu_, task);
  ASSERT_EQ(cuda.rows.size(), cpu.rows.size());
  ASSERT_FALSE(cuda.rows.empty());
  for (size_t i = 0; i < cuda.rows.size(); ++i) {
    EXPECT_NE(cuda.rows[i].codes, Digest());
    EXPECT_EQ(cuda.rows[i].codes, cpu.rows[i].codes) << i;
  }
}

TEST_F(CudaEngineTest, RefusesTheTask_WhenMemoryHoldsNoRow) {
  TempDir directory;
  TinyLlama().WriteTo(directory);
  auto small = Engine::Create(
      {.device = "cuda", .threads = 1, .memory = {.bytes = 200'000'000}});
  ASSERT_TRUE(small.ok()) << small.status();
  Silent sink;
  EXPECT_EQ(
      CodeOf((*small)->Run(Task(directory), sink, std::stop_token()).status()),
      "QS5006");
}

}  // namespace
}  // namespace qsweep
