#include "worker/engine/block.h"

#include <algorithm>
#include <cstddef>

#include "common/base/check.h"

namespace qsweep {
namespace {

using kernels::kTileRows;
using kernels::RoundUp;
using kernels::RowStride;

int64_t QkvSize(const ModelConfig& config) {
  return int64_t{config.heads + 2 * config.kv_heads} * config.head_dim;
}

absl::Status Cancelled() {
  return absl::CancelledError("The run was cancelled.");
}

}  // namespace

BlockInputs::BlockInputs(const ModelConfig& config, int64_t max_rows) {
  (*this)[BlockInput::kAttention].width = config.hidden_size;
  (*this)[BlockInput::kContext].width = int64_t{config.heads} * config.head_dim;
  (*this)[BlockInput::kMlp].width = config.hidden_size;
  (*this)[BlockInput::kDown].width = config.intermediate_size;
  for (Rows& output : outputs) {
    output.width = config.hidden_size;
  }
  const auto allocate = [max_rows](Rows& of) {
    of.stride = RowStride(of.width);
    of.values = kernels::FloatBuffer(max_rows * of.stride);
  };
  std::ranges::for_each(inputs, allocate);
  std::ranges::for_each(outputs, allocate);
}

int64_t BlockInputs::Bytes(const ModelConfig& config, int64_t max_rows) {
  const int64_t floats = 4 * RowStride(config.hidden_size) +
                         RowStride(int64_t{config.heads} * config.head_dim) +
                         RowStride(config.intermediate_size);
  return max_rows * floats * static_cast<int64_t>(sizeof(float));
}

BlockRunner::BlockRunner(const ModelConfig& config, const RotaryTable& rotary,
                         int64_t max_rows)
    : config_(config),
      rotary_(rotary),
      kernels_(kernels::BestRowKernels()),
      hidden_stride_(RowStride(config.hidden_size)),
      qkv_stride_(RowStride(QkvSize(config))),
      mlp_stride_(RowStride(config.intermediate_size)),
      qkv_(RoundUp(max_rows, kTileRows) * qkv_stride_),
      normed_(kTileRows * hidden_stride_),
      hidden_(kTileRows * hidden_stride_),
      delta_(kTileRows * hidden_stride_),
      gate_(kTileRows * mlp_stride_),
      up_(kTileRows * kPanelOutputs) {
  rows_.reserve(static_cast<size_t>(max_rows));
}

int64_t BlockRunner::Bytes(const ModelConfig& config, int64_t max_rows) {
  const int64_t rows = RoundUp(max_rows, kTileRows);
  const int64_t floats =
      rows * RowStride(QkvSize(config)) +
      kTileRows * (3 * RowStride(config.hidden_size) +
                   RowStride(config.intermediate_size) + kPanelOutputs);
  return floats * static_cast<int64_t>(sizeof(float)) +
         rows * static_cast<int64_t>(sizeof(Row));
}

int64_t BlockRunner::PanelBytes(const ModelConfig& config) {
  const auto of = [](int64_t inputs, int64_t outputs) {
    int64_t bytes = 0;
    for (int64_t first = 0; first < outputs; first += kPanelOutputs) {
      bytes += Panel::Bytes(inputs, std::min(kPanelOutputs, outputs - first));
    }
    return bytes;
  };
  const int64_t context = int64_t{config.heads} * config.head_dim;
  return of(config.hidden_size, QkvSize(config)) +
         of(context, config.hidden_size) +
         2 * of(config.hidden_size, config.intermediate_size) +
         of(config.intermediate_size, config.hidden_size);
}

std::vector<ProductShape> BlockRunner::Products(const ModelConfig& config) {
  const int64_t hidden = RowStride(config.hidden_size);
  const int64_t qkv = RowStride(QkvSize(config));
  const int64_t mlp = RowStride(config.intermediate_size);
  std::vector<ProductShape> shapes;
  const auto add = [&shapes](int64_t inputs, int64_t stride, int64_t outputs,
                             int64_t out_stride) {
    for (const int64_t columns :
         {std::min(kPanelOutputs, outputs), outputs % kPanelOutputs}) {
      if (columns > 0) {
        shapes.push_back({inputs, stride, columns, out_stride});
      }
    }
  };
  add(config.hidden_size, hidden, QkvSize(config), qkv);
  add(int64_t{config.heads} * config.head_dim, qkv, config.hidden_size, hidden);
  add(config.hidden_size, hidden, config.intermediate_size, mlp);
  add(config.hidden_size, hidden, config.intermediate_size, kPanelOutputs);
  add(config.intermediate_size, mlp, config.hidden_size, hidden);
  return shapes;
}

absl::Status BlockRunner::Run(const BlockWeights& weights,
                              std::span<const Segment> segments, int64_t stride,
                              const std::stop_token& stop,
                              BlockInputs* inputs) {
  inputs_ = inputs;
  rows_.clear();
  for (const Segment& segment : segments) {
    for (int64_t i = 0; i < segment.rows; ++i) {
      rows_.push_back({.from = segment.from + i * stride,
                       .to = segment.to + i * stride,
                       .position = i});
    }
  }
  const auto total = static_cast<int64_t>(rows_.size());
  QSWEEP_CHECK(RoundUp(total, kTileRows) * qkv_stride_ <= qkv_.size());
  if (inputs != nullptr) {
    inputs->rows = total;
  }
  for (int64_t first = 0; first < total; first += kTileRows) {
    if (stop.stop_requested()) {
      return Cancelled();
    }
    ProjectTile(weights, first,
                static_cast<int>(std::min<int64_t>(kTileRows, total - first)));
  }
  int64_t first_row = 0;
  for (const Segment& segment : segments) {
    if (stop.stop_requested()) {
      return Cancelled();
    }
    Attend(first_row, segment.rows);
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

// Keeps rows of a tile that begins at row `first`, where a call asks for it.
void BlockRunner::Copy(const float* from, int64_t stride, int64_t first,
                       int rows, BlockInput input) {
  if (inputs_ != nullptr) {
    CopyRows(from, stride, first, rows, (*inputs_)[input]);
  }
}

void BlockRunner::CopyRows(const float* from, int64_t stride, int64_t first,
                           int rows, BlockInputs::Rows& to) {
  for (int r = 0; r < rows; ++r) {
    std::copy_n(from + r * stride, to.width,
                to.values.data() + (first + r) * to.stride);
  }
}

void BlockRunner::CopyOutput(int64_t first, int rows, size_t half) {
  if (inputs_ != nullptr) {
    CopyRows(delta_.data(), hidden_stride_, first, rows,
             inputs_->outputs[half]);
  }
}

void BlockRunner::Multiply(const float* rows, int64_t row_stride,
                           const Matrix& weight, float* out,
                           int64_t out_stride) {
  for (const Panel& panel : weight.panels()) {
    MultiplyTile(rows, row_stride, panel, out, out_stride);
    out += kPanelOutputs;
  }
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
  Copy(normed_.data(), hidden_stride_, first, rows, BlockInput::kAttention);
  float* const qkv = qkv_.data() + first * qkv_stride_;
  Multiply(normed_.data(), hidden_stride_, weights.qkv, qkv, qkv_stride_);
  for (int r = 0; r < rows; ++r) {
    const int64_t position = rows_[static_cast<size_t>(first + r)].position;
    kernels_.rotate(qkv + r * qkv_stride_, config_.heads + config_.kv_heads,
                    config_.head_dim, rotary_.cosines(position),
                    rotary_.sines(position));
  }
}

// All heads of one document.
void BlockRunner::Attend(int64_t first_row, int64_t rows) {
  float* const queries = qkv_.data() + first_row * qkv_stride_;
  float* const keys = queries + int64_t{config_.heads} * config_.head_dim;
  AttendDocument({.queries = queries,
                  .keys = keys,
                  .values = keys + int64_t{config_.kv_heads} * config_.head_dim,
                  .stride = qkv_stride_,
                  .rows = rows,
                  .heads = config_.heads,
                  .kv_heads = config_.kv_heads,
                  .head_dim = config_.head_dim});
}

// Output projection, MLP, and both residual additions of a tile.
void BlockRunner::FinishTile(const BlockWeights& weights, int64_t first,
                             int rows) {
  const int64_t hidden = config_.hidden_size;
  const auto eps = static_cast<float>(config_.rms_eps);
  Copy(qkv_.data() + first * qkv_stride_, qkv_stride_, first, rows,
       BlockInput::kContext);
  Multiply(qkv_.data() + first * qkv_stride_, qkv_stride_, weights.o,
           delta_.data(), hidden_stride_);
  CopyOutput(first, rows, 0);
  for (int r = 0; r < rows; ++r) {
    const int64_t at = r * hidden_stride_;
    kernels_.add(rows_[static_cast<size_t>(first + r)].from, delta_.data() + at,
                 hidden, hidden_.data() + at);
    kernels_.rms_norm(hidden_.data() + at, weights.norm2.data(), hidden, eps,
                      normed_.data() + at);
  }
  Copy(normed_.data(), hidden_stride_, first, rows, BlockInput::kMlp);
  float* gate = gate_.data();
  for (size_t p = 0; p < weights.gate.panels().size(); ++p) {
    const Panel& panel = weights.gate.panels()[p];
    MultiplyTile(normed_.data(), hidden_stride_, panel, gate, mlp_stride_);
    MultiplyTile(normed_.data(), hidden_stride_, weights.up.panels()[p],
                 up_.data(), kPanelOutputs);
    for (int r = 0; r < rows; ++r) {
      kernels_.silu_multiply(gate + r * mlp_stride_,
                             up_.data() + r * kPanelOutputs, panel.outputs());
    }
    gate += kPanelOutputs;
  }
  Copy(gate_.data(), mlp_stride_, first, rows, BlockInput::kDown);
  Multiply(gate_.data(), mlp_stride_, weights.down, delta_.data(),
           hidden_stride_);
  CopyOutput(first, rows, 1);
  for (int r = 0; r < rows; ++r) {
    const int64_t at = r * hidden_stride_;
    kernels_.add(hidden_.data() + at, delta_.data() + at, hidden,
                 rows_[static_cast<size_t>(first + r)].to);
  }
}

}  // namespace qsweep
