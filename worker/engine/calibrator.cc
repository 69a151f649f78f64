#include "worker/engine/calibrator.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/engine/awq_search.h"

namespace qsweep {
namespace {

constexpr int64_t kLeastAwqTokens = 64;
constexpr ProductMode kMode;           // fp32, whatever the task computes in
constexpr size_t kReportsPerPass = 8;  // of the units through a layer

std::optional<BlockInput> InputOf(Component component) {
  switch (component) {
    case Component::kQ:
    case Component::kK:
    case Component::kV:
      return BlockInput::kAttention;
    case Component::kO:
      return BlockInput::kContext;
    case Component::kGate:
    case Component::kUp:
      return BlockInput::kMlp;
    case Component::kDown:
      return BlockInput::kDown;
    default:
      return std::nullopt;
  }
}

// Nothing: it is no linear layer whose inputs are known.
std::optional<BlockInput> InputOf(const TensorDescription& tensor) {
  return tensor.bias || tensor.shape.size() != 2 ? std::nullopt
                                                 : InputOf(tensor.component);
}

bool Quantizes(const StageVariant& variant) {
  return std::ranges::any_of(
      variant, [](const auto& scheme) { return scheme.has_value(); });
}

absl::Status CheckScales(const Scheme& scheme, absl::string_view tensor,
                         const kernels::CodedTensor& coded) {
  if (std::ranges::all_of(coded.scales,
                          [](float scale) { return std::isfinite(scale); })) {
    return absl::OkStatus();
  }
  const bool half = scheme.scale == ScaleStorage::kFp16;
  const bool damps = scheme.method == Method::kGptq;
  return MakeError(
      kSingularHessian,
      absl::StrCat("The ", half ? "scales" : "weights", " of ", tensor,
                   " overflow while it is quantized."),
      half    ? "scale"
      : damps ? "damp"
              : "method",
      half    ? damps ? "Use scale=fp32, or damp=0.1." : "Use scale=fp32."
      : damps ? "Use damp=0.1."
              : "Use gptq, rtn or nf4.");
}

}  // namespace

int64_t CalibrationTokens::num_tokens() const {
  int64_t tokens = 0;
  for (const std::vector<int32_t>& ids : documents) {
    tokens += static_cast<int64_t>(ids.size());
  }
  return tokens;
}

Calibrator::Calibrator(const Checkpoint& checkpoint,
                       const ModelDescription& model, const SweepPlan& plan,
                       ThreadPool& pool, Device& device, CodeCache& codes,
                       std::stop_token stop, Progress progress)
    : checkpoint_(checkpoint),
      model_(model),
      config_(checkpoint.config()),
      sweep_(plan),
      pool_(pool),
      device_(device),
      codes_(codes),
      stop_(std::move(stop)),
      progress_(std::move(progress)) {}

// Parallel to the steps.
absl::StatusOr<std::vector<Calibrator::Linears>> Calibrator::FindLinears()
    const {
  std::vector<Linears> all;
  for (const CalibrationStep& step : plan_.steps) {
    const Stage& stage = sweep_.layers[static_cast<size_t>(step.layer)];
    Linears& linears = all.emplace_back();
    for (const CalibrationStep::Wanted& one : step.wanted) {
      const TensorDescription& tensor =
          model_.tensors[static_cast<size_t>(stage.tensors[one.tensor])];
      const std::optional<BlockInput> input = InputOf(tensor);
      if (!input) {
        return MakeError(
            kUnsupportedArchitecture,
            absl::StrCat("The inputs of '", tensor.name, "' are not known."));
      }
      (one.scheme.method == Method::kAwq ? linears.awq : linears.gptq)
          .push_back({.tensor = one.tensor,
                      .scheme = one.scheme,
                      .input = *input,
                      .rows = tensor.shape[0],
                      .columns = tensor.shape[1]});
    }
  }
  return all;
}

absl::Status Calibrator::CheckTokens(
    const CalibrationTokens& tokens,
    const std::vector<Linears>& linears) const {
  int64_t widest = 0;  // Hessian
  bool awq = false;
  for (const Linears& step : linears) {
    awq = awq || !step.awq.empty();
    for (const CalibratedLinear& one : step.gptq) {
      widest = std::max(widest, one.columns);
    }
  }
  if (tokens.num_tokens() < widest) {
    return MakeError(
        kCalibrationTooShort,
        absl::StrCat("The calibration texts have ", tokens.num_tokens(),
                     " tokens, and a layer of ", model_.name, " has ", widest,
                     " inputs."),
        "calibration", "Take more texts: some times as many tokens.");
  }
  if (awq && tokens.num_tokens() < kLeastAwqTokens) {
    return MakeError(
        kCalibrationTooShort,
        absl::StrCat("The calibration texts have ", tokens.num_tokens(),
                     " tokens, and AWQ needs ", kLeastAwqTokens, " at least."),
        "calibration", "Take more texts: some thousand tokens.");
  }
  return absl::OkStatus();
}

absl::Status Calibrator::CheckMemory(const CalibrationTokens& tokens,
                                     const std::vector<Linears>& linears,
                                     int64_t memory_bytes) const {
  const size_t units = CalibrationStates::NumUnits(tokens.documents);
  int64_t work = 0;  // of a step
  for (const Linears& step : linears) {
    int64_t awq = 0;
    int64_t codes = 0;  // at a time
    for (const CalibratedLinear& one : step.awq) {
      const int64_t group =
          one.scheme.group == 0 ? one.columns : one.scheme.group;
      awq = std::max(awq,
                     AwqSearch::Bytes(config_, tokens.num_tokens(), units,
                                      one.columns, group, pool_.num_threads()));
      codes = std::max(codes, one.rows * one.columns);
    }
    work = std::max({work, awq + codes, GptqLayer::Bytes(step.gptq)});
  }
  // A layer as it is stored, its weights, the codes or scratch that they are
  // made from, and their panels. The embeddings are gone before that.
  std::vector<int64_t> layers(sweep_.layers.size());
  int64_t embedding = 0;
  for (const TensorDescription& tensor : model_.tensors) {
    const int64_t bytes =
        tensor.num_elements() * static_cast<int64_t>(sizeof(float));
    if (tensor.layer >= 0) {
      layers[static_cast<size_t>(tensor.layer)] += bytes;
    } else if (tensor.component == Component::kEmbedToken) {
      embedding = bytes;
    }
  }
  const int64_t layer = *std::ranges::max_element(layers);
  const int64_t bytes =
      CalibrationStates::Bytes(config_, tokens.documents, plan_.num_slots,
                               pool_.num_threads()) +
      std::max(embedding, work + 3 * layer + BlockRunner::PanelBytes(config_));
  if (bytes > memory_bytes) {
    return MakeError(
        kOutOfMemory,
        absl::StrCat("Calibration takes more than the ", memory_bytes,
                     " bytes that the engine may use. The least that works is ",
                     bytes, " bytes."),
        "--memory", "Give the engine more memory, or take fewer texts.");
  }
  return absl::OkStatus();
}

void Calibrator::Report(const CalibrationStep& step, double part) const {
  const size_t steps = plan_.steps.size();
  std::string text = absl::StrCat("calibrating: layer ", step.layer + 1, " of ",
                                  sweep_.layers.size());
  if (steps > sweep_.layers.size()) {
    absl::StrAppend(&text, ", step ", done_ + 1, " of ", steps);
  }
  progress_((static_cast<double>(done_) + part) / static_cast<double>(steps),
            text);
}

absl::Status Calibrator::Store(const StageTensors& tensors,
                               const CalibratedLinear& linear,
                               kernels::CodedTensor coded) {
  const std::string& name = tensors.description(linear.tensor).name;
  QSWEEP_RETURN_IF_ERROR(CheckScales(linear.scheme, name, coded));
  return codes_.Store(codes_.Key(model_, name, linear.scheme),
                      std::move(coded));
}

absl::Status Calibrator::QuantizeAwq(
    const CalibrationStep& step, const std::vector<CalibratedLinear>& linears,
    const StageTensors& tensors, BlockWeights& weights) {
  const Stage& stage = sweep_.layers[static_cast<size_t>(step.layer)];
  std::vector<AwqSearch::Linear> all;
  for (size_t t = 0; t < stage.tensors.size(); ++t) {
    if (const auto input = InputOf(tensors.description(t))) {
      all.push_back({.tensor = t, .input = *input});
    }
  }
  AwqSearch search(
      config_, tensors, std::move(all), weights, states_->num_positions(),
      states_->num_units(), pool_, stop_,
      [&](const BlockWeights& with, const AwqSearch::Visit& visit,
          const std::function<bool()>& enough) -> absl::Status {
        const size_t units = states_->num_units();
        const size_t batch = states_->batch_units();
        for (size_t first = 0; first < units && !enough(); first += batch) {
          QSWEEP_RETURN_IF_ERROR(states_->Run(
              with, step.from, /*to=*/std::nullopt, first,
              std::min(batch, units - first), /*inputs=*/true, visit));
        }
        Report(step, 0);
        return absl::OkStatus();
      });
  QSWEEP_RETURN_IF_ERROR(search.Measure());
  for (const CalibratedLinear& one : linears) {
    QSWEEP_ASSIGN_OR_RETURN(kernels::CodedTensor coded,
                            search.Quantize(one.scheme, {.tensor = one.tensor,
                                                         .input = one.input}));
    QSWEEP_RETURN_IF_ERROR(Store(tensors, one, std::move(coded)));
  }
  return absl::OkStatus();
}

absl::Status Calibrator::Advance(const CalibrationStep& step,
                                 const BlockWeights& weights,
                                 std::optional<int> to, GptqLayer* gptq) {
  const size_t units = states_->num_units();
  const size_t some = std::max<size_t>(1, units / kReportsPerPass);
  size_t told = 0;
  for (size_t first = 0; first < units; first += states_->batch_units()) {
    if (first / some > told) {
      told = first / some;
      // Half of a step's time, or less.
      Report(step,
             0.5 * static_cast<double>(first) / static_cast<double>(units));
    }
    const size_t count = std::min(states_->batch_units(), units - first);
    QSWEEP_RETURN_IF_ERROR(states_->Run(weights, step.from, to, first, count,
                                        /*inputs=*/gptq != nullptr));
    if (gptq != nullptr) {
      QSWEEP_RETURN_IF_ERROR(gptq->Add(states_->inputs(count)));
    }
  }
  return absl::OkStatus();
}

absl::Status Calibrator::Look(const CalibrationStep& step,
                              const Linears& linears,
                              const StageTensors& tensors,
                              std::optional<int> to, BlockWeights& weights) {
  if (!linears.awq.empty()) {
    QSWEEP_RETURN_IF_ERROR(QuantizeAwq(step, linears.awq, tensors, weights));
  }
  if (linears.gptq.empty()) {
    return to ? Advance(step, weights, to, nullptr) : absl::OkStatus();
  }
  GptqLayer gptq(linears.gptq, pool_, device_, stop_);
  QSWEEP_RETURN_IF_ERROR(Advance(step, weights, to, &gptq));
  return gptq.Quantize(
      tensors, states_->num_positions(),
      [&](const CalibratedLinear& linear, kernels::CodedTensor coded) {
        return Store(tensors, linear, std::move(coded));
      });
}

absl::Status Calibrator::RunStep(const CalibrationStep& step,
                                 const Linears& linears) {
  const Stage& stage = sweep_.layers[static_cast<size_t>(step.layer)];
  if (step.begins) {
    // Calibrated methods leave the embeddings alone.
    QSWEEP_ASSIGN_OR_RETURN(const StageTensors table,
                            StageTensors::Read(checkpoint_, model_,
                                               sweep_.embedding, pool_, stop_));
    states_->Embed(table.values(0), step.from);
  }
  QSWEEP_ASSIGN_OR_RETURN(
      const StageTensors tensors,
      StageTensors::Read(checkpoint_, model_, stage, pool_, stop_));
  const bool plain = step.variant && !Quantizes(*step.variant);
  if (plain || !step.wanted.empty()) {
    BlockWeights weights;
    QSWEEP_RETURN_IF_ERROR(tensors.MakeBlock(StageVariant(stage.tensors.size()),
                                             kMode, sources_, pool_, stop_,
                                             weights));
    QSWEEP_RETURN_IF_ERROR(Look(step, linears, tensors,
                                plain ? std::optional(step.to) : std::nullopt,
                                weights));
  }
  if (step.variant && !plain) {
    BlockWeights weights;
    QSWEEP_RETURN_IF_ERROR(tensors.MakeBlock(*step.variant, kMode, sources_,
                                             pool_, stop_, weights));
    QSWEEP_RETURN_IF_ERROR(Advance(step, weights, step.to, nullptr));
  }
  Report(step, 1);
  return absl::OkStatus();
}

absl::Status Calibrator::Run(const CalibrationTokens& tokens,
                             int64_t memory_bytes) {
  plan_ = PlanCalibration(
      model_, sweep_, tokens.texts,
      [this](const TensorDescription& tensor, const Scheme& scheme) {
        return !codes_.Has(codes_.Key(model_, tensor.name, scheme));
      });
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<Linears> linears, FindLinears());
  if (plan_.steps.empty()) {
    return absl::OkStatus();
  }
  QSWEEP_RETURN_IF_ERROR(CheckTokens(tokens, linears));
  QSWEEP_RETURN_IF_ERROR(CheckMemory(tokens, linears, memory_bytes));
  states_.emplace(config_, tokens.documents, plan_.num_slots, pool_, stop_);
  for (done_ = 0; done_ < plan_.steps.size(); ++done_) {
    QSWEEP_RETURN_IF_ERROR(RunStep(plan_.steps[done_], linears[done_]));
  }
  states_.reset();
  return absl::OkStatus();
}

}  // namespace qsweep
