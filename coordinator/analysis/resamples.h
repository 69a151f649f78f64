#ifndef QSWEEP_COORDINATOR_ANALYSIS_RESAMPLES_H_
#define QSWEEP_COORDINATOR_ANALYSIS_RESAMPLES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "coordinator/analysis/work.h"

namespace qsweep::analysis {

// `count` resamples of `units` units, with replacement, as counts per unit.
// Resample b takes the values b * units ... (b + 1) * units - 1 of
// Random(seed).Below(units): docs/metrics.md, "Resampling". Immutable.
class Resamples {
 public:
  // units >= 1, count >= 1. Not worth using once work.stopped().
  Resamples(int units, int count, uint64_t seed, const Work& work = {});

  int units() const { return units_; }
  int count() const { return count_; }
  // Times each unit was drawn. [units]
  std::span<const uint16_t> weights(int resample) const;
  // At least two different units: only then has a resample a standard error.
  bool usable(int resample) const;

 private:
  int units_;
  int count_;
  std::vector<uint16_t> weights_;  // [count, units]
  std::vector<bool> usable_;       // [count]
};

// Columns of unit values, packed for WeightedSums. Single-thread.
class Columns {
 public:
  explicit Columns(int units) : units_(units) {}

  // values: [units]. Returns the column's index: 0, 1, ...
  int Add(std::span<const double> values);
  int units() const { return units_; }
  int size() const { return size_; }
  double at(int column, int unit) const;

  static constexpr int kWidth = 8;  // columns per block
  // [units, kWidth], zero where the last block is not full.
  const double* block(int index) const;
  int num_blocks() const { return (size_ + kWidth - 1) / kWidth; }

 private:
  int units_;
  int size_ = 0;
  std::vector<double> values_;  // [num_blocks, units, kWidth]
};

// sums[i, column] = sum over units of weight(first + i) x value, added in the
// order of the units, so the bits depend on neither the machine nor the
// grouping. sums: [num_resamples, stride], stride >= num_blocks * kWidth.
void WeightedSums(const Resamples& resamples, int first, int num_resamples,
                  const Columns& columns, std::span<double> sums);

}  // namespace qsweep::analysis

#endif  // QSWEEP_COORDINATOR_ANALYSIS_RESAMPLES_H_
