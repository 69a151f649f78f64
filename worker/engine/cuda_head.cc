#include "worker/engine/cuda_head.h"

#include <algorithm>
#include <cstddef>

#include "common/base/status_macros.h"
#include "worker/kernels/decoder_rows.h"
#include "worker/kernels/head_row.h"
#include "worker/kernels/head_stats.h"

namespace qsweep {
namespace {

using kernels::FloatType;
using kernels::HeadRow;

constexpr int64_t kFloat = sizeof(float);

// Of the vocabulary at a time.
constexpr int64_t kColumns = 8192;

// For the final states of the configurations that are scored together.
constexpr int64_t kNormedBytes = int64_t{512} << 20;
constexpr int64_t kMaxTogether = 64;

int64_t NormedBytes(const ModelConfig& config, FloatType type) {
  return kDeviceTileRows * config.hidden_size * BytesOf(type);
}

int64_t LogitBytes(const ModelConfig& config) {
  return kDeviceTileRows * std::min<int64_t>(kColumns, config.vocabulary_size) *
         kFloat;
}

}  // namespace

int64_t DeviceHeadScorer::ScoredTogether(const ModelConfig& config,
                                         FloatType type) {
  return std::clamp<int64_t>(kNormedBytes / NormedBytes(config, type), 4,
                             kMaxTogether);
}

int64_t DeviceHeadScorer::Bytes(const ModelConfig& config, FloatType type) {
  return (ScoredTogether(config, type) + 1) *
             (NormedBytes(config, type) +
              kDeviceTileRows * static_cast<int64_t>(sizeof(HeadRow))) +
         2 * LogitBytes(config);
}

std::vector<DeviceProduct> DeviceHeadScorer::Products(
    const ModelConfig& config) {
  std::vector<DeviceProduct> products;
  for (const int64_t columns :
       {std::min<int64_t>(kColumns, config.vocabulary_size),
        config.vocabulary_size % kColumns}) {
    if (columns > 0) {
      products.push_back({.inputs = config.hidden_size, .outputs = columns});
    }
  }
  return products;
}

absl::Status DeviceHeadScorer::Score(
    std::span<const DeviceHeadInput> inputs, const int32_t* gold,
    int64_t num_rows, std::span<kernels::TokenScore> scores,
    const std::stop_token& stop,
    const std::function<void(int64_t end)>& tile_done) {
  const auto count = static_cast<int64_t>(inputs.size());
  std::vector<HeadRow> states(inputs.size() *
                              static_cast<size_t>(kDeviceTileRows));
  const auto bytes = static_cast<int64_t>(states.size() * sizeof(HeadRow));
  QSWEEP_RETURN_IF_ERROR(normed_.Reserve(count * NormedBytes(config_, type_)));
  QSWEEP_RETURN_IF_ERROR(baseline_logits_.Reserve(LogitBytes(config_)));
  QSWEEP_RETURN_IF_ERROR(logits_.Reserve(LogitBytes(config_)));
  QSWEEP_RETURN_IF_ERROR(states_.Reserve(bytes));
  QSWEEP_RETURN_IF_ERROR(
      rescale_.Reserve(kDeviceTileRows * static_cast<int64_t>(sizeof(double))));
  for (int64_t first = 0; first < num_rows; first += kDeviceTileRows) {
    const Tile tile = {.inputs = inputs,
                       .gold = gold + first,
                       .rows = std::min(kDeviceTileRows, num_rows - first)};
    std::fill(states.begin(), states.end(), HeadRow());
    QSWEEP_RETURN_IF_ERROR(CopyToDevice(states_.data(), states.data(), bytes));
    QSWEEP_RETURN_IF_ERROR(Normalize(tile, first));
    for (int64_t column = 0; column < config_.vocabulary_size;
         column += kColumns) {
      QSWEEP_RETURN_IF_ERROR(AddColumns(tile, column));
      // Otherwise the launches would run far ahead of a stop.
      QSWEEP_RETURN_IF_ERROR(Synchronize(ComputeStream()));
      if (stop.stop_requested()) {
        return absl::CancelledError("The run was cancelled.");
      }
    }
    QSWEEP_RETURN_IF_ERROR(
        CopyFromDevice(states.data(), states_.data(), bytes));
    for (size_t input = 0; input < inputs.size(); ++input) {
      const HeadRow* const of_input =
          states.data() + input * static_cast<size_t>(kDeviceTileRows);
      kernels::TokenScore* const to =
          scores.data() + input * static_cast<size_t>(num_rows) + first;
      for (int64_t r = 0; r < tile.rows; ++r) {
        to[r] = kernels::ScoreOf(states[static_cast<size_t>(r)], of_input[r]);
      }
    }
    tile_done(first + tile.rows);
  }
  return absl::OkStatus();
}

absl::Status DeviceHeadScorer::Normalize(const Tile& tile, int64_t first) {
  char* to = static_cast<char*>(normed_.data());
  for (const DeviceHeadInput& input : tile.inputs) {
    QSWEEP_RETURN_IF_ERROR(KernelStatus(kernels::RmsNormCuda(
        input.rows + first * config_.hidden_size, tile.rows,
        config_.hidden_size, input.gains, static_cast<float>(config_.rms_eps),
        to, type_, ComputeStream())));
    to += NormedBytes(config_, type_);
  }
  return absl::OkStatus();
}

// The baseline's logits of some columns, then each configuration's beside them.
absl::Status DeviceHeadScorer::AddColumns(const Tile& tile, int64_t column) {
  const int64_t columns = std::min(kColumns, config_.vocabulary_size - column);
  auto* const states = static_cast<HeadRow*>(states_.data());
  auto* const rescale = static_cast<double*>(rescale_.data());
  const kernels::HeadTile baseline = {
      .logits = baseline_logits_.floats(),
      .stride = columns,
      .rows = tile.rows,
      .columns = columns,
      .first_column = static_cast<int32_t>(column)};
  for (size_t i = 0; i < tile.inputs.size(); ++i) {
    const auto input = static_cast<int64_t>(i);
    const DeviceBuffer& logits = input == 0 ? baseline_logits_ : logits_;
    QSWEEP_RETURN_IF_ERROR(MultiplyOnDevice(
        static_cast<const char*>(normed_.data()) +
            input * NormedBytes(config_, type_),
        kDeviceTileRows, tile.inputs[i].head.Rows(column, columns),
        logits.floats()));
    kernels::HeadTile own = baseline;
    own.logits = logits.floats();
    HeadRow* const state = states + input * kDeviceTileRows;
    QSWEEP_RETURN_IF_ERROR(KernelStatus(
        input == 0
            ? kernels::HeadBaselineCuda(own, tile.gold, state, rescale,
                                        ComputeStream())
            : kernels::HeadConfigurationCuda(own, baseline, tile.gold, states,
                                             rescale, state, ComputeStream())));
  }
  return absl::OkStatus();
}

}  // namespace qsweep
