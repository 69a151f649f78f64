#ifndef QSWEEP_TESTS_WORKER_ENGINE_ENGINE_FIXTURE_H_
#define QSWEEP_TESTS_WORKER_ENGINE_ENGINE_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "common/job/configuration.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_llama.h"
#include "worker/engine/engine.h"

namespace qsweep::testing {

// Keeps what it is told, and then calls `then`.
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

inline std::unique_ptr<Engine> MakeEngine(int threads, int64_t memory_bytes = 0,
                                          const std::string& state_dir = "") {
  auto engine = Engine::Create({.device = "cpu",
                                .threads = threads,
                                .memory = {.bytes = memory_bytes},
                                .state_dir = state_dir});
  EXPECT_TRUE(engine.ok()) << engine.status();
  return *std::move(engine);
}

// Every value of a row, so that == means equal to the last bit.
using RowValues =
    std::tuple<int, int, RowStatus, double, double, double, uint64_t, uint64_t,
               uint64_t, uint64_t, double, uint64_t, uint64_t>;
inline RowValues Values(const EngineRow& row) {
  return {row.configuration, row.document,        row.status, row.nll_sum,
          row.nll_fp_sum,    row.unigram_nll_sum, row.tokens, row.bytes,
          row.bytes_scored,  row.chars,           row.kl_sum, row.top1,
          row.nonfinite};
}
inline std::vector<RowValues> Values(const EngineResult& result) {
  std::vector<RowValues> values;
  for (const EngineRow& row : result.rows) {
    values.push_back(Values(row));
  }
  return values;
}

// Which layers a quantizer leaves alone: quantizer, layer set.
using QuantizerOnLayers = std::pair<std::string, std::string>;

// A task that scores all texts of the languages with the model at `path`.
inline EngineTask MakeTask(Engine& engine, const std::string& path,
                           const std::vector<QuantizerOnLayers>& configurations,
                           std::vector<EngineLanguage> languages) {
  const ModelDescription& model = *engine.Describe(path).value();
  EngineTask task;
  task.model_path = path;
  task.evaluation =
      EvaluationText("aligned", model.tokenizer_digest, 0).value();
  for (const auto& [quantizer, layer_set] : configurations) {
    task.configurations.push_back(
        {.quantizer = quantizer, .layer_set = layer_set});
  }
  for (size_t language = 0; language < languages.size(); ++language) {
    for (size_t text = 0; text < languages[language].texts.size(); ++text) {
      task.documents.push_back({.language = static_cast<int>(language),
                                .text = static_cast<int>(text)});
    }
  }
  task.languages = std::move(languages);
  return task;
}

// Text of at least so many bytes.
inline std::string Filler(size_t size) {
  std::string filler = "All human beings are born free and equal. ";
  while (filler.size() < size) {
    filler += filler;
  }
  return filler;
}

// A tiny model in a folder, and tasks of it.
class EngineTest : public ::testing::Test {
 protected:
  EngineTest() { TinyLlama().WriteTo(directory_); }

  // Configurations of every kind of sharing: single layers, pairs, parts of a
  // layer, other bits, quantized embeddings, heads and norms.
  EngineTask Task(Engine& engine) {
    const std::string filler = Filler(300);
    EngineTask task = MakeTask(
        engine, directory_.path(),
        {{"rtn:bits=4,group=32", "none"},
         {"fp", "all"},
         {"rtn:bits=4,group=32", "L0"},
         {"rtn:bits=4,group=32", "L1"},
         {"rtn:bits=4,group=32", "L2"},
         {"rtn:bits=4,group=32", "L0+L2"},
         {"rtn:bits=4,group=32", "attn@L1"},
         {"rtn:bits=3,group=-1", "none"},
         {"upstream:gpu", "none"},
         {"upstream:gpu", "L0"},
         {"upstream:p5-weights", "L0"}},
        {{.language = "eng",
          .texts = {"All human beings", filler.substr(0, 300), "z", "equal"}},
         {.language = "deu",
          .texts = {"Alle Menschen sind frei und gleich an W\xC3\xBCrde",
                    filler.substr(7, 131), "Rechte"}}});
    task.model_digest = (*engine.Describe(directory_.path()))->digest;
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

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_WORKER_ENGINE_ENGINE_FIXTURE_H_
