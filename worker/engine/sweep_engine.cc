// The engine: checks the task, plans, runs the passes, makes rows.
#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include <sys/resource.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/host_cpus.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "common/base/version.h"
#include "common/job/configuration.h"
#include "worker/engine/calibrator.h"
#include "worker/engine/code_cache.h"
#include "worker/engine/device.h"
#include "worker/engine/engine.h"
#include "worker/engine/host_memory.h"
#include "worker/engine/largest_weights.h"
#include "worker/engine/model_identity.h"
#include "worker/engine/noise.h"
#include "worker/engine/pass.h"
#include "worker/engine/pass_room.h"
#include "worker/engine/prepared_task.h"
#include "worker/engine/progress_reporter.h"
#include "worker/engine/ready_checkpoints.h"
#include "worker/engine/thread_pool.h"
#include "worker/engine/timed_machine.h"
#include "worker/model/checkpoint.h"
#include "worker/sweep/executor.h"
#include "worker/sweep/pass_plan.h"
#include "worker/sweep/trie.h"

namespace qsweep {
namespace {

// Codes that stay on disk for later tasks.
constexpr int64_t kCodeBytes = int64_t{16} << 30;

int64_t PeakMemory() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) << 10;
}

class SweepEngine : public Engine {
 public:
  SweepEngine(const EngineOptions& options, int threads)
      : options_(options), pool_(threads), checkpoints_(options.cache_dir) {}

  int num_threads() const { return pool_.num_threads(); }

  absl::Status Start() {
    QSWEEP_ASSIGN_OR_RETURN(
        device_, MakeDevice(options_.device, pool_, options_.memory));
    QSWEEP_RETURN_IF_ERROR(device_->CheckReproducible());
    const DeviceInfo& device = device_->info();
    info_.fingerprint =
        absl::StrCat("qengine ", kVersion, " ", kRevision, " ", device.build);
    info_.device = device.name;
    info_.compute_capability = device.compute_capability;
    info_.methods = {"rtn", "nf4",        "hqq",        "gptq",
                     "awq", "checkpoint", kKeepsLargest};
    info_.computes = ComputesOf(*device_);
    codes_.emplace(options_.cache_dir.empty()
                       ? ""
                       : absl::StrCat(options_.cache_dir, "/codes"),
                   info_.fingerprint, kCodeBytes);
    info_.threads = pool_.num_threads();
    info_.memory_bytes = device.memory_bytes;
    info_.gflops = device_->MeasureGflops();
    return absl::OkStatus();
  }

  const EngineInfo& info() const override { return info_; }

  absl::StatusOr<const ModelDescription*> Describe(
      const std::string& model_path) override {
    QSWEEP_RETURN_IF_ERROR(Load(model_path, std::stop_token()));
    return &model_;
  }

  absl::StatusOr<EngineResult> Run(const EngineTask& task, EngineSink& sink,
                                   std::stop_token stop) override;

  absl::StatusOr<std::shared_ptr<const kernels::CodedTensor>> FindCodes(
      const std::string& tensor, const Scheme& scheme) override {
    return codes_->Find(codes_->Key(model_, tensor, scheme));
  }

 private:
  absl::Status Load(const std::string& path, const std::stop_token& stop);
  absl::Status Calibrate(const PreparedTask& prepared, const SweepPlan& plan,
                         EngineSink& sink, const std::stop_token& stop);
  absl::StatusOr<PassPlan> CutPasses(const EngineTask& task,
                                     const PreparedTask& prepared,
                                     const SweepPlan& plan) const;
  absl::Status RunPass(const EngineTask& task, const PreparedTask& prepared,
                       const SweepPlan& plan,
                       const std::vector<size_t>& documents,
                       const std::vector<bool>& states_in_file,
                       ProgressReporter& reporter, const std::stop_token& stop,
                       EngineResult& result);
  // reporter: made where there is something to compute.
  absl::Status RunPasses(const EngineTask& task, const PreparedTask& prepared,
                         const SweepPlan& plan, EngineSink& sink,
                         const std::stop_token& stop,
                         std::optional<ProgressReporter>& reporter,
                         EngineResult& result);
  void AddNoise(const EngineTask& task, const PreparedTask& prepared,
                const std::stop_token& stop, ProgressReporter& reporter,
                EngineResult& result);

  const EngineOptions options_;
  ThreadPool pool_;
  std::unique_ptr<Device> device_;
  EngineInfo info_;
  std::optional<CodeCache> codes_;  // once the fingerprint is known
  // The model of the last task: still mapped, described once. The identity
  // tells when the file behind the path was replaced.
  std::string path_;
  std::string identity_;
  std::unique_ptr<Checkpoint> checkpoint_;
  ModelDescription model_;
  LargestWeights largest_;
  ReadyCheckpoints checkpoints_;  // of the last task
  // What the noise has been measured of, or cannot be.
  std::set<std::pair<Digest, Compute>> noise_measured_;
};

absl::Status SweepEngine::Load(const std::string& path,
                               const std::stop_token& stop) {
  const std::string identity = IdentityOfModel(path);
  if (checkpoint_ != nullptr && path == path_ && identity == identity_) {
    return absl::OkStatus();
  }
  checkpoint_.reset();
  largest_.Clear();
  QSWEEP_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint,
                          Checkpoint::Open(path));
  QSWEEP_ASSIGN_OR_RETURN(
      model_, checkpoint->Describe(options_.cache_dir, StoppedBy(stop)));
  QSWEEP_RETURN_IF_ERROR(device_->CheckProductsOf(checkpoint->config(), stop));
  checkpoint_ = std::move(checkpoint);
  path_ = path;
  identity_ = identity;
  return absl::OkStatus();
}

// Makes the codes of the calibrated tensors, where an earlier task has not.
absl::Status SweepEngine::Calibrate(const PreparedTask& prepared,
                                    const SweepPlan& plan, EngineSink& sink,
                                    const std::stop_token& stop) {
  if (prepared.calibrations.empty()) {
    return absl::OkStatus();
  }
  codes_->MakeRoom();
  Calibrator calibrator(
      *checkpoint_, model_, plan, pool_, *device_, *codes_, stop,
      [&](double done, const std::string& step) {
        sink.OnProgress({.loading = true, .fraction = done, .text = step});
      });
  // The calibrator's states and Hessians are the CPU's.
  const int64_t host_memory =
      info_.compute_capability > 0
          ? HostMemoryBytes({.percent = options_.memory.percent})
          : info_.memory_bytes;
  for (const CalibrationTokens& tokens : prepared.calibrations) {
    QSWEEP_RETURN_IF_ERROR(calibrator.Run(tokens, host_memory));
  }
  return absl::OkStatus();
}

// Cuts the documents that can be scored into passes, and says which states of
// each are in a file.
absl::StatusOr<PassPlan> SweepEngine::CutPasses(const EngineTask& task,
                                                const PreparedTask& prepared,
                                                const SweepPlan& plan) const {
  std::vector<int64_t> rows;
  for (const TokenizedDocument& document : prepared.documents) {
    rows.push_back(document.status == RowStatus::kOk ? document.num_scored()
                                                     : 0);
  }
  const int64_t longest =
      rows.empty() ? 0 : *std::max_element(rows.begin(), rows.end());
  const PassRoom room =
      FindPassRoom(*device_, checkpoint_->config(), model_, plan, task.compute,
                   task.naive, longest, options_.state_dir);
  const PassLimits& limits = room.limits;
  if (std::optional<PassPlan> passes = PlanPasses(rows, room.uses, limits)) {
    return *std::move(passes);
  }
  const bool files =
      device_->KeepsStatesInFiles() && !options_.state_dir.empty();
  const int64_t states =
      StateBytes(limits, longest) * static_cast<int64_t>(room.uses.size());
  const int64_t least =
      room.working_bytes + limits.other_row * longest + (files ? 0 : states);
  std::string text = absl::StrCat(
      "Weights and buffers take ", room.working_bytes,
      " bytes, and the states of a document of ", longest, " tokens ", states,
      "; the engine may use ", info_.memory_bytes, ". The least that works is ",
      least, " bytes");
  if (files) {
    absl::StrAppend(&text, ", with room for ", states, " bytes of states in ",
                    options_.state_dir, ", which has ", limits.file_room);
  }
  return MakeError(
      kOutOfMemory, absl::StrCat(text, "."), "--memory",
      !files ? "Give the engine more memory, or fewer configurations."
      : info_.memory_bytes < least
          ? "Give the engine more memory."
          : "Make room in that folder, or give the engine more memory.");
}

// Takes one pass through the model and fills its documents' rows.
absl::Status SweepEngine::RunPass(
    const EngineTask& task, const PreparedTask& prepared, const SweepPlan& plan,
    const std::vector<size_t>& documents,
    const std::vector<bool>& states_in_file, ProgressReporter& reporter,
    const std::stop_token& stop, EngineResult& result) {
  Pass pass;
  for (const size_t d : documents) {
    pass.documents.emplace_back(prepared.documents[d].ids);
  }
  pass.sums.assign(prepared.configurations.size(),
                   std::vector<DocumentSums>(documents.size()));
  reporter.StartPass(pass, documents);
  QSWEEP_ASSIGN_OR_RETURN(
      const std::unique_ptr<PassMachine> machine,
      device_->StartPass(
          {.checkpoint = *checkpoint_,
           .model = model_,
           .plan = plan,
           .sources = {*codes_, largest_, checkpoints_},
           .compute = task.compute,
           .stop = stop,
           .num_slots = NumSlots(plan, task.naive),
           .states_in_file = states_in_file,
           .state_directory = options_.state_dir,
           .pass = pass,
           .progress = [&](double work, const std::string& step) {
             reporter.Report(work, step);
           }}));
  TimedMachine timed(model_, plan, *machine);
  QSWEEP_RETURN_IF_ERROR(task.naive
                             ? RunNaive(plan, prepared.baseline, timed)
                             : RunLayerMajor(plan, prepared.baseline, timed));
  reporter.EndPass();
  result.report.weight_bytes += timed.bytes();
  result.report.weight_seconds += timed.seconds();
  result.report.layer_evaluations += machine->rows_advanced();
  const size_t num_configurations = task.configurations.size();
  for (size_t i = 0; i < documents.size(); ++i) {
    for (size_t c = 0; c < num_configurations; ++c) {
      const DocumentSums& sums = pass.sums[c][i];
      EngineRow& row = result.rows[documents[i] * num_configurations + c];
      row.nll_sum = sums.nll;
      row.nll_fp_sum = sums.nll_fp;
      row.tokens = sums.tokens;
      row.kl_sum = sums.kl;
      row.top1 = sums.top1;
      row.nonfinite = sums.nonfinite;
    }
  }
  return absl::OkStatus();
}

absl::Status SweepEngine::RunPasses(const EngineTask& task,
                                    const PreparedTask& prepared,
                                    const SweepPlan& plan, EngineSink& sink,
                                    const std::stop_token& stop,
                                    std::optional<ProgressReporter>& reporter,
                                    EngineResult& result) {
  QSWEEP_ASSIGN_OR_RETURN(const PassPlan cut, CutPasses(task, prepared, plan));
  int64_t total_rows = 0;
  for (const std::vector<size_t>& documents : cut.passes) {
    for (const size_t d : documents) {
      total_rows += prepared.documents[d].num_scored();
    }
  }
  if (total_rows == 0) {
    return absl::OkStatus();  // every document is flagged: nothing to compute
  }
  const ModelConfig& config = checkpoint_->config();
  const int64_t planned = task.naive ? plan.trie.naive_layer_evaluations
                                     : plan.trie.layer_evaluations;
  const double total_work =
      static_cast<double>(total_rows) *
      (static_cast<double>(planned) * LayerWork(config) +
       static_cast<double>(prepared.configurations.size()) * HeadWork(config));
  if (cut.file_bytes > 0) {
    sink.OnProgress(
        {.loading = true,
         .text = absl::StrCat("keeping ", cut.file_bytes >> 20,
                              " MiB of states in ", options_.state_dir)});
  }
  reporter.emplace(task, total_work, sink);
  for (const std::vector<size_t>& documents : cut.passes) {
    QSWEEP_RETURN_IF_ERROR(RunPass(task, prepared, plan, documents, cut.in_file,
                                   *reporter, stop, result));
  }
  std::vector<Digest> codes;
  for (const Configuration& configuration : prepared.configurations) {
    codes.push_back(codes_->DigestOf(model_, configuration));
  }
  for (EngineRow& row : result.rows) {
    if (row.status == RowStatus::kOk) {
      row.codes = codes[static_cast<size_t>(row.configuration)];
    }
  }
  // So far rows were counted, where the products ran.
  EngineReport& report = result.report;
  if (report.layer_evaluations != planned * total_rows) {
    return MakeError(
        kInternal,
        absl::StrCat("the sweep computed ", report.layer_evaluations,
                     " rows, not ", planned, " evaluations of ", total_rows));
  }
  report.layer_evaluations /= total_rows;
  report.layer_evaluations_planned = planned;
  return absl::OkStatus();
}

// Measures the noise of a model and compute, once. The rows are there: nothing
// that happens here may lose them.
void SweepEngine::AddNoise(const EngineTask& task, const PreparedTask& prepared,
                           const std::stop_token& stop,
                           ProgressReporter& reporter, EngineResult& result) {
  const std::pair key(model_.digest, task.compute);
  if (!task.measure_noise || !device_->Reorders() ||
      noise_measured_.contains(key)) {
    return;
  }
  absl::StatusOr<std::optional<EngineNoise>> noise =
      MeasureNoise({*device_,
                    *checkpoint_,
                    model_,
                    {*codes_, largest_, checkpoints_},
                    options_.state_dir,
                    stop,
                    [&](double, const std::string& step) {
                      reporter.Tell(absl::StrCat("noise floor: ", step));
                    }},
                   prepared, result.rows);
  if (noise.ok()) {
    result.report.noise = *noise;
  } else if (!absl::IsCancelled(noise.status())) {
    LogWarning(absl::StrCat("The noise floor is not known: ",
                            noise.status().message()));
  }
  if (noise.ok() ? noise->has_value() : !absl::IsCancelled(noise.status())) {
    noise_measured_.insert(key);
  }
}

absl::StatusOr<EngineResult> SweepEngine::Run(const EngineTask& task,
                                              EngineSink& sink,
                                              std::stop_token stop) {
  const SteadyTime begin = Clock::Real().SteadyNow();
  if (!device_->Computes(task.compute)) {
    return MakeError(
        kBadValue,
        absl::StrCat("This engine's device, ", info_.device,
                     ", does not compute in ", ComputeName(task.compute), "."),
        "compute", "Use --compute fp32.");
  }
  sink.OnProgress({.loading = true, .text = "reading the model"});
  QSWEEP_RETURN_IF_ERROR(Load(task.model_path, stop));
  QSWEEP_ASSIGN_OR_RETURN(const PreparedTask prepared,
                          PrepareTask(task, *checkpoint_, model_, stop));
  QSWEEP_RETURN_IF_ERROR(checkpoints_.Open(prepared.quantizers, *checkpoint_,
                                           model_, StoppedBy(stop)));
  const SweepPlan plan = PlanSweep(model_, prepared.configurations);
  EngineResult result;
  // Without calibration: the next task of the model finds the codes there.
  result.report.load_seconds =
      absl::ToDoubleSeconds(Clock::Real().SteadyNow() - begin);
  QSWEEP_RETURN_IF_ERROR(Calibrate(prepared, plan, sink, stop));
  QSWEEP_RETURN_IF_ERROR(
      largest_.Find(*checkpoint_, model_, prepared.configurations, pool_, stop,
                    [&](double done) {
                      sink.OnProgress({.loading = true,
                                       .fraction = done,
                                       .text = "finding the largest weights"});
                    }));
  for (size_t d = 0; d < task.documents.size(); ++d) {
    const TokenizedDocument& document = prepared.documents[d];
    for (size_t c = 0; c < task.configurations.size(); ++c) {
      EngineRow row = {.configuration = static_cast<int>(c),
                       .document = static_cast<int>(d),
                       .status = document.status,
                       .bytes = document.bytes,
                       .chars = document.chars};
      if (document.status == RowStatus::kOk) {
        row.unigram_nll_sum = prepared.unigram_nll[d];
        row.bytes_scored = document.bytes_scored;
      }
      result.rows.push_back(row);
    }
  }
  const SteadyTime ready = Clock::Real().SteadyNow();
  std::optional<ProgressReporter> reporter;
  QSWEEP_RETURN_IF_ERROR(
      RunPasses(task, prepared, plan, sink, stop, reporter, result));
  result.report.run_seconds =
      absl::ToDoubleSeconds(Clock::Real().SteadyNow() - ready);
  if (reporter) {
    AddNoise(task, prepared, stop, *reporter, result);
  }
  result.report.memory_peak_bytes = PeakMemory();
  result.report.device_memory_peak_bytes = device_->PeakBytes();
  return result;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    const EngineOptions& options) {
  const int threads =
      options.threads > 0 ? options.threads : AvailableHostCpus();
  auto engine = std::make_unique<SweepEngine>(options, threads);
  if (engine->num_threads() < threads) {
    return MakeError(kBadValue,
                     absl::StrCat("The system starts ", engine->num_threads(),
                                  " of ", threads, " threads."),
                     "--threads", "Ask for fewer, or raise the limit.");
  }
  QSWEEP_RETURN_IF_ERROR(engine->Start());
  return engine;
}

}  // namespace qsweep
