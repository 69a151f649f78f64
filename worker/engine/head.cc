#include "worker/engine/head.h"

#include <algorithm>
#include <cstddef>

#include "common/base/status_macros.h"

namespace qsweep {
namespace {

using kernels::HeadRow;
using kernels::kTileRows;
using kernels::LogitTile;

// Of the vocabulary at a time: the logits and their exponentials of a row tile
// stay in the cache.
constexpr int64_t kTileColumns = kPanelOutputs;
static_assert(kTileColumns % kernels::kLogitPadding == 0);

}  // namespace

HeadScorer::HeadScorer(int64_t state_stride, ThreadPool& pool)
    : state_stride_(state_stride),
      pool_(pool),
      kernels_(kernels::BestRowKernels()),
      buffers_(static_cast<size_t>(pool.num_threads())) {
  for (Buffers& buffers : buffers_) {
    buffers.baseline_logits = kernels::FloatBuffer(kTileRows * kTileColumns);
    buffers.exps = kernels::FloatBuffer(kTileRows * kTileColumns);
    buffers.logits = kernels::FloatBuffer(kTileRows * kTileColumns);
    buffers.rescale.resize(kTileRows);
    buffers.baseline_rows.resize(kTileRows);
  }
}

int64_t HeadScorer::Bytes(const ModelConfig& config, int threads,
                          int64_t configurations, int64_t heads) {
  constexpr auto kTileBytes =
      static_cast<int64_t>(kTileRows * kTileColumns * sizeof(float));
  constexpr auto kRowBytes = static_cast<int64_t>(kTileRows * sizeof(HeadRow));
  return threads * (3 * kTileBytes + (1 + configurations) * kRowBytes +
                    heads * Panel::Bytes(config.hidden_size, kTileColumns));
}

std::vector<ProductShape> HeadScorer::Products(const ModelConfig& config) {
  std::vector<ProductShape> shapes;
  for (const int64_t columns :
       {std::min<int64_t>(kTileColumns, config.vocabulary_size),
        config.vocabulary_size % kTileColumns}) {
    if (columns > 0) {
      shapes.push_back({config.hidden_size,
                        kernels::RowStride(config.hidden_size), columns,
                        kTileColumns});
    }
  }
  return shapes;
}

absl::Status HeadScorer::Score(const HeadInput& baseline,
                               std::span<const HeadInput> configurations,
                               std::span<const int32_t> gold,
                               std::span<kernels::TokenScore> scores,
                               const std::stop_token& stop,
                               const TileDone& tile_done) {
  Inputs inputs;
  inputs.Add(baseline);
  std::ranges::for_each(configurations,
                        [&](const HeadInput& input) { inputs.Add(input); });
  const auto rows = static_cast<int64_t>(gold.size());
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  return pool_.ParallelFor(
      tiles, stop, [&](int64_t tile, int thread) -> absl::Status {
        Buffers& buffers = buffers_[static_cast<size_t>(thread)];
        const int64_t first = tile * kTileRows;
        QSWEEP_RETURN_IF_ERROR(ScoreTile(inputs, gold, first, buffers, stop));
        const int64_t count = std::min<int64_t>(kTileRows, rows - first);
        for (int64_t r = 0; r < count; ++r) {
          const HeadRow& base = buffers.baseline_rows[static_cast<size_t>(r)];
          const auto row = static_cast<size_t>(first + r);
          scores[row] = kernels::ScoreOf(base, base);
          for (size_t c = 0; c < configurations.size(); ++c) {
            scores[(c + 1) * gold.size() + row] = kernels::ScoreOf(
                base, buffers.rows[c * kTileRows + static_cast<size_t>(r)]);
          }
        }
        tile_done(tile, thread);
        return absl::OkStatus();
      });
}

void HeadScorer::Inputs::Add(const HeadInput& input) {
  const auto head = std::ranges::find(heads, input.head);
  inputs.push_back({.states = input.states,
                    .head = static_cast<size_t>(head - heads.begin())});
  if (head == heads.end()) {
    heads.push_back(input.head);
  }
}

absl::Status HeadScorer::ScoreTile(const Inputs& inputs,
                                   std::span<const int32_t> gold, int64_t first,
                                   Buffers& buffers,
                                   const std::stop_token& stop) {
  const auto rows = static_cast<int>(
      std::min<int64_t>(kTileRows, static_cast<int64_t>(gold.size()) - first));
  const size_t configurations = inputs.inputs.size() - 1;
  buffers.baseline_rows.assign(kTileRows, HeadRow());
  buffers.rows.assign(configurations * kTileRows, HeadRow());
  buffers.panels.resize(std::max(buffers.panels.size(), inputs.heads.size()));
  const int64_t vocabulary = inputs.heads[0]->outputs();
  for (int64_t column = 0; column < vocabulary; column += kTileColumns) {
    if (stop.stop_requested()) {
      return absl::CancelledError("The run was cancelled.");
    }
    LogitTile tile = {.logits = buffers.baseline_logits.data(),
                      .stride = kTileColumns,
                      .rows = rows,
                      .columns = std::min(kTileColumns, vocabulary - column),
                      .first_column = static_cast<int32_t>(column),
                      .gold = gold.data() + first};
    for (size_t h = 0; h < inputs.heads.size(); ++h) {
      const Matrix& head = *inputs.heads[h];
      buffers.panels[h].Prepare(head.row(column), head.inputs(), tile.columns,
                                head.mode());
    }
    const auto multiply = [&](const Inputs::Input& input) {
      MultiplyTile(input.states + first * state_stride_, state_stride_,
                   buffers.panels[input.head], tile.logits, tile.stride);
    };
    multiply(inputs.inputs[0]);
    kernels_.add_baseline(tile, buffers.baseline_rows.data(),
                          buffers.exps.data(), buffers.rescale.data());
    tile.logits = buffers.logits.data();
    for (size_t c = 0; c < configurations; ++c) {
      multiply(inputs.inputs[c + 1]);
      kernels_.add_configuration(tile, buffers.baseline_logits.data(),
                                 buffers.exps.data(), buffers.rescale.data(),
                                 buffers.rows.data() + c * kTileRows);
    }
  }
  return absl::OkStatus();
}

}  // namespace qsweep
