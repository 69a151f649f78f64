#include "worker/engine/awq_search.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/engine/products.h"
#include "worker/kernels/quantize.h"

namespace qsweep {
namespace {

constexpr int64_t kSamples = 512;     // positions that limits are chosen on
constexpr int64_t kRowsPerItem = 64;  // of a matrix
constexpr int64_t kGramRows = 128;    // of a Gram matrix, per item
constexpr size_t kInputs = kNumBlockInputs;

int64_t Columns(const TensorDescription& tensor) { return tensor.shape[1]; }

// Which half of the block reads the input.
size_t HalfOf(BlockInput input) {
  return input == BlockInput::kAttention || input == BlockInput::kContext ? 0
                                                                          : 1;
}

}  // namespace

AwqSearch::AwqSearch(const ModelConfig& config, const StageTensors& tensors,
                     std::vector<Linear> linears, BlockWeights& weights,
                     int64_t positions, size_t units, ThreadPool& pool,
                     std::stop_token stop, RunBlock run_block)
    : config_(config),
      tensors_(tensors),
      linears_(std::move(linears)),
      weights_(weights),
      positions_(positions),
      units_(units),
      pool_(pool),
      stop_(std::move(stop)),
      run_block_(std::move(run_block)),
      sample_step_(std::max<int64_t>(1, positions / kSamples)) {}

int64_t AwqSearch::Bytes(const ModelConfig& config, int64_t positions,
                         size_t units, int64_t columns, int64_t group,
                         int threads) {
  const int64_t widths = 2 * int64_t{config.hidden_size} +
                         int64_t{config.heads} * config.head_dim +
                         config.intermediate_size;
  // A copy of one input's samples is divided by its scales.
  const int64_t floats = 2 * positions * config.hidden_size +
                         2 * kSamples * (widths + columns) +
                         columns / group * kernels::AwqGramSize(group) +
                         threads * kGramRows * group;
  return threads * kernels::AwqLimitsBytes(group) +
         floats * static_cast<int64_t>(sizeof(float)) +
         static_cast<int64_t>(units) * widths *
             static_cast<int64_t>(sizeof(double));
}

absl::Status AwqSearch::Measure() {
  const int64_t hidden = config_.hidden_size;
  const int64_t num_samples = (positions_ + sample_step_ - 1) / sample_step_;
  for (kernels::FloatBuffer& output : outputs_) {
    output = kernels::FloatBuffer(positions_ * hidden);
  }
  std::array<int64_t, kInputs> widths = {};
  for (const Linear& linear : linears_) {
    widths[static_cast<size_t>(linear.input)] =
        Columns(tensors_.description(linear.tensor));
  }
  std::array<std::vector<double>, kInputs> sums;  // [units, width]
  for (size_t i = 0; i < kInputs; ++i) {
    sums[i].resize(units_ * static_cast<size_t>(widths[i]));
    samples_[i].resize(static_cast<size_t>(num_samples * widths[i]));
  }
  QSWEEP_RETURN_IF_ERROR(run_block_(
      weights_,
      [&](size_t unit, int64_t first, const BlockInputs& block) {
        for (size_t i = 0; i < kInputs; ++i) {
          const BlockInputs::Rows& input = block.inputs[i];
          double* const sum =
              sums[i].data() + unit * static_cast<size_t>(widths[i]);
          for (int64_t r = 0; r < block.rows; ++r) {
            const float* const row = input.values.data() + r * input.stride;
            for (int64_t c = 0; c < widths[i]; ++c) {
              sum[c] += std::fabs(static_cast<double>(row[c]));
            }
            if ((first + r) % sample_step_ == 0) {
              std::copy_n(
                  row, widths[i],
                  samples_[i].data() + (first + r) / sample_step_ * widths[i]);
            }
          }
        }
        for (size_t half = 0; half < outputs_.size(); ++half) {
          const BlockInputs::Rows& output = block.outputs[half];
          for (int64_t r = 0; r < block.rows; ++r) {
            std::copy_n(output.values.data() + r * output.stride, hidden,
                        outputs_[half].data() + (first + r) * hidden);
          }
        }
      },
      []() { return false; }));
  for (size_t i = 0; i < kInputs; ++i) {
    const auto width = static_cast<size_t>(widths[i]);
    magnitudes_[i].resize(width);
    for (size_t c = 0; c < width; ++c) {
      double sum = 0;
      for (size_t unit = 0; unit < units_; ++unit) {
        sum += sums[i][unit * width + c];
      }
      magnitudes_[i][c] =
          static_cast<float>(sum / static_cast<double>(positions_));
      if (!std::isfinite(magnitudes_[i][c])) {
        const auto reader = std::ranges::find(
            linears_, static_cast<BlockInput>(i), &Linear::input);
        return MakeError(
            kSingularHessian,
            absl::StrCat("The inputs of ",
                         tensors_.description(reader->tensor).name,
                         " are not finite on the calibration texts."),
            "calibration",
            "The model's activations overflow on these texts; take others.");
      }
    }
  }
  return absl::OkStatus();
}

// The scales of the output projection would have to be taken back in the
// values, which several query heads share: the authors' program leaves it
// alone.
bool AwqSearch::HasScales(BlockInput input) const {
  return input != BlockInput::kContext || config_.heads == config_.kv_heads;
}

float* AwqSearch::PlaceOf(const Linear& linear) {
  const int64_t q = int64_t{config_.heads} * config_.head_dim;
  const int64_t kv = int64_t{config_.kv_heads} * config_.head_dim;
  switch (tensors_.description(linear.tensor).component) {
    case Component::kQ:
      return weights_.qkv.row(0);
    case Component::kK:
      return weights_.qkv.row(q);
    case Component::kV:
      return weights_.qkv.row(q + kv);
    case Component::kO:
      return weights_.o.row(0);
    case Component::kGate:
      return weights_.gate.row(0);
    case Component::kUp:
      return weights_.up.row(0);
    case Component::kDown:
      return weights_.down.row(0);
    default:
      break;
  }
  QSWEEP_CHECK(false);
}

absl::Status AwqSearch::Replace(const Scheme& scheme, BlockInput input,
                                const Scales& scales) {
  for (const Linear& linear : linears_) {
    if (linear.input != input) {
      continue;
    }
    const std::span<const float> values = tensors_.values(linear.tensor);
    const int64_t columns = Columns(tensors_.description(linear.tensor));
    const int64_t rows = static_cast<int64_t>(values.size()) / columns;
    float* const to = PlaceOf(linear);
    QSWEEP_RETURN_IF_ERROR(pool_.ParallelFor(
        (rows + kRowsPerItem - 1) / kRowsPerItem, stop_,
        [&](int64_t item, int) {
          const int64_t first = item * kRowsPerItem;
          const int64_t count = std::min(kRowsPerItem, rows - first);
          kernels::CodedTensor part = kernels::StartAwq(scheme, count, scales);
          kernels::QuantizeAwqRows(
              scheme,
              values.subspan(static_cast<size_t>(first * columns),
                             static_cast<size_t>(count * columns)),
              {}, 0, count, part);
          part.Decode(std::span(to + first * columns,
                                static_cast<size_t>(count * columns)));
          return absl::OkStatus();
        }));
  }
  return PreparePanels(input);
}

absl::Status AwqSearch::Restore(BlockInput input) {
  for (const Linear& linear : linears_) {
    if (linear.input == input) {
      const std::span<const float> values = tensors_.values(linear.tensor);
      std::copy(values.begin(), values.end(), PlaceOf(linear));
    }
  }
  return PreparePanels(input);
}

absl::Status AwqSearch::PreparePanels(BlockInput input) {
  std::vector<Matrix*> matrices;
  switch (input) {
    case BlockInput::kAttention:
      matrices = {&weights_.qkv};
      break;
    case BlockInput::kContext:
      matrices = {&weights_.o};
      break;
    case BlockInput::kMlp:
      matrices = {&weights_.gate, &weights_.up};
      break;
    case BlockInput::kDown:
      matrices = {&weights_.down};
      break;
  }
  return qsweep::PreparePanels(matrices, pool_, stop_);
}

absl::StatusOr<double> AwqSearch::Loss(BlockInput input, double least) {
  const size_t half = HalfOf(input);
  const int64_t hidden = config_.hidden_size;
  std::vector<double> losses(units_);
  const auto total = [&losses]() {
    double loss = 0;
    for (const double one : losses) {
      loss += one;
    }
    return loss;
  };
  QSWEEP_RETURN_IF_ERROR(run_block_(
      weights_,
      [&](size_t unit, int64_t first, const BlockInputs& block) {
        const BlockInputs::Rows& output = block.outputs[half];
        for (int64_t r = 0; r < block.rows; ++r) {
          const float* const row = output.values.data() + r * output.stride;
          const float* const want =
              outputs_[half].data() + (first + r) * hidden;
          double sum = 0;
          for (int64_t c = 0; c < hidden; ++c) {
            const double lost = static_cast<double>(row[c]) - want[c];
            sum += lost * lost;
          }
          losses[unit] += sum;
        }
      },
      // The units that are left can only add to it.
      [&]() { return total() > least; }));
  return total();
}

absl::StatusOr<const AwqSearch::Scales*> AwqSearch::FindScales(
    const Scheme& scheme, BlockInput input) {
  const auto [place, added] = scales_.try_emplace({scheme, input});
  Scales& best = place->second;
  const std::vector<float>& magnitudes =
      magnitudes_[static_cast<size_t>(input)];
  if (!added) {
    return &best;
  }
  best.assign(magnitudes.size(), 1.0f);
  if (!HasScales(input)) {
    return &best;
  }
  double least = std::numeric_limits<double>::infinity();
  Scales scales(magnitudes.size());
  for (int index = 0; index < kernels::kAwqRatios; ++index) {
    kernels::AwqScales(magnitudes.data(),
                       static_cast<int64_t>(magnitudes.size()),
                       kernels::AwqRatio(index), scales.data());
    QSWEEP_RETURN_IF_ERROR(Replace(scheme, input, scales));
    QSWEEP_ASSIGN_OR_RETURN(const double loss, Loss(input, least));
    if (loss < least) {
      least = loss;
      best = scales;
    }
  }
  QSWEEP_RETURN_IF_ERROR(Restore(input));
  return &best;
}

absl::StatusOr<std::vector<float>> AwqSearch::Grams(const Scheme& scheme,
                                                    BlockInput input,
                                                    const Scales& scales) {
  const auto columns = static_cast<int64_t>(scales.size());
  const int64_t size = scheme.group == 0 ? columns : scheme.group;
  std::vector<float> samples = samples_[static_cast<size_t>(input)];
  const auto rows = static_cast<int64_t>(samples.size()) / columns;
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i] /= scales[i % scales.size()];
  }
  std::vector<float> grams(
      static_cast<size_t>(columns / size * kernels::AwqGramSize(size)));
  // Upper triangles, some rows of one at a time, and from them both.
  const int64_t panels = (size + kGramRows - 1) / kGramRows;
  QSWEEP_RETURN_IF_ERROR(
      pool_.ParallelFor(columns / size * panels, stop_, [&](int64_t item, int) {
        const int64_t first = item % panels * kGramRows;
        const int64_t group = item / panels;
        const int64_t count = std::min(kGramRows, size - first);
        std::vector<float> upper(static_cast<size_t>(count * size));
        AddGram(samples.data() + group * size, rows, columns, size, first,
                count, upper.data());
        float* const gram = grams.data() + group * kernels::AwqGramSize(size);
        for (int64_t i = first; i < first + count; ++i) {
          for (int64_t j = i; j < size; ++j) {
            const float value =
                upper[static_cast<size_t>((i - first) * size + j)];
            gram[kernels::AwqGramPlace(size, i, j)] = value;
            gram[kernels::AwqGramPlace(size, j, i)] = value;
          }
        }
        return absl::OkStatus();
      }));
  return grams;
}

absl::StatusOr<kernels::CodedTensor> AwqSearch::Quantize(const Scheme& scheme,
                                                         const Linear& linear) {
  QSWEEP_ASSIGN_OR_RETURN(const Scales* const scales,
                          FindScales(scheme, linear.input));
  const std::span<const float> values = tensors_.values(linear.tensor);
  const auto columns = static_cast<int64_t>(scales->size());
  const int64_t rows = static_cast<int64_t>(values.size()) / columns;
  // Queries and keys are not clipped: their products would be.
  const Component component = tensors_.description(linear.tensor).component;
  const bool clip = component != Component::kQ && component != Component::kK;
  std::vector<float> grams;
  if (clip) {
    QSWEEP_ASSIGN_OR_RETURN(grams, Grams(scheme, linear.input, *scales));
  }
  kernels::CodedTensor coded = kernels::StartAwq(scheme, rows, *scales);
  QSWEEP_RETURN_IF_ERROR(pool_.ParallelFor(
      (rows + kRowsPerItem - 1) / kRowsPerItem, stop_, [&](int64_t item, int) {
        const int64_t first = item * kRowsPerItem;
        const int64_t last = std::min(first + kRowsPerItem, rows);
        return kernels::QuantizeAwqRows(
                   scheme,
                   values.subspan(
                       static_cast<size_t>(first * columns),
                       static_cast<size_t>((last - first) * columns)),
                   grams, first, last, coded, StoppedBy(stop_))
                   ? absl::OkStatus()
                   : absl::CancelledError("The run was cancelled.");
      }));
  return coded;
}

}  // namespace qsweep
