// Writes a model as a configuration has it.
#include "worker/kernels/quantize.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <malloc.h>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/host_cpus.h"
#include "common/base/status_macros.h"
#include "common/job/configuration.h"
#include "worker/engine/block_places.h"
#include "worker/engine/code_cache.h"
#include "worker/engine/commands/commands.h"
#include "worker/engine/commands/gptq_format.h"
#include "worker/engine/commands/interrupts.h"
#include "worker/engine/commands/stderr_sink.h"
#include "worker/engine/commands/texts.h"
#include "worker/engine/commands/write_room.h"
#include "worker/engine/engine.h"
#include "worker/engine/host_memory.h"
#include "worker/engine/largest_weights.h"
#include "worker/engine/ready_checkpoints.h"
#include "worker/engine/thread_pool.h"
#include "worker/engine/weight_sources.h"
#include "worker/kernels/coded_tensor.h"
#include "worker/kernels/row_kernels.h"
#include "worker/model/checkpoint.h"
#include "worker/model/gptq_packing.h"
#include "worker/model/new_directory.h"
#include "worker/model/safetensors_writer.h"

namespace qsweep {
namespace {

using Json = nlohmann::ordered_json;

std::span<const uint8_t> BytesOf(std::span<const float> values) {
  return {reinterpret_cast<const uint8_t*>(values.data()),
          values.size() * sizeof(float)};
}

std::span<const uint8_t> BytesOf(const std::string& bytes) {
  return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
}

// The configuration of a model, tensor by tensor, into one safetensors file.
class WeightsWriter {
 public:
  // engine: has run the configuration, where it is calibrated; else nullptr.
  // All are borrowed.
  WeightsWriter(const Checkpoint& checkpoint, const ModelDescription& model,
                const Configuration& configuration, bool pack, Engine* engine)
      : checkpoint_(checkpoint),
        model_(model),
        configuration_(configuration),
        pack_(pack),
        engine_(engine) {}

  // Writes all tensors. Returns the size of the file. CANCELLED.
  absl::StatusOr<int64_t> Write(const std::string& path, const WriteRoom& room,
                                int threads, StderrSink& sink,
                                const std::stop_token& stop) {
    QSWEEP_ASSIGN_OR_RETURN(
        file_, SafetensorsFile::Create(
                   path, Entries(),
                   {{"format", "pt"},
                    {"qsweep.model", model_.digest.hex()},
                    {"qsweep.configuration", configuration_.digest.hex()},
                    {"qsweep.quantizer", configuration_.quantizer_text},
                    {"qsweep.layer_set", configuration_.layer_set_text}}));
    if (!configuration_.baseline()) {
      QSWEEP_ASSIGN_OR_RETURN(const Quantizer quantizer,
                              ParseQuantizer(configuration_.quantizer_text));
      QSWEEP_RETURN_IF_ERROR(checkpoints_.Open(
          std::span(&quantizer, 1), checkpoint_, model_, StoppedBy(stop)));
    }
    {
      ThreadPool counters(room.counting_threads);
      QSWEEP_RETURN_IF_ERROR(largest_.Find(
          checkpoint_, model_, std::span(&configuration_, 1), counters, stop,
          [&sink](double done) {
            sink.OnProgress(
                {.fraction = done, .text = "finding the largest weights"});
          }));
    }
    ThreadPool pool(threads);
    size_t first = 0;
    for (const size_t end : room.ends) {
      sink.OnProgress({.fraction = static_cast<double>(first) /
                                   static_cast<double>(model_.tensors.size()),
                       .text = "writing the weights"});
      QSWEEP_RETURN_IF_ERROR(pool.ParallelFor(
          static_cast<int64_t>(end - first), stop, [&](int64_t index, int) {
            return WriteTensor(first + static_cast<size_t>(index),
                               StoppedBy(stop));
          }));
      first = end;
    }
    QSWEEP_RETURN_IF_ERROR(file_->Finish());
    return file_->size();
  }

 private:
  static std::string Module(const TensorDescription& tensor) {
    constexpr size_t kSuffix = sizeof(".weight") - 1;
    return tensor.name.substr(0, tensor.name.size() - kSuffix);
  }

  std::vector<SafetensorsFile::Entry> Entries() const {
    std::vector<SafetensorsFile::Entry> entries;
    for (size_t i = 0; i < model_.tensors.size(); ++i) {
      const TensorDescription& tensor = model_.tensors[i];
      const std::optional<Scheme>& scheme = configuration_.schemes[i];
      if (!scheme || !pack_) {
        const auto plain = checkpoint_.FindPlain(tensor.name);
        entries.push_back(
            {.name = tensor.name,
             .type = plain && !scheme ? plain->type : TensorType::kF32,
             .shape = tensor.shape});
        continue;
      }
      const int64_t rows = tensor.shape[0];
      const int64_t columns = tensor.shape[1];
      const int64_t group =
          scheme->granularity == Granularity::kGroup ? scheme->group : columns;
      const int64_t groups = (columns + group - 1) / group;
      const std::string name = Module(tensor);
      entries.push_back({.name = name + ".qweight",
                         .type = TensorType::kI32,
                         .shape = {columns * scheme->bits / 32, rows}});
      entries.push_back({.name = name + ".qzeros",
                         .type = TensorType::kI32,
                         .shape = {groups, rows * scheme->bits / 32}});
      entries.push_back({.name = name + ".scales",
                         .type = TensorType::kF16,
                         .shape = {groups, rows}});
      entries.push_back({.name = name + ".g_idx",
                         .type = TensorType::kI32,
                         .shape = {columns}});
    }
    return entries;
  }

  absl::Status WriteTensor(size_t index, const Stopped& stopped) {
    const TensorDescription& tensor = model_.tensors[index];
    const std::optional<Scheme>& scheme = configuration_.schemes[index];
    kernels::FloatBuffer buffer(tensor.num_elements());
    const std::span<float> values(buffer.data(),
                                  static_cast<size_t>(buffer.size()));
    QSWEEP_RETURN_IF_ERROR(
        checkpoint_.ReadTensor(tensor.name, values, stopped));
    if (!scheme) {
      const auto plain = checkpoint_.FindPlain(tensor.name);
      return file_->Write(tensor.name, plain ? plain->data : BytesOf(values));
    }
    const int64_t rows = RowsOf(tensor);
    const int64_t columns = ColumnsOf(tensor);
    if (scheme->calibrated()) {
      QSWEEP_ASSIGN_OR_RETURN(const auto coded,
                              engine_->FindCodes(tensor.name, *scheme));
      if (pack_) {
        return WritePacked(tensor, *coded);
      }
      coded->Decode(values);
    } else if (pack_) {
      QSWEEP_ASSIGN_OR_RETURN(
          const kernels::CodedTensor coded,
          kernels::QuantizeToCodes(*scheme, values, rows, columns));
      return WritePacked(tensor, coded);
    } else {
      QSWEEP_RETURN_IF_ERROR(RoundTensor(*scheme, tensor, values, sources_,
                                         kernels::InSequence, stopped, values));
    }
    return file_->Write(tensor.name, BytesOf(values));
  }

  absl::Status WritePacked(const TensorDescription& tensor,
                           const kernels::CodedTensor& coded) {
    const GptqBytes bytes =
        PackGptq({.rows = coded.rows,
                  .columns = coded.columns,
                  .groups = coded.groups,
                  .bits = coded.bits,
                  .codes = coded.codes,
                  .zeros = coded.zeros,
                  .scales = coded.scales,
                  .group_of_column = coded.group_of_column});
    const std::string name = Module(tensor);
    QSWEEP_RETURN_IF_ERROR(
        file_->Write(name + ".qweight", BytesOf(bytes.qweight)));
    QSWEEP_RETURN_IF_ERROR(
        file_->Write(name + ".qzeros", BytesOf(bytes.qzeros)));
    QSWEEP_RETURN_IF_ERROR(
        file_->Write(name + ".scales", BytesOf(bytes.scales)));
    return file_->Write(name + ".g_idx", BytesOf(bytes.g_idx));
  }

  const Checkpoint& checkpoint_;
  const ModelDescription& model_;
  const Configuration& configuration_;
  const bool pack_;
  Engine* const engine_;
  const CodeCache codes_{"", "", 0};  // the engine has them
  LargestWeights largest_;
  ReadyCheckpoints checkpoints_{ModelCacheDir()};
  const WeightSources sources_{codes_, largest_, checkpoints_};
  std::unique_ptr<SafetensorsFile> file_;
};

bool KeepsLargest(const Configuration& configuration) {
  return std::ranges::any_of(configuration.schemes,
                             [](const std::optional<Scheme>& scheme) {
                               return scheme && scheme->kept_millionths != 0;
                             });
}

// config.json of what is written, from that of the model.
absl::StatusOr<std::string> EditConfig(const SideFile& file,
                                       const std::optional<Json>& packing) {
  Json config = Json::parse(file.content, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) {
    return MakeError(kCorruptModel, "the file is not a JSON object", file.name,
                     "Download the model again.");
  }
  // Readers round the weights to this type. Scales are fp16, and lose bits in
  // bf16.
  const char* const type = packing ? "float16" : "float32";
  if (config.contains("dtype")) {
    config["dtype"] = type;
  }
  if (config.contains("torch_dtype") || !config.contains("dtype")) {
    config["torch_dtype"] = type;
  }
  config.erase("quantization_config");
  if (packing) {
    config["quantization_config"] = *packing;
  }
  return config.dump(2) + "\n";
}

absl::Status WriteSideFiles(const Checkpoint& checkpoint,
                            const std::optional<Json>& packing,
                            NewDirectory& directory) {
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<SideFile> files,
                          checkpoint.SideFiles());
  for (const SideFile& file : files) {
    if (file.name == "config.json") {
      QSWEEP_ASSIGN_OR_RETURN(const std::string config,
                              EditConfig(file, packing));
      QSWEEP_RETURN_IF_ERROR(directory.WriteFile(file.name, config));
    } else {
      QSWEEP_RETURN_IF_ERROR(directory.WriteFile(file.name, file.content));
    }
  }
  if (packing) {
    QSWEEP_RETURN_IF_ERROR(
        directory.WriteFile("quantize_config.json", packing->dump(2) + "\n"));
  }
  return absl::OkStatus();
}

std::string FormatReport(const QuantizeFlags& flags,
                         const Configuration& configuration, int64_t bytes) {
  const auto quantized = std::count_if(
      configuration.schemes.begin(), configuration.schemes.end(),
      [](const std::optional<Scheme>& scheme) { return scheme.has_value(); });
  const auto kept =
      static_cast<int64_t>(configuration.schemes.size()) - quantized;
  if (flags.output == "json") {
    const Json item = {{"path", flags.target},
                       {"format", flags.format},
                       {"configuration", configuration.digest.hex()},
                       {"quantizer", configuration.quantizer_text},
                       {"layer_set", configuration.layer_set_text},
                       {"tensors_quantized", quantized},
                       {"tensors_kept", kept},
                       {"weight_bytes", bytes}};
    const Json document = {{"schema", "qctl/v1"},
                           {"kind", "Checkpoint"},
                           {"items", Json::array({item})}};
    return document.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  return absl::StrCat(
      "written        ", flags.target, "\nformat         ", flags.format,
      "\nquantizer      ", configuration.quantizer_text, "\nlayer set      ",
      configuration.layer_set_text, "\nconfiguration  ",
      configuration.digest.hex(), "\ntensors        ", quantized,
      " quantized, ", kept, " kept\nweights        ", bytes, " bytes\n");
}

}  // namespace

absl::Status RunQuantize(const QuantizeFlags& flags, const Print& print) {
  QSWEEP_ASSIGN_OR_RETURN(const EngineConfiguration wanted,
                          ConfigurationOfFlags(flags.quantizer, flags.protect));
  // What a tensor took goes back when it is freed: malloc would keep up to 64
  // MiB for each thread.
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  const Interrupts interrupts;
  const StopWhenInterrupted interrupted(interrupts);
  StderrSink sink;
  QSWEEP_ASSIGN_OR_RETURN(const std::unique_ptr<NewDirectory> directory,
                          NewDirectory::Create(flags.target));
  QSWEEP_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint,
                          Checkpoint::Open(flags.model));
  const Stopped stopped = StoppedBy(interrupted.stop());
  QSWEEP_ASSIGN_OR_RETURN(const ModelDescription model,
                          checkpoint->Describe(ModelCacheDir(), stopped));
  EngineTask task;
  task.model_path = flags.model;
  task.configurations.push_back(wanted);
  QSWEEP_ASSIGN_OR_RETURN(
      task.evaluation,
      EvaluationText("hf-text", model.tokenizer_digest, /*max_tokens=*/0));
  QSWEEP_RETURN_IF_ERROR(AddCalibration(flags.calibration, task));
  QSWEEP_ASSIGN_OR_RETURN(task.configurations[0].quantizer,
                          CompleteQuantizer(task.configurations[0].quantizer,
                                            model, ModelCacheDir(), stopped));
  QSWEEP_ASSIGN_OR_RETURN(
      const Configuration configuration,
      ParseConfiguration(model, task.configurations[0].quantizer,
                         task.configurations[0].layer_set, task.compute));
  std::optional<Json> packing;
  if (flags.format == "gptq") {
    QSWEEP_RETURN_IF_ERROR(CheckGptqFormat(model, configuration));
    packing = GptqConfigJson(model, configuration);
  }
  const int threads =
      flags.engine.threads > 0 ? flags.engine.threads : AvailableHostCpus();
  QSWEEP_ASSIGN_OR_RETURN(
      const WriteRoom room,
      FindWriteRoom(WriteBytes(model, configuration, packing.has_value()),
                    KeepsLargest(configuration)
                        ? LargestWeights::BytesOfThread(model)
                        : 0,
                    threads, HostMemoryBytes(flags.engine.memory)));
  std::unique_ptr<Engine> engine;
  if (!task.calibrations.empty()) {
    QSWEEP_ASSIGN_OR_RETURN(engine,
                            Engine::Create({.device = flags.engine.device,
                                            .threads = flags.engine.threads,
                                            .memory = flags.engine.memory,
                                            .cache_dir = ModelCacheDir(),
                                            .state_dir = StateDir()}));
    QSWEEP_RETURN_IF_ERROR(
        engine->Run(task, sink, interrupted.stop()).status());
  }
  WeightsWriter writer(*checkpoint, model, configuration, packing.has_value(),
                       engine.get());
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t bytes,
      writer.Write(directory->path() + "/model.safetensors", room, threads,
                   sink, interrupted.stop()));
  QSWEEP_RETURN_IF_ERROR(WriteSideFiles(*checkpoint, packing, *directory));
  if (interrupts.pending()) {
    return absl::CancelledError("interrupted");
  }
  QSWEEP_RETURN_IF_ERROR(directory->Commit());
  print(FormatReport(flags, configuration, bytes));
  return absl::OkStatus();
}

}  // namespace qsweep
