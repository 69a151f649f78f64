#include "worker/engine/gptq_layer.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "common/base/status_macros.h"
#include "worker/engine/products.h"
#include "worker/kernels/quantize.h"

namespace qsweep {
namespace {

constexpr int64_t kPanelRows = 128;  // of a Hessian, per item

// One factor serves all tensors that read the same input with these settings.
using FactorKey = std::tuple<BlockInput, int, bool>;
FactorKey KeyOf(const CalibratedLinear& linear) {
  return {linear.input, linear.scheme.damp_millionths, linear.scheme.act_order};
}

// Of the rows from `first` on, the mean of what was summed over `positions`,
// and the same in the lower triangle; a square of both at a time.
void FinishPanel(int64_t columns, int64_t positions, int64_t first,
                 float* hessian) {
  const float factor = 2.0f / static_cast<float>(positions);
  const int64_t last = std::min(first + kPanelRows, columns);
  for (int64_t begin = first; begin < columns; begin += kPanelRows) {
    const int64_t end = std::min(begin + kPanelRows, columns);
    for (int64_t i = first; i < last; ++i) {
      for (int64_t j = std::max(i, begin); j < end; ++j) {
        const float value = hessian[i * columns + j] * factor;
        hessian[i * columns + j] = value;
        hessian[j * columns + i] = value;
      }
    }
  }
}

absl::Status Cancelled() {
  return absl::CancelledError("The run was cancelled.");
}

}  // namespace

GptqLayer::GptqLayer(std::vector<CalibratedLinear> linears, ThreadPool& pool,
                     Device& device, std::stop_token stop)
    : linears_(std::move(linears)),
      pool_(pool),
      device_(device),
      stop_(std::move(stop)) {
  for (const CalibratedLinear& linear : linears_) {
    kernels::FloatBuffer& hessian =
        hessians_[static_cast<size_t>(linear.input)];
    if (hessian.size() == 0) {
      hessian = kernels::FloatBuffer(linear.columns * linear.columns);
    }
  }
}

int64_t GptqLayer::Bytes(std::span<const CalibratedLinear> linears) {
  std::set<BlockInput> inputs;
  std::set<FactorKey> factors;
  int64_t bytes = 0;
  int64_t factoring = 0;  // one at a time
  for (const CalibratedLinear& linear : linears) {
    if (inputs.insert(linear.input).second) {
      bytes +=
          linear.columns * linear.columns * static_cast<int64_t>(sizeof(float));
    }
    if (factors.insert(KeyOf(linear)).second) {
      bytes += kernels::GptqFactorBytes(linear.columns);
      factoring = std::max(factoring, kernels::FactoringBytes(linear.columns));
    }
    bytes += linear.rows * linear.columns;
  }
  return bytes + factoring;
}

absl::Status GptqLayer::Add(std::span<const BlockInputs> units) {
  struct Item {
    size_t input;
    int64_t first;
  };
  std::vector<Item> items;
  for (size_t input = 0; input < kNumBlockInputs; ++input) {
    if (hessians_[input].size() > 0) {
      const int64_t width = units[0].inputs[input].width;
      for (int64_t first = 0; first < width; first += kPanelRows) {
        items.push_back({input, first});
      }
    }
  }
  return pool_.ParallelFor(
      static_cast<int64_t>(items.size()), stop_, [&](int64_t index, int) {
        const Item& item = items[static_cast<size_t>(index)];
        for (const BlockInputs& unit : units) {
          if (stop_.stop_requested()) {
            return Cancelled();
          }
          const BlockInputs::Rows& input = unit.inputs[item.input];
          AddGram(input.values.data(), unit.rows, input.stride, input.width,
                  item.first, std::min(kPanelRows, input.width - item.first),
                  hessians_[item.input].data() + item.first * input.width);
        }
        return absl::OkStatus();
      });
}

absl::StatusOr<GptqLayer::Factors> GptqLayer::Factor(
    const StageTensors& tensors) const {
  const kernels::ParallelFor parallel = OnPool(pool_, stop_);
  Factors factors;
  std::map<FactorKey, size_t> places;  // in `all`
  for (const CalibratedLinear& one : linears_) {
    const auto [place, added] =
        places.try_emplace(KeyOf(one), factors.all.size());
    factors.of.push_back(place->second);
    if (added) {
      const kernels::FloatBuffer& hessian =
          hessians_[static_cast<size_t>(one.input)];
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

absl::Status GptqLayer::Quantize(const StageTensors& tensors, int64_t positions,
                                 const Store& store) {
  std::set<BlockInput> finished;
  for (const CalibratedLinear& linear : linears_) {
    if (finished.insert(linear.input).second) {
      float* const hessian =
          hessians_[static_cast<size_t>(linear.input)].data();
      QSWEEP_RETURN_IF_ERROR(pool_.ParallelFor(
          (linear.columns + kPanelRows - 1) / kPanelRows, stop_,
          [&](int64_t panel, int) {
            FinishPanel(linear.columns, positions, panel * kPanelRows, hessian);
            return absl::OkStatus();
          }));
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(const Factors factors, Factor(tensors));
  std::vector<std::pair<size_t, int64_t>> items;  // linear layer, part
  std::vector<kernels::CodedTensor> coded;
  for (size_t l = 0; l < linears_.size(); ++l) {
    coded.push_back(kernels::StartCoded(linears_[l].scheme, linears_[l].rows,
                                        factors.all[factors.of[l]]));
    QSWEEP_ASSIGN_OR_RETURN(
        const bool done,
        device_.QuantizeGptq(linears_[l].scheme, factors.all[factors.of[l]],
                             tensors.values(linears_[l].tensor), coded[l]));
    const int64_t parts = done ? 0 : kernels::QuantizeParts(linears_[l].rows);
    for (int64_t part = 0; part < parts; ++part) {
      items.emplace_back(l, part);
    }
  }
  QSWEEP_RETURN_IF_ERROR(pool_.ParallelFor(
      static_cast<int64_t>(items.size()), stop_, [&](int64_t index, int) {
        const auto [l, part] = items[static_cast<size_t>(index)];
        kernels::QuantizePart(linears_[l].scheme, factors.all[factors.of[l]],
                              tensors.values(linears_[l].tensor), part,
                              coded[l]);
        return absl::OkStatus();
      }));
  for (size_t l = 0; l < linears_.size(); ++l) {
    if (stop_.stop_requested()) {
      return Cancelled();
    }
    QSWEEP_RETURN_IF_ERROR(store(linears_[l], std::move(coded[l])));
  }
  return absl::OkStatus();
}

}  // namespace qsweep
