#include "worker/engine/calibrator.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/configuration.h"
#include "worker/engine/products.h"
#include "worker/kernels/quantize.h"

namespace qsweep {
namespace {

// Rows that are summed in one product, whole documents; part of what decides
// the bits of a Hessian.
constexpr int64_t kUnitRows = 1024;
constexpr int64_t kLeastAwqTokens = 64;
constexpr int64_t kPanelRows = 128;    // of a Hessian, per item
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

// One factor serves all tensors that read the same input with these settings.
using FactorKey = std::tuple<BlockInput, int, bool>;
FactorKey KeyOf(BlockInput input, const Scheme& scheme) {
  return {input, scheme.damp_millionths, scheme.act_order};
}

// The mean of what was summed over `tokens`, and the lower triangle.
void FinishHessian(int64_t columns, int64_t tokens, float* hessian) {
  const float factor = 2.0f / static_cast<float>(tokens);
  for (int64_t i = 0; i < columns; ++i) {
    for (int64_t j = i; j < columns; ++j) {
      const float value = hessian[i * columns + j] * factor;
      hessian[i * columns + j] = value;
      hessian[j * columns + i] = value;
    }
  }
}

absl::Status CheckScales(const Scheme& scheme, absl::string_view tensor,
                         const kernels::CodedTensor& coded) {
  if (std::ranges::all_of(coded.scales,
                          [](float scale) { return std::isfinite(scale); })) {
    return absl::OkStatus();
  }
  const bool half = scheme.scale == ScaleStorage::kFp16;
  return MakeError(kSingularHessian,
                   absl::StrCat("The ", half ? "scales" : "weights", " of ",
                                tensor, " overflow while it is quantized."),
                   half ? "scale" : "damp",
                   half ? "Use scale=fp32, or damp=0.1." : "Use damp=0.1.");
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
      plan_(plan),
      pool_(pool),
      device_(device),
      codes_(codes),
      stop_(std::move(stop)),
      progress_(std::move(progress)),
      stride_(kernels::RowStride(config_.hidden_size)) {}

absl::StatusOr<std::optional<Calibrator::Wanted>> Calibrator::Missing(
    size_t layer, size_t tensor, const Scheme& scheme) const {
  const TensorDescription& description =
      model_.tensors[static_cast<size_t>(plan_.layers[layer].tensors[tensor])];
  const std::optional<BlockInput> input = InputOf(description.component);
  if (!input || description.bias || description.shape.size() != 2) {
    return MakeError(
        kUnsupportedArchitecture,
        absl::StrCat("The inputs of '", description.name, "' are not known."));
  }
  if (codes_.Has(codes_.Key(model_, description.name, scheme))) {
    return std::nullopt;
  }
  return Wanted{.tensor = tensor,
                .scheme = scheme,
                .input = *input,
                .rows = description.shape[0],
                .columns = description.shape[1]};
}

StageVariant Calibrator::VariantOf(const Stage& stage,
                                   const std::optional<Scheme>& scheme) const {
  StageVariant variant;
  for (const int index : stage.tensors) {
    const TensorDescription& tensor =
        model_.tensors[static_cast<size_t>(index)];
    variant.push_back(InScope(Scope::kLinear, tensor) ? scheme : std::nullopt);
  }
  return variant;
}

// Those that have something to quantize.
absl::StatusOr<std::vector<Calibrator::Path>> Calibrator::FindPaths(
    uint64_t texts) const {
  std::vector<Path> paths(1);
  paths[0].wanted.resize(plan_.layers.size());
  std::map<Scheme, size_t> last_layer;  // that needs the scheme, of qpath
  for (size_t layer = 0; layer < plan_.layers.size(); ++layer) {
    const Stage& stage = plan_.layers[layer];
    for (size_t t = 0; t < stage.tensors.size(); ++t) {
      std::set<Scheme> schemes;
      for (const StageVariant& variant : stage.variants) {
        if (variant[t] && variant[t]->calibrated() &&
            variant[t]->calibration_texts == texts) {
          schemes.insert(*variant[t]);
        }
      }
      for (const Scheme& scheme : schemes) {
        QSWEEP_ASSIGN_OR_RETURN(const std::optional<Wanted> missing,
                                Missing(layer, t, scheme));
        if (missing && scheme.calibration == CalibrationMode::kFp) {
          paths[0].wanted[layer].push_back(*missing);
        } else if (missing) {
          last_layer[scheme] = layer;
        }
      }
    }
  }
  // On such a path every layer before is quantized, whoever needs it.
  for (const auto& [scheme, last] : last_layer) {
    Path& path = paths.emplace_back();
    path.scheme = scheme;
    for (size_t layer = 0; layer <= last; ++layer) {
      const StageVariant variant = VariantOf(plan_.layers[layer], scheme);
      path.wanted.emplace_back();
      for (size_t t = 0; t < variant.size(); ++t) {
        if (variant[t]) {
          QSWEEP_ASSIGN_OR_RETURN(const std::optional<Wanted> missing,
                                  Missing(layer, t, scheme));
          if (missing) {
            path.wanted.back().push_back(*missing);
          }
        }
      }
    }
  }
  for (Path& path : paths) {
    while (!path.wanted.empty() && path.wanted.back().empty()) {
      path.wanted.pop_back();
    }
  }
  std::erase_if(paths, [](const Path& path) { return path.wanted.empty(); });
  return paths;
}

absl::Status Calibrator::CheckSize(const CalibrationTokens& tokens,
                                   const Path& path,
                                   int64_t memory_bytes) const {
  int64_t widest = 0;  // Hessian
  bool awq = false;
  for (const std::vector<Wanted>& layer : path.wanted) {
    for (const Wanted& one : layer) {
      if (one.scheme.method == Method::kAwq) {
        awq = true;
      } else {
        widest = std::max(widest, one.columns);
      }
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
  // States before and after, what AWQ compares with, Hessians with their
  // factors, one of which may be in fp64, and two weight variants.
  const int64_t states = 1 + (path.scheme || awq ? 1 : 0) + (awq ? 2 : 0);
  const int64_t bytes =
      tokens.num_tokens() * stride_ * 4 * states + widest * widest * 16;
  if (bytes > memory_bytes) {
    return MakeError(kOutOfMemory,
                     absl::StrCat("Calibration takes ", bytes >> 20,
                                  " MiB, and the engine may use ",
                                  memory_bytes >> 20, " MiB."),
                     "--memory",
                     "Give the engine more memory, or take fewer texts.");
  }
  return absl::OkStatus();
}

absl::Status Calibrator::Embed(const CalibrationTokens& tokens) {
  QSWEEP_ASSIGN_OR_RETURN(
      const StageTensors tensors,
      StageTensors::Read(checkpoint_, model_, plan_.embedding, pool_, stop_));
  const std::span<const float> table = tensors.values(0);
  states_ = kernels::FloatBuffer(tokens.num_tokens() * stride_);
  units_.assign(1, {});
  float* row = states_.data();
  int64_t first = 0;
  size_t longest = 1;
  for (const std::vector<int32_t>& ids : tokens.documents) {
    const auto count = static_cast<int64_t>(ids.size());
    if (first > units_.back().first &&
        first + count - units_.back().first > kUnitRows) {
      units_.push_back({.first = first});
    }
    units_.back().documents.push_back(count);
    first += count;
    longest = std::max(longest, ids.size());
    for (const int32_t id : ids) {
      QSWEEP_CHECK(id >= 0 && id < config_.vocabulary_size);
      std::memcpy(row, table.data() + int64_t{id} * config_.hidden_size,
                  static_cast<size_t>(config_.hidden_size) * sizeof(float));
      row += stride_;
    }
  }
  const int64_t max_rows = std::max(kUnitRows, static_cast<int64_t>(longest));
  rotary_ = RotaryTable(config_, static_cast<int64_t>(longest));
  runners_.clear();
  inputs_.clear();
  for (int thread = 0; thread < pool_.num_threads(); ++thread) {
    runners_.emplace_back(config_, rotary_, max_rows);
    inputs_.emplace_back(config_, max_rows);
  }
  return absl::OkStatus();
}

std::string Calibrator::Step() const {
  return absl::StrCat("calibrating: layer ", layer_ + 1, " of ", layers_);
}

absl::Status Calibrator::RunBatch(const BlockWeights& weights, float* to,
                                  size_t first, size_t count, bool inputs,
                                  const AwqSearch::Visit& visit) {
  return pool_.ParallelFor(
      static_cast<int64_t>(count), stop_,
      [&](int64_t index, int thread) -> absl::Status {
        const auto item = static_cast<size_t>(index);
        const Unit& unit = units_[first + item];
        std::vector<Segment> segments;
        int64_t offset = unit.first * stride_;
        for (const int64_t rows : unit.documents) {
          segments.push_back({.from = states_.data() + offset,
                              .to = to + offset,
                              .rows = rows});
          offset += rows * stride_;
        }
        QSWEEP_RETURN_IF_ERROR(runners_[static_cast<size_t>(thread)].Run(
            weights, segments, stride_, stop_,
            inputs ? &inputs_[item] : nullptr));
        if (visit) {
          visit(first + item, unit.first, inputs_[item]);
        }
        return absl::OkStatus();
      });
}

absl::Status Calibrator::QuantizeAwq(const Stage& stage,
                                     const StageTensors& tensors,
                                     const std::vector<Wanted>& wanted,
                                     int64_t positions, BlockWeights& weights) {
  if (wanted.empty()) {
    return absl::OkStatus();
  }
  std::vector<AwqSearch::Linear> linears;
  for (size_t t = 0; t < stage.tensors.size(); ++t) {
    const TensorDescription& tensor = tensors.description(t);
    const std::optional<BlockInput> input = InputOf(tensor.component);
    if (input && !tensor.bias && tensor.shape.size() == 2) {
      linears.push_back({.tensor = t, .input = *input});
    }
  }
  if (discarded_.size() < states_.size()) {
    discarded_ = kernels::FloatBuffer(states_.size());
  }
  AwqSearch search(
      config_, tensors, std::move(linears), weights, positions, units_.size(),
      pool_, stop_,
      [this](const BlockWeights& with, const AwqSearch::Visit& visit,
             const std::function<bool()>& enough) -> absl::Status {
        for (size_t first = 0; first < units_.size() && !enough();
             first += inputs_.size()) {
          QSWEEP_RETURN_IF_ERROR(
              RunBatch(with, discarded_.data(), first,
                       std::min(inputs_.size(), units_.size() - first),
                       /*inputs=*/true, visit));
        }
        progress_(static_cast<double>(layer_) / static_cast<double>(layers_),
                  Step());
        return absl::OkStatus();
      });
  QSWEEP_RETURN_IF_ERROR(search.Measure());
  for (const Wanted& one : wanted) {
    QSWEEP_ASSIGN_OR_RETURN(kernels::CodedTensor coded,
                            search.Quantize(one.scheme, {.tensor = one.tensor,
                                                         .input = one.input}));
    const std::string& name = tensors.description(one.tensor).name;
    QSWEEP_RETURN_IF_ERROR(CheckScales(one.scheme, name, coded));
    QSWEEP_RETURN_IF_ERROR(
        codes_.Store(codes_.Key(model_, name, one.scheme), std::move(coded)));
  }
  return absl::OkStatus();
}

absl::Status Calibrator::Advance(const BlockWeights& weights,
                                 const std::vector<Wanted>& wanted, bool keep,
                                 Hessians& hessians) {
  if (!keep && discarded_.size() < states_.size()) {
    discarded_ = kernels::FloatBuffer(states_.size());
  }
  float* const to = keep ? states_.data() : discarded_.data();
  for (const Wanted& one : wanted) {
    kernels::FloatBuffer& hessian = hessians[static_cast<size_t>(one.input)];
    if (hessian.size() == 0) {
      hessian = kernels::FloatBuffer(one.columns * one.columns);
    }
  }
  const size_t some = std::max<size_t>(1, units_.size() / kReportsPerPass);
  size_t told = 0;
  for (size_t first = 0; first < units_.size(); first += inputs_.size()) {
    if (first / some > told) {
      told = first / some;
      // Half of a layer's time, or less.
      progress_((static_cast<double>(layer_) +
                 0.5 * static_cast<double>(first) /
                     static_cast<double>(units_.size())) /
                    static_cast<double>(layers_),
                Step());
    }
    const size_t count = std::min(inputs_.size(), units_.size() - first);
    QSWEEP_RETURN_IF_ERROR(
        RunBatch(weights, to, first, count, /*inputs=*/!wanted.empty()));
    QSWEEP_RETURN_IF_ERROR(SumHessians(count, hessians));
  }
  return absl::OkStatus();
}

// Adds the inputs of the units in flight, one unit after another.
absl::Status Calibrator::SumHessians(size_t units, Hessians& hessians) {
  struct Item {
    size_t input;
    int64_t first;
  };
  std::vector<Item> items;
  for (size_t input = 0; input < kNumBlockInputs; ++input) {
    if (hessians[input].size() > 0) {
      const int64_t width = inputs_[0].inputs[input].width;
      for (int64_t first = 0; first < width; first += kPanelRows) {
        items.push_back({input, first});
      }
    }
  }
  return pool_.ParallelFor(
      static_cast<int64_t>(items.size()), stop_, [&](int64_t index, int) {
        const Item& item = items[static_cast<size_t>(index)];
        for (size_t unit = 0; unit < units; ++unit) {
          const BlockInputs::Rows& input = inputs_[unit].inputs[item.input];
          AddGram(input.values.data(), inputs_[unit].rows, input.stride,
                  input.width, item.first,
                  std::min(kPanelRows, input.width - item.first),
                  hessians[item.input].data());
        }
        return absl::OkStatus();
      });
}

absl::StatusOr<Calibrator::Factors> Calibrator::Factor(
    const StageTensors& tensors, const std::vector<Wanted>& wanted,
    const Hessians& hessians) {
  const kernels::ParallelFor parallel =
      [this](int64_t count, const std::function<void(int64_t)>& item) {
        return pool_
            .ParallelFor(count, stop_,
                         [&item](int64_t index, int) {
                           item(index);
                           return absl::OkStatus();
                         })
            .ok();
      };
  Factors factors;
  std::map<FactorKey, size_t> places;  // in `all`
  for (const Wanted& one : wanted) {
    const auto [place, added] =
        places.try_emplace(KeyOf(one.input, one.scheme), factors.all.size());
    factors.of.push_back(place->second);
    if (added) {
      const kernels::FloatBuffer& hessian =
          hessians[static_cast<size_t>(one.input)];
      QSWEEP_ASSIGN_OR_RETURN(
          kernels::GptqFactor factor,
          kernels::FactorHessian(
              one.scheme, {hessian.data(), static_cast<size_t>(hessian.size())},
              one.columns, tensors.description(one.tensor).name, parallel));
      factors.all.push_back(std::move(factor));
    }
  }
  return factors;
}

absl::Status Calibrator::Quantize(const StageTensors& tensors,
                                  const std::vector<Wanted>& wanted,
                                  const Hessians& hessians) {
  QSWEEP_ASSIGN_OR_RETURN(const Factors factors,
                          Factor(tensors, wanted, hessians));
  std::vector<std::pair<size_t, int64_t>> items;  // wanted, first row
  std::vector<kernels::CodedTensor> coded;
  for (size_t w = 0; w < wanted.size(); ++w) {
    coded.push_back(kernels::StartCoded(wanted[w].scheme, wanted[w].rows,
                                        factors.all[factors.of[w]]));
    QSWEEP_ASSIGN_OR_RETURN(
        const bool done,
        device_.QuantizeGptq(wanted[w].scheme, factors.all[factors.of[w]],
                             tensors.values(wanted[w].tensor), coded[w]));
    for (int64_t row = 0; !done && row < wanted[w].rows;
         row += kernels::kQuantizeRows) {
      items.emplace_back(w, row);
    }
  }
  QSWEEP_RETURN_IF_ERROR(pool_.ParallelFor(
      static_cast<int64_t>(items.size()), stop_, [&](int64_t index, int) {
        const auto [w, first] = items[static_cast<size_t>(index)];
        const Wanted& one = wanted[w];
        const int64_t last = std::min(first + kernels::kQuantizeRows, one.rows);
        kernels::QuantizeRows(
            one.scheme, factors.all[factors.of[w]],
            tensors.values(one.tensor)
                .subspan(static_cast<size_t>(first * one.columns),
                         static_cast<size_t>((last - first) * one.columns)),
            first, last, coded[w]);
        return absl::OkStatus();
      }));
  for (size_t w = 0; w < wanted.size(); ++w) {
    const std::string& name = tensors.description(wanted[w].tensor).name;
    QSWEEP_RETURN_IF_ERROR(CheckScales(wanted[w].scheme, name, coded[w]));
    QSWEEP_RETURN_IF_ERROR(codes_.Store(
        codes_.Key(model_, name, wanted[w].scheme), std::move(coded[w])));
  }
  return absl::OkStatus();
}

absl::Status Calibrator::RunPath(const CalibrationTokens& tokens,
                                 const Path& path) {
  QSWEEP_RETURN_IF_ERROR(Embed(tokens));
  const size_t layers = path.wanted.size();
  layers_ = layers;
  for (size_t layer = 0; layer < layers; ++layer) {
    layer_ = layer;
    const Stage& stage = plan_.layers[layer];
    std::vector<Wanted> awq;
    std::vector<Wanted> wanted;
    for (const Wanted& one : path.wanted[layer]) {
      (one.scheme.method == Method::kAwq ? awq : wanted).push_back(one);
    }
    QSWEEP_ASSIGN_OR_RETURN(
        const StageTensors tensors,
        StageTensors::Read(checkpoint_, model_, stage, pool_, stop_));
    if (!path.scheme || !path.wanted[layer].empty()) {
      BlockWeights weights;
      QSWEEP_RETURN_IF_ERROR(tensors.MakeBlock(VariantOf(stage, std::nullopt),
                                               codes_, pool_, stop_, weights));
      QSWEEP_RETURN_IF_ERROR(
          QuantizeAwq(stage, tensors, awq, tokens.num_tokens(), weights));
      Hessians hessians;
      QSWEEP_RETURN_IF_ERROR(
          Advance(weights, wanted, /*keep=*/!path.scheme, hessians));
      for (size_t input = 0; input < kNumBlockInputs; ++input) {
        if (hessians[input].size() > 0) {
          FinishHessian(inputs_[0].inputs[input].width, tokens.num_tokens(),
                        hessians[input].data());
        }
      }
      QSWEEP_RETURN_IF_ERROR(Quantize(tensors, wanted, hessians));
    }
    if (path.scheme && layer + 1 < layers) {
      BlockWeights weights;
      QSWEEP_RETURN_IF_ERROR(tensors.MakeBlock(VariantOf(stage, path.scheme),
                                               codes_, pool_, stop_, weights));
      Hessians none;
      QSWEEP_RETURN_IF_ERROR(Advance(weights, {}, /*keep=*/true, none));
    }
    progress_(static_cast<double>(layer + 1) / static_cast<double>(layers),
              Step());
  }
  return absl::OkStatus();
}

absl::Status Calibrator::Run(const CalibrationTokens& tokens,
                             int64_t memory_bytes) {
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<Path> paths,
                          FindPaths(tokens.texts));
  for (const Path& path : paths) {
    QSWEEP_RETURN_IF_ERROR(CheckSize(tokens, path, memory_bytes));
    QSWEEP_RETURN_IF_ERROR(RunPath(tokens, path));
  }
  return absl::OkStatus();
}

}  // namespace qsweep
