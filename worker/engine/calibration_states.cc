#include "worker/engine/calibration_states.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/check.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

// Rows of a unit, whole documents; part of what decides the bits of sums.
constexpr int64_t kUnitRows = 1024;

}  // namespace

int64_t CalibrationStates::LongestOf(const Documents& documents) {
  size_t longest = 1;
  for (const std::vector<int32_t>& ids : documents) {
    longest = std::max(longest, ids.size());
  }
  return static_cast<int64_t>(longest);
}

std::vector<CalibrationStates::Unit> CalibrationStates::UnitsOf(
    const Documents& documents) {
  std::vector<Unit> units(1);
  int64_t first = 0;
  for (const std::vector<int32_t>& ids : documents) {
    const auto count = static_cast<int64_t>(ids.size());
    if (first > units.back().first &&
        first + count - units.back().first > kUnitRows) {
      units.push_back({.first = first});
    }
    units.back().documents.push_back(count);
    first += count;
  }
  return units;
}

size_t CalibrationStates::NumUnits(const Documents& documents) {
  return UnitsOf(documents).size();
}

int64_t CalibrationStates::Bytes(const ModelConfig& config,
                                 const Documents& documents, int num_slots,
                                 int num_threads) {
  const int64_t row = kernels::RowStride(config.hidden_size) *
                      static_cast<int64_t>(sizeof(float));
  const int64_t max_rows = std::max(kUnitRows, LongestOf(documents));
  int64_t positions = 0;
  for (const std::vector<int32_t>& ids : documents) {
    positions += static_cast<int64_t>(ids.size());
  }
  return num_slots * positions * row +
         num_threads * (max_rows * row + BlockRunner::Bytes(config, max_rows) +
                        BlockInputs::Bytes(config, max_rows));
}

CalibrationStates::CalibrationStates(const ModelConfig& config,
                                     const Documents& documents, int num_slots,
                                     ThreadPool& pool, std::stop_token stop)
    : config_(config),
      documents_(documents),
      pool_(pool),
      stop_(std::move(stop)),
      stride_(kernels::RowStride(config.hidden_size)),
      rotary_(config, LongestOf(documents)),
      units_(UnitsOf(documents)) {
  for (const std::vector<int32_t>& ids : documents) {
    num_positions_ += static_cast<int64_t>(ids.size());
  }
  for (int slot = 0; slot < num_slots; ++slot) {
    slots_.emplace_back(num_positions_ * stride_);
  }
  const int64_t max_rows = std::max(kUnitRows, LongestOf(documents));
  for (int thread = 0; thread < pool_.num_threads(); ++thread) {
    nowhere_.emplace_back(max_rows * stride_);
    runners_.emplace_back(config_, rotary_, max_rows);
    inputs_.emplace_back(config_, max_rows);
  }
}

void CalibrationStates::Embed(std::span<const float> table, int slot) {
  float* row = slots_[static_cast<size_t>(slot)].data();
  for (const std::vector<int32_t>& ids : documents_) {
    for (const int32_t id : ids) {
      QSWEEP_CHECK(id >= 0 && id < config_.vocabulary_size);
      std::memcpy(row, table.data() + int64_t{id} * config_.hidden_size,
                  static_cast<size_t>(config_.hidden_size) * sizeof(float));
      row += stride_;
    }
  }
}

absl::Status CalibrationStates::Run(const BlockWeights& weights, int from,
                                    std::optional<int> to, size_t first,
                                    size_t count, bool inputs,
                                    const Visit& visit) {
  const float* const from_rows = slots_[static_cast<size_t>(from)].data();
  return pool_.ParallelFor(
      static_cast<int64_t>(count), stop_,
      [&](int64_t index, int thread) -> absl::Status {
        const auto item = static_cast<size_t>(index);
        const Unit& unit = units_[first + item];
        int64_t offset = unit.first * stride_;
        float* to_rows = to ? slots_[static_cast<size_t>(*to)].data() + offset
                            : nowhere_[static_cast<size_t>(thread)].data();
        std::vector<Segment> segments;
        for (const int64_t rows : unit.documents) {
          segments.push_back(
              {.from = from_rows + offset, .to = to_rows, .rows = rows});
          offset += rows * stride_;
          to_rows += rows * stride_;
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

}  // namespace qsweep
