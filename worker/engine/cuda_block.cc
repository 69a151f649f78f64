#include "worker/engine/cuda_block.h"

#include <algorithm>
#include <cstddef>

#include "common/base/status_macros.h"
#include "worker/engine/cuda_products.h"
#include "worker/kernels/decoder_rows.h"
#include "worker/kernels/row_kernels.h"

namespace qsweep {
namespace {

using kernels::FloatType;
using kernels::RoundUp;

constexpr int64_t kFloat = sizeof(float);

// Enough rows that padding to whole tiles is no matter; memory that is none
// beside the weights of a large model.
constexpr int64_t kMaxUnitTiles = 4;
constexpr int64_t kUnitBytes = int64_t{2} << 30;

int64_t QuerySize(const ModelConfig& config) {
  return int64_t{config.heads} * config.head_dim;
}

int64_t QkvSize(const ModelConfig& config) {
  return int64_t{config.heads + 2 * config.kv_heads} * config.head_dim;
}

int64_t BytesPerRow(const ModelConfig& config, FloatType type) {
  const int64_t hidden = config.hidden_size;
  const int64_t intermediate = config.intermediate_size;
  return BytesOf(type) * (hidden + QuerySize(config) + intermediate) +
         kFloat * (QkvSize(config) + 2 * hidden + 2 * intermediate);
}

}  // namespace

int64_t DeviceBlockRunner::UnitRows(const ModelConfig& config, FloatType type) {
  const int64_t tiles =
      kUnitBytes / (BytesPerRow(config, type) * kDeviceTileRows);
  return std::clamp<int64_t>(tiles, 1, kMaxUnitTiles) * kDeviceTileRows;
}

int64_t DeviceBlockRunner::UnitBytes(const ModelConfig& config, FloatType type,
                                     int64_t longest_rows) {
  // Attention makes keys and values for every head, and its result.
  const int64_t attention = 3 * QuerySize(config) * kFloat;
  return RoundUp(std::max(UnitRows(config, type), longest_rows),
                 kDeviceTileRows) *
         (BytesPerRow(config, type) + attention);
}

std::vector<DeviceProduct> DeviceBlockRunner::Products(
    const ModelConfig& config) {
  const int64_t hidden = config.hidden_size;
  const int64_t intermediate = config.intermediate_size;
  return {{.inputs = hidden, .outputs = QkvSize(config)},
          {.inputs = QuerySize(config), .outputs = hidden},
          {.inputs = hidden, .outputs = intermediate},  // gate, up
          {.inputs = intermediate, .outputs = hidden}};
}

absl::Status DeviceBlockRunner::Start(const PassRows& rows, int64_t max_rows) {
  std::vector<int32_t> positions;
  for (const PassRows::Document& document : rows.documents) {
    for (int64_t i = 0; i < document.count; ++i) {
      positions.push_back(static_cast<int32_t>(i));
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(positions_, DeviceBuffer::Of(positions));
  const RotaryTable rotary(config_, rows.longest);
  const std::span<const float> cosines(
      rotary.cosines(0),
      static_cast<size_t>(rows.longest * (config_.head_dim / 2)));
  QSWEEP_ASSIGN_OR_RETURN(cosines_, DeviceBuffer::Of(cosines));
  QSWEEP_ASSIGN_OR_RETURN(
      sines_, DeviceBuffer::Of(std::span(rotary.sines(0), cosines.size())));

  const int64_t padded = RoundUp(max_rows, kDeviceTileRows);
  const int64_t hidden = config_.hidden_size;
  const int64_t intermediate = config_.intermediate_size;
  const int64_t read = BytesOf(type_);
  const auto reserve = [padded](DeviceBuffer& buffer, int64_t row_bytes) {
    return buffer.Reserve(padded * row_bytes);
  };
  QSWEEP_RETURN_IF_ERROR(reserve(normed_, hidden * read));
  QSWEEP_RETURN_IF_ERROR(reserve(qkv_, QkvSize(config_) * kFloat));
  QSWEEP_RETURN_IF_ERROR(reserve(context_, QuerySize(config_) * read));
  QSWEEP_RETURN_IF_ERROR(reserve(delta_, hidden * kFloat));
  QSWEEP_RETURN_IF_ERROR(reserve(hidden_, hidden * kFloat));
  QSWEEP_RETURN_IF_ERROR(reserve(gate_, intermediate * kFloat));
  QSWEEP_RETURN_IF_ERROR(reserve(up_, intermediate * kFloat));
  return reserve(act_, intermediate * read);
}

absl::Status DeviceBlockRunner::Norm(const float* rows, int64_t count,
                                     const float* gains, void* out) {
  return KernelStatus(kernels::RmsNormCuda(
      rows, count, config_.hidden_size, gains,
      static_cast<float>(config_.rms_eps), out, type_, ComputeStream()));
}

// Queries, keys and values, rotated; attention; the rest.
absl::Status DeviceBlockRunner::Run(const DeviceBlock& weights,
                                    const DeviceUnit& unit) {
  const int64_t hidden = config_.hidden_size;
  const int64_t qkv = QkvSize(config_);
  const int64_t rows_of_state = unit.rows_of_state();
  int64_t row = 0;  // of the unit
  for (const DeviceUnit::State& state : unit.states) {
    QSWEEP_RETURN_IF_ERROR(Norm(
        state.from, rows_of_state, weights.norm1,
        static_cast<char*>(normed_.data()) + row * hidden * BytesOf(type_)));
    row += rows_of_state;
  }
  QSWEEP_RETURN_IF_ERROR(MultiplyOnDevice(normed_.data(),
                                          RoundUp(unit.rows(), kDeviceTileRows),
                                          weights.qkv, qkv_.floats()));
  row = 0;
  for (size_t s = 0; s < unit.states.size(); ++s) {
    QSWEEP_RETURN_IF_ERROR(KernelStatus(kernels::RotateCuda(
        qkv_.floats() + row * qkv, rows_of_state, qkv,
        config_.heads + config_.kv_heads, config_.head_dim,
        static_cast<const int32_t*>(positions_.data()) + unit.first_row(),
        {.cosines = cosines_.floats(), .sines = sines_.floats()},
        ComputeStream())));
    row += rows_of_state;
  }
  QSWEEP_RETURN_IF_ERROR(Attend(unit));
  return Finish(weights, unit);
}

absl::Status DeviceBlockRunner::Attend(const DeviceUnit& unit) {
  const int64_t qkv = QkvSize(config_);
  const int64_t query = QuerySize(config_);
  for (const PassRows::Document& document : unit.documents) {
    const int64_t row = document.first - unit.first_row();
    const float* const queries = qkv_.floats() + row * qkv;
    const float* const keys = queries + query;
    QSWEEP_RETURN_IF_ERROR(AttendOnDevice(
        {.queries = queries,
         .keys = keys,
         .values = keys + int64_t{config_.kv_heads} * config_.head_dim,
         .state_stride = unit.rows_of_state() * qkv,
         .row_stride = qkv,
         .states = static_cast<int64_t>(unit.states.size()),
         .rows = document.count,
         .heads = config_.heads,
         .kv_heads = config_.kv_heads,
         .head_dim = config_.head_dim,
         .context =
             static_cast<char*>(context_.data()) + row * query * BytesOf(type_),
         .context_type = type_,
         .context_state_stride = unit.rows_of_state() * query}));
  }
  return absl::OkStatus();
}

// Output projection, MLP, and both residual additions.
absl::Status DeviceBlockRunner::Finish(const DeviceBlock& weights,
                                       const DeviceUnit& unit) {
  const int64_t rows = unit.rows();
  const int64_t padded = RoundUp(rows, kDeviceTileRows);
  const int64_t values = unit.rows_of_state() * config_.hidden_size;
  QSWEEP_RETURN_IF_ERROR(
      MultiplyOnDevice(context_.data(), padded, weights.o, delta_.floats()));
  int64_t at = 0;
  for (const DeviceUnit::State& state : unit.states) {
    QSWEEP_RETURN_IF_ERROR(
        KernelStatus(kernels::AddCuda(state.from, delta_.floats() + at, values,
                                      hidden_.floats() + at, ComputeStream())));
    at += values;
  }
  QSWEEP_RETURN_IF_ERROR(
      Norm(hidden_.floats(), rows, weights.norm2, normed_.data()));
  QSWEEP_RETURN_IF_ERROR(
      MultiplyOnDevice(normed_.data(), padded, weights.gate, gate_.floats()));
  QSWEEP_RETURN_IF_ERROR(
      MultiplyOnDevice(normed_.data(), padded, weights.up, up_.floats()));
  QSWEEP_RETURN_IF_ERROR(KernelStatus(kernels::SiluMultiplyCuda(
      gate_.floats(), up_.floats(), rows * config_.intermediate_size,
      act_.data(), type_, ComputeStream())));
  QSWEEP_RETURN_IF_ERROR(
      MultiplyOnDevice(act_.data(), padded, weights.down, delta_.floats()));
  at = 0;
  for (const DeviceUnit::State& state : unit.states) {
    QSWEEP_RETURN_IF_ERROR(KernelStatus(
        kernels::AddCuda(hidden_.floats() + at, delta_.floats() + at, values,
                         state.to, ComputeStream())));
    at += values;
  }
  return absl::OkStatus();
}

}  // namespace qsweep
