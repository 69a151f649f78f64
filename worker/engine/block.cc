#include "worker/engine/block.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "common/base/check.h"

namespace qsweep {
namespace {

using kernels::kColumnStep;
using kernels::kRowStep;
using kernels::kTileRows;
using kernels::RoundUp;
using kernels::RowStride;

constexpr int64_t kQueryRows = 32;     // queries of a head at a time
constexpr int64_t kGateColumns = 384;  // of the MLP at a time: stay in cache
static_assert(kGateColumns % kColumnStep == 0);
static_assert(kQueryRows % kRowStep == 0);

int64_t QkvSize(const ModelConfig& config) {
  return int64_t{config.heads + 2 * config.kv_heads} * config.head_dim;
}

int ProductRows(int64_t rows) {
  return static_cast<int>(RoundUp(rows, kRowStep));
}

absl::Status Cancelled() {
  return absl::CancelledError("The run was cancelled.");
}

}  // namespace

BlockRunner::BlockRunner(const ModelConfig& config, const RotaryTable& rotary,
                         int64_t max_rows, int64_t max_document)
    : config_(config),
      rotary_(rotary),
      kernels_(kernels::BestRowKernels()),
      hidden_stride_(RowStride(config.hidden_size)),
      qkv_stride_(RowStride(QkvSize(config))),
      mlp_stride_(RowStride(config.intermediate_size)),
      head_stride_(RowStride(config.head_dim)),
      qkv_(RoundUp(max_rows, kRowStep) * qkv_stride_),
      normed_(kTileRows * hidden_stride_),
      hidden_(kTileRows * hidden_stride_),
      delta_(kTileRows * hidden_stride_),
      gate_(kTileRows * mlp_stride_),
      up_(kTileRows * kGateColumns),
      keys_(max_document, config.head_dim),
      values_(config.head_dim, max_document),
      queries_(kQueryRows * config.head_dim),
      scores_(kQueryRows * RowStride(max_document)),
      context_(kQueryRows * head_stride_) {
  rows_.reserve(static_cast<size_t>(max_rows));
}

int64_t BlockRunner::BufferBytes(const ModelConfig& config, int64_t max_rows,
                                 int64_t max_document) {
  const int64_t floats =
      max_rows * RowStride(QkvSize(config)) +
      kTileRows * (3 * RowStride(config.hidden_size) +
                   RowStride(config.intermediate_size) + kGateColumns) +
      max_document * (2 * RowStride(config.head_dim) + kQueryRows);
  return floats * static_cast<int64_t>(sizeof(float));
}

absl::Status BlockRunner::Run(const BlockWeights& weights,
                              std::span<const Segment> segments, int64_t stride,
                              const std::stop_token& stop) {
  rows_.clear();
  for (const Segment& segment : segments) {
    for (int64_t i = 0; i < segment.rows; ++i) {
      rows_.push_back({.from = segment.from + i * stride,
                       .to = segment.to + i * stride,
                       .position = i});
    }
  }
  const auto total = static_cast<int64_t>(rows_.size());
  QSWEEP_CHECK(RoundUp(total, kRowStep) * qkv_stride_ <= qkv_.size());
  for (int64_t first = 0; first < total; first += kTileRows) {
    if (stop.stop_requested()) {
      return Cancelled();
    }
    ProjectTile(weights, first,
                static_cast<int>(std::min<int64_t>(kTileRows, total - first)));
  }
  int64_t first_row = 0;
  for (const Segment& segment : segments) {
    for (int kv_head = 0; kv_head < config_.kv_heads; ++kv_head) {
      if (stop.stop_requested()) {
        return Cancelled();
      }
      Attend(first_row, segment.rows, kv_head);
    }
    first_row += segment.rows;
  }
  for (int64_t first = 0; first < total; first += kTileRows) {
    if (stop.stop_requested()) {
      return Cancelled();
    }
    FinishTile(weights, first,
               static_cast<int>(std::min<int64_t>(kTileRows, total - first)));
  }
  return absl::OkStatus();
}

// Queries, keys and values of a tile, rotated to their positions.
void BlockRunner::ProjectTile(const BlockWeights& weights, int64_t first,
                              int rows) {
  const auto eps = static_cast<float>(config_.rms_eps);
  for (int r = 0; r < rows; ++r) {
    kernels_.rms_norm(rows_[static_cast<size_t>(first + r)].from,
                      weights.norm1.data(), config_.hidden_size, eps,
                      normed_.data() + r * hidden_stride_);
  }
  float* const qkv = qkv_.data() + first * qkv_stride_;
  kernels_.product(normed_.data(), hidden_stride_, ProductRows(rows),
                   weights.qkv, 0, QkvSize(config_), config_.hidden_size, qkv,
                   qkv_stride_);
  for (int r = 0; r < rows; ++r) {
    const int64_t position = rows_[static_cast<size_t>(first + r)].position;
    kernels_.rotate(qkv + r * qkv_stride_, config_.heads + config_.kv_heads,
                    config_.head_dim, rotary_.cosines(position),
                    rotary_.sines(position));
  }
}

// All query heads that share one key and value head, over one document.
void BlockRunner::Attend(int64_t first_row, int64_t rows, int kv_head) {
  const float* const document = qkv_.data() + first_row * qkv_stride_;
  const float* const keys =
      document + int64_t{config_.heads + kv_head} * config_.head_dim;
  const float* const values =
      keys + int64_t{config_.kv_heads} * config_.head_dim;
  keys_.PackRows(0, rows, keys, qkv_stride_);
  values_.PackTransposed(rows, values, qkv_stride_);
  const int group = config_.heads / config_.kv_heads;
  for (int i = 0; i < group; ++i) {
    AttendHead(first_row, rows, kv_head * group + i);
  }
}

void BlockRunner::AttendHead(int64_t first_row, int64_t rows, int head) {
  const int64_t head_dim = config_.head_dim;
  const auto scale =
      static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  const size_t head_bytes = static_cast<size_t>(head_dim) * sizeof(float);
  float* const queries =
      qkv_.data() + first_row * qkv_stride_ + head * head_dim;
  for (int64_t begin = 0; begin < rows; begin += kQueryRows) {
    const int64_t count = std::min(kQueryRows, rows - begin);
    const int64_t visible = begin + count;  // keys the last query sees
    const int64_t stride = RowStride(visible);
    for (int64_t r = 0; r < count; ++r) {
      std::memcpy(queries_.data() + r * head_dim,
                  queries + (begin + r) * qkv_stride_, head_bytes);
    }
    kernels_.product(queries_.data(), head_dim, ProductRows(count), keys_, 0,
                     visible, head_dim, scores_.data(), stride);
    for (int64_t r = 0; r < count; ++r) {
      kernels_.softmax(scores_.data() + r * stride, begin + r + 1, visible,
                       scale);
    }
    kernels_.product(scores_.data(), stride, ProductRows(count), values_, 0,
                     head_dim, visible, context_.data(), head_stride_);
    for (int64_t r = 0; r < count; ++r) {
      std::memcpy(queries + (begin + r) * qkv_stride_,
                  context_.data() + r * head_stride_, head_bytes);
    }
  }
}

// Output projection, MLP, and both residual additions of a tile.
void BlockRunner::FinishTile(const BlockWeights& weights, int64_t first,
                             int rows) {
  const int64_t hidden = config_.hidden_size;
  const auto eps = static_cast<float>(config_.rms_eps);
  const int product_rows = ProductRows(rows);
  kernels_.product(qkv_.data() + first * qkv_stride_, qkv_stride_, product_rows,
                   weights.o, 0, hidden,
                   int64_t{config_.heads} * config_.head_dim, delta_.data(),
                   hidden_stride_);
  for (int r = 0; r < rows; ++r) {
    const int64_t at = r * hidden_stride_;
    kernels_.add(rows_[static_cast<size_t>(first + r)].from, delta_.data() + at,
                 hidden, hidden_.data() + at);
    kernels_.rms_norm(hidden_.data() + at, weights.norm2.data(), hidden, eps,
                      normed_.data() + at);
  }
  for (int64_t column = 0; column < config_.intermediate_size;
       column += kGateColumns) {
    const int64_t count =
        std::min(kGateColumns, config_.intermediate_size - column);
    float* const gate = gate_.data() + column;
    kernels_.product(normed_.data(), hidden_stride_, product_rows, weights.gate,
                     column, count, hidden, gate, mlp_stride_);
    kernels_.product(normed_.data(), hidden_stride_, product_rows, weights.up,
                     column, count, hidden, up_.data(), kGateColumns);
    for (int r = 0; r < rows; ++r) {
      kernels_.silu_multiply(gate + r * mlp_stride_,
                             up_.data() + r * kGateColumns, count);
    }
  }
  kernels_.product(gate_.data(), mlp_stride_, product_rows, weights.down, 0,
                   hidden, config_.intermediate_size, delta_.data(),
                   hidden_stride_);
  for (int r = 0; r < rows; ++r) {
    const int64_t at = r * hidden_stride_;
    kernels_.add(hidden_.data() + at, delta_.data() + at, hidden,
                 rows_[static_cast<size_t>(first + r)].to);
  }
}

}  // namespace qsweep
