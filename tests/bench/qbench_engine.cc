// Times the engine and its quantizers, without coordinator and pipe; prints one
// JSON object. `bash deploy/bench.sh engine` runs it beside Python.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/job/configuration.h"
#include "common/job/quantizer.h"
#include "worker/engine/engine.h"
#include "worker/engine/thread_pool.h"
#include "worker/kernels/quantize.h"

namespace qsweep {
namespace {

class NoProgress : public EngineSink {
 public:
  void OnProgress(const EngineProgress&) override {}
};

template <typename Call>
absl::StatusOr<double> Seconds(Call call) {
  const SteadyTime begin = Clock::Real().SteadyNow();
  QSWEEP_RETURN_IF_ERROR(call());
  return absl::ToDoubleSeconds(Clock::Real().SteadyNow() - begin);
}

// --- sweep ---

struct SweepFlags {
  std::string model;
  std::string texts;
  std::string quantizer = "rtn:bits=4,group=64";
  std::string device = "auto";
  std::string compute = "fp32";
  int64_t memory_bytes = 0;
  int threads = 0;
  int singles = -1;
  bool naive = false;
};

// Baseline, no protection, the first `singles` layers protected one at a time.
absl::StatusOr<EngineTask> MakeSweep(const SweepFlags& flags,
                                     const ModelDescription& model) {
  EngineTask task;
  QSWEEP_ASSIGN_OR_RETURN(task.compute, ParseCompute(flags.compute));
  task.model_path = flags.model;
  task.naive = flags.naive;
  task.evaluation = *EvaluationText("aligned", model.tokenizer_digest, 0);
  task.configurations = {{.quantizer = "fp", .layer_set = "all"},
                         {.quantizer = flags.quantizer, .layer_set = "none"}};
  const int singles = flags.singles < 0 ? model.layers : flags.singles;
  for (int layer = 0; layer < std::min(singles, model.layers); ++layer) {
    task.configurations.push_back(
        {.quantizer = flags.quantizer, .layer_set = absl::StrCat("L", layer)});
  }
  std::ifstream file(flags.texts);
  const auto root = nlohmann::json::parse(file);
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

absl::StatusOr<nlohmann::json> RunSweep(const SweepFlags& flags) {
  QSWEEP_ASSIGN_OR_RETURN(
      const std::unique_ptr<Engine> engine,
      Engine::Create({.device = flags.device,
                      .threads = flags.threads,
                      .memory = {.bytes = flags.memory_bytes}}));
  QSWEEP_ASSIGN_OR_RETURN(const ModelDescription* model,
                          engine->Describe(flags.model));
  QSWEEP_ASSIGN_OR_RETURN(const EngineTask task, MakeSweep(flags, *model));
  NoProgress sink;
  EngineResult result;
  QSWEEP_ASSIGN_OR_RETURN(const double seconds, Seconds([&]() -> absl::Status {
                            QSWEEP_ASSIGN_OR_RETURN(
                                result,
                                engine->Run(task, sink, std::stop_token()));
                            return absl::OkStatus();
                          }));
  nlohmann::json rows = nlohmann::json::array();
  for (const EngineRow& row : result.rows) {
    const EngineDocument& document =
        task.documents[static_cast<size_t>(row.document)];
    rows.push_back(
        {{"configuration", row.configuration},
         {"language",
          task.languages[static_cast<size_t>(document.language)].language},
         {"text", document.text},
         {"tokens", row.tokens},
         {"nll_sum", row.nll_sum},
         {"kl_sum", row.kl_sum},
         {"top1", row.top1}});
  }
  return nlohmann::json{
      {"device", engine->info().device},
      {"fingerprint", engine->info().fingerprint},
      {"seconds", seconds},
      {"load_seconds", result.report.load_seconds},
      {"run_seconds", result.report.run_seconds},
      {"memory_peak_bytes", result.report.memory_peak_bytes},
      {"device_memory_peak_bytes", result.report.device_memory_peak_bytes},
      {"configurations", task.configurations.size()},
      {"layer_evaluations", result.report.layer_evaluations},
      {"layer_evaluations_planned", result.report.layer_evaluations_planned},
      {"flops", Flops(*model, result, task.configurations.size())},
      {"measured_gflops", engine->info().gflops},
      {"rows", std::move(rows)}};
}

// --- quantize ---

struct QuantizeFlags {
  std::string quantizer;
  std::string weights;  // file of [rows, columns] fp32
  std::string hessian;  // file of [columns, columns] fp32; gptq
  std::string out;      // file to write, as the weights
  std::string codes;    // file to write, a byte each; gptq
  int64_t rows = 0;
  int64_t columns = 0;
  int threads = 1;
  int rounds = 5;
};

absl::StatusOr<std::vector<float>> ReadFloats(const std::string& path,
                                              int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(values.size() * sizeof(float)));
  if (!file || file.peek() != std::ifstream::traits_type::eof()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " does not hold ", count, " floats"));
  }
  return values;
}

// The best of `rounds`: what the code costs, not what disturbed it.
absl::StatusOr<double> BestSeconds(int rounds,
                                   const std::function<absl::Status()>& call) {
  double best = 0;
  for (int round = 0; round < rounds; ++round) {
    QSWEEP_ASSIGN_OR_RETURN(const double seconds, Seconds(call));
    best = round == 0 ? seconds : std::min(best, seconds);
  }
  return best;
}

// Factor, codes and weights of one matrix, rows over the threads.
absl::StatusOr<kernels::CodedTensor> QuantizeCalibrated(
    const QuantizeFlags& flags, const Scheme& scheme,
    std::span<const float> weights, std::span<const float> hessian,
    ThreadPool& pool, std::span<float> out) {
  const kernels::ParallelFor parallel = OnPool(pool, std::stop_token());
  QSWEEP_ASSIGN_OR_RETURN(const kernels::GptqFactor factor,
                          kernels::FactorHessian(scheme, hessian, flags.columns,
                                                 "weights", parallel));
  kernels::CodedTensor coded = kernels::StartCoded(scheme, flags.rows, factor);
  parallel(kernels::QuantizeParts(flags.rows), [&](int64_t part) {
    kernels::QuantizePart(scheme, factor, weights, part, coded);
  });
  coded.Decode(out);
  return coded;
}

absl::Status WriteBytes(const std::string& path, const void* bytes,
                        size_t size) {
  std::ofstream file(path, std::ios::binary);
  file.write(static_cast<const char*>(bytes),
             static_cast<std::streamsize>(size));
  return file.flush()
             ? absl::OkStatus()
             : absl::InternalError(absl::StrCat(path, " cannot be written"));
}

absl::StatusOr<nlohmann::json> RunQuantize(const QuantizeFlags& flags) {
  QSWEEP_ASSIGN_OR_RETURN(const Quantizer quantizer,
                          ParseQuantizer(flags.quantizer));
  QSWEEP_ASSIGN_OR_RETURN(
      const std::vector<float> weights,
      ReadFloats(flags.weights, flags.rows * flags.columns));
  std::vector<float> hessian;
  if (!flags.hessian.empty()) {
    QSWEEP_ASSIGN_OR_RETURN(
        hessian, ReadFloats(flags.hessian, flags.columns * flags.columns));
  }
  std::vector<float> out(weights.size());
  const size_t bytes = weights.size() * sizeof(float);
  QSWEEP_ASSIGN_OR_RETURN(const double copy, BestSeconds(flags.rounds, [&]() {
                            std::memcpy(out.data(), weights.data(), bytes);
                            return absl::OkStatus();
                          }));
  ThreadPool pool(flags.threads);
  kernels::CodedTensor coded;
  QSWEEP_ASSIGN_OR_RETURN(
      const double seconds, BestSeconds(flags.rounds, [&]() -> absl::Status {
        if (!hessian.empty()) {
          QSWEEP_ASSIGN_OR_RETURN(
              coded, QuantizeCalibrated(flags, quantizer.scheme, weights,
                                        hessian, pool, std::span<float>(out)));
          return absl::OkStatus();
        }
        return kernels::FakeQuantize(quantizer.scheme, weights, flags.rows,
                                     flags.columns, std::span<float>(out));
      }));
  QSWEEP_RETURN_IF_ERROR(WriteBytes(flags.out, out.data(), bytes));
  if (!flags.codes.empty()) {
    QSWEEP_RETURN_IF_ERROR(
        WriteBytes(flags.codes, coded.codes.data(), coded.codes.size()));
  }
  return nlohmann::json{
      {"seconds", seconds}, {"copy_seconds", copy}, {"bytes", bytes}};
}

int Print(const absl::StatusOr<nlohmann::json>& result) {
  if (!result.ok()) {
    std::cerr << FormatErrorForPeople(result.status()) << "\n";
    return 1;
  }
  std::cout << result->dump() << "\n";
  return 0;
}

int Main(int argc, char** argv) {
  CLI::App app("Times the engine and its quantizers.");
  app.require_subcommand(1);
  SweepFlags sweep;
  CLI::App* run_sweep = app.add_subcommand("sweep", "a layer sweep");
  run_sweep->add_option("--model", sweep.model)->required();
  run_sweep->add_option("--texts", sweep.texts, "{language: [texts]}")
      ->required();
  run_sweep->add_option("--quantizer", sweep.quantizer);
  run_sweep->add_option("--threads", sweep.threads);
  run_sweep->add_option("--device", sweep.device, "auto, cpu or cuda");
  run_sweep->add_option("--compute", sweep.compute);
  run_sweep->add_option("--memory", sweep.memory_bytes, "bytes; 0: most");
  run_sweep->add_option("--singles", sweep.singles,
                        "layers to protect one at a time; -1: all");
  run_sweep->add_flag("--naive", sweep.naive);
  QuantizeFlags quantize;
  CLI::App* run_quantize = app.add_subcommand("quantize", "one matrix");
  run_quantize->add_option("--quantizer", quantize.quantizer)->required();
  run_quantize->add_option("--weights", quantize.weights)->required();
  run_quantize->add_option("--hessian", quantize.hessian);
  run_quantize->add_option("--rows", quantize.rows)->required();
  run_quantize->add_option("--columns", quantize.columns)->required();
  run_quantize->add_option("--out", quantize.out)->required();
  run_quantize->add_option("--codes", quantize.codes, "of calibrated ones");
  run_quantize->add_option("--threads", quantize.threads, "of calibrated ones");
  run_quantize->add_option("--rounds", quantize.rounds);
  CLI11_PARSE(app, argc, argv);
  return Print(*run_sweep ? RunSweep(sweep) : RunQuantize(quantize));
}

}  // namespace
}  // namespace qsweep

int main(int argc, char** argv) { return qsweep::Main(argc, argv); }
