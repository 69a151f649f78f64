// Times a layer sweep in the engine, without coordinator and pipe:
//   qbench_engine MODEL TEXTS.json [THREADS] [naive]
// Configurations: baseline, "none", each layer protected alone, all with
// rtn:bits=4,group=64. Prints seconds, tokens, and the share of the products'
// measured rate that the sweep reached.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stop_token>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/job/configuration.h"
#include "worker/engine/engine.h"

namespace qsweep {
namespace {

class QuietSink : public EngineSink {
 public:
  void OnProgress(const EngineProgress& progress) override {
    if (progress.text == "scoring" && scoring_since_ == SteadyTime()) {
      scoring_since_ = Clock::Real().SteadyNow();
    }
  }
  SteadyTime scoring_since() const { return scoring_since_; }

 private:
  SteadyTime scoring_since_;
};

EngineTask MakeTask(const std::string& model_path,
                    const ModelDescription& model, const std::string& texts) {
  EngineTask task;
  task.model_path = model_path;
  task.evaluation = *EvaluationText("aligned", model.tokenizer_digest, 0);
  task.configurations = {
      {.quantizer = "fp", .layer_set = "all"},
      {.quantizer = "rtn:bits=4,group=64", .layer_set = "none"}};
  for (int layer = 0; layer < model.layers; ++layer) {
    task.configurations.push_back({.quantizer = "rtn:bits=4,group=64",
                                   .layer_set = absl::StrCat("L", layer)});
  }
  std::ifstream file(texts);
  std::stringstream bytes;
  bytes << file.rdbuf();
  const auto root = nlohmann::json::parse(bytes.str());
  for (const auto& [language, list] : root.items()) {
    for (size_t text = 0; text < list.size(); ++text) {
      task.documents.push_back(
          {static_cast<int>(task.languages.size()), static_cast<int>(text)});
    }
    task.languages.push_back({language, list});
  }
  return task;
}

// Floating-point operations of the products, attention left out.
double Flops(const ModelDescription& model, const EngineResult& result,
             size_t configurations) {
  double linears = 0;
  double head = 0;
  for (const TensorDescription& tensor : model.tensors) {
    const auto elements = static_cast<double>(tensor.num_elements());
    linears += tensor.layer == 0 && IsLinear(tensor.component) ? elements : 0;
    head = tensor.layer < 0 ? std::max(head, elements) : head;
  }
  double tokens = 0;
  for (const EngineRow& row : result.rows) {
    tokens += row.configuration == 0 ? static_cast<double>(row.tokens) : 0;
  }
  return 2 * tokens *
         (linears * static_cast<double>(result.report.layer_evaluations) +
          head * static_cast<double>(configurations));
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s MODEL TEXTS.json [THREADS] [naive]\n",
                 argv[0]);
    return 2;
  }
  const int threads = argc > 3 ? std::atoi(argv[3]) : 0;
  auto engine = Engine::Create({.threads = threads});
  if (!engine.ok()) {
    std::fprintf(stderr, "%s\n", FormatErrorForPeople(engine.status()).c_str());
    return 1;
  }
  const auto model = (*engine)->Describe(argv[1]);
  if (!model.ok()) {
    std::fprintf(stderr, "%s\n", FormatErrorForPeople(model.status()).c_str());
    return 1;
  }
  EngineTask task = MakeTask(argv[1], **model, argv[2]);
  task.naive = argc > 4;
  QuietSink sink;
  const SteadyTime begin = Clock::Real().SteadyNow();
  const auto result = (*engine)->Run(task, sink, std::stop_token());
  const SteadyTime end = Clock::Real().SteadyNow();
  if (!result.ok()) {
    std::fprintf(stderr, "%s\n", FormatErrorForPeople(result.status()).c_str());
    return 1;
  }
  const double seconds = absl::ToDoubleSeconds(end - begin);
  const double flops = Flops(**model, *result, task.configurations.size());
  const double rate = (*engine)->info().gflops;
  std::printf(
      "%.1f s (head %.1f s), %zu configurations, %lld layer evaluations, "
      "%.1f TFLOP, %.0f GFLOP/s of %.0f (%.0f%%), peak %lld MiB\n",
      seconds, absl::ToDoubleSeconds(end - sink.scoring_since()),
      task.configurations.size(),
      static_cast<long long>(result->report.layer_evaluations), flops / 1e12,
      flops / seconds / 1e9, rate, 100 * flops / seconds / 1e9 / rate,
      static_cast<long long>(result->report.memory_peak_bytes >> 20));
  return 0;
}

}  // namespace
}  // namespace qsweep

int main(int argc, char** argv) { return qsweep::Main(argc, argv); }
