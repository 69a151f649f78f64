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
constexpr int64_t kTileColumns = 384;
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

int64_t HeadScorer::Bytes(int threads, int64_t configurations) {
  constexpr auto kTileBytes =
      static_cast<int64_t>(kTileRows * kTileColumns * sizeof(float));
  constexpr auto kRowBytes = static_cast<int64_t>(kTileRows * sizeof(HeadRow));
  return threads * (3 * kTileBytes + (1 + configurations) * kRowBytes);
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
  const auto rows = static_cast<int64_t>(gold.size());
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  return pool_.ParallelFor(
      tiles, stop, [&](int64_t tile, int thread) -> absl::Status {
        Buffers& buffers = buffers_[static_cast<size_t>(thread)];
        const int64_t first = tile * kTileRows;
        QSWEEP_RETURN_IF_ERROR(
            ScoreTile(baseline, configurations, gold, first, buffers, stop));
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

absl::Status HeadScorer::ScoreTile(const HeadInput& baseline,
                                   std::span<const HeadInput> configurations,
                                   std::span<const int32_t> gold, int64_t first,
                                   Buffers& buffers,
                                   const std::stop_token& stop) {
  const auto rows = static_cast<int>(
      std::min<int64_t>(kTileRows, static_cast<int64_t>(gold.size()) - first));
  buffers.baseline_rows.assign(kTileRows, HeadRow());
  buffers.rows.assign(configurations.size() * kTileRows, HeadRow());
  const int64_t vocabulary = baseline.head->outputs();
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
    MultiplyTile(baseline.states + first * state_stride_, state_stride_,
                 *baseline.head, column, tile.columns, tile.logits,
                 tile.stride);
    kernels_.add_baseline(tile, buffers.baseline_rows.data(),
                          buffers.exps.data(), buffers.rescale.data());
    tile.logits = buffers.logits.data();
    for (size_t c = 0; c < configurations.size(); ++c) {
      const HeadInput& input = configurations[c];
      MultiplyTile(input.states + first * state_stride_, state_stride_,
                   *input.head, column, tile.columns, tile.logits, tile.stride);
      kernels_.add_configuration(tile, buffers.baseline_logits.data(),
                                 buffers.exps.data(), buffers.rescale.data(),
                                 buffers.rows.data() + c * kTileRows);
    }
  }
  return absl::OkStatus();
}

}  // namespace qsweep
