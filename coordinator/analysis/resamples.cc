#include "coordinator/analysis/resamples.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/random.h"

namespace qsweep::analysis {
namespace {

constexpr int kRows = 4;  // resamples per step of the product

// Four doubles; two SSE2 registers, or one of AVX2.
typedef double Vector __attribute__((vector_size(32)));

// sums: [kRows, stride]. weights: [units, kRows]. block: [units, kWidth].
// Multiply and add stay separate instructions, so both builds of it below give
// the same bits.
__attribute__((always_inline)) inline void Product(const double* weights,
                                                   const double* block,
                                                   int units, double* sums,
                                                   size_t stride) {
  Vector low[kRows] = {};
  Vector high[kRows] = {};
  for (int unit = 0; unit < units; ++unit) {
    Vector a;
    Vector b;
    __builtin_memcpy(&a, block + unit * Columns::kWidth, sizeof(a));
    __builtin_memcpy(&b, block + unit * Columns::kWidth + 4, sizeof(b));
    for (int row = 0; row < kRows; ++row) {
      const double weight = weights[unit * kRows + row];
      low[row] += a * weight;
      high[row] += b * weight;
    }
  }
  for (int row = 0; row < kRows; ++row) {
    double* out = sums + static_cast<size_t>(row) * stride;
    __builtin_memcpy(out, &low[row], sizeof(Vector));
    __builtin_memcpy(out + 4, &high[row], sizeof(Vector));
  }
}

void ProductPortable(const double* weights, const double* block, int units,
                     double* sums, size_t stride) {
  Product(weights, block, units, sums, stride);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void ProductAvx2(const double* weights,
                                                 const double* block, int units,
                                                 double* sums, size_t stride) {
  Product(weights, block, units, sums, stride);
}
#endif

using ProductFunction = void (*)(const double*, const double*, int, double*,
                                 size_t);

ProductFunction ChooseProduct() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) {
    return &ProductAvx2;
  }
#endif
  return &ProductPortable;
}

}  // namespace

Resamples::Resamples(int units, int count, uint64_t seed, const Work& work)
    : units_(units), count_(count) {
  QSWEEP_CHECK(units >= 1 && units <= UINT16_MAX && count >= 1);
  weights_.resize(static_cast<size_t>(units) * static_cast<size_t>(count));
  usable_.resize(static_cast<size_t>(count));
  Random random(seed);
  for (int b = 0; b < count && !(b % 1024 == 0 && work.stopped()); ++b) {
    uint16_t* row =
        &weights_[static_cast<size_t>(b) * static_cast<size_t>(units)];
    int different = 0;
    for (int draw = 0; draw < units; ++draw) {
      uint16_t& weight = row[random.Below(static_cast<uint64_t>(units))];
      different += weight == 0 ? 1 : 0;
      ++weight;
    }
    usable_[static_cast<size_t>(b)] = different >= 2;
  }
}

std::span<const uint16_t> Resamples::weights(int resample) const {
  const size_t units = static_cast<size_t>(units_);
  return std::span(weights_).subspan(static_cast<size_t>(resample) * units,
                                     units);
}

bool Resamples::usable(int resample) const {
  return usable_[static_cast<size_t>(resample)];
}

int Columns::Add(std::span<const double> values) {
  QSWEEP_CHECK(values.size() == static_cast<size_t>(units_));
  const size_t lane = static_cast<size_t>(size_ % kWidth);
  const size_t block_size = static_cast<size_t>(units_ * kWidth);
  if (lane == 0) {
    values_.resize(values_.size() + block_size);
  }
  double* block = &values_[values_.size() - block_size];
  for (size_t unit = 0; unit < values.size(); ++unit) {
    block[unit * kWidth + lane] = values[unit];
  }
  return size_++;
}

double Columns::at(int column, int unit) const {
  return block(column / kWidth)[unit * kWidth + column % kWidth];
}

const double* Columns::block(int index) const {
  return &values_[static_cast<size_t>(index) *
                  static_cast<size_t>(units_ * kWidth)];
}

void WeightedSums(const Resamples& resamples, int first, int num_resamples,
                  const Columns& columns, std::span<double> sums) {
  static const ProductFunction product = ChooseProduct();
  const int units = columns.units();
  QSWEEP_CHECK(units == resamples.units());
  const size_t stride = static_cast<size_t>(columns.num_blocks()) *
                        static_cast<size_t>(Columns::kWidth);
  QSWEEP_CHECK(sums.size() >= stride * static_cast<size_t>(num_resamples));
  const int steps = (num_resamples + kRows - 1) / kRows;
  // [steps, units, kRows]; the last step is filled up with weight zero.
  std::vector<double> weights(
      static_cast<size_t>(steps) * static_cast<size_t>(units * kRows), 0.0);
  for (int i = 0; i < num_resamples; ++i) {
    const std::span<const uint16_t> row = resamples.weights(first + i);
    double* out = &weights[static_cast<size_t>(i / kRows) *
                           static_cast<size_t>(units * kRows)];
    for (int unit = 0; unit < units; ++unit) {
      out[unit * kRows + i % kRows] = row[static_cast<size_t>(unit)];
    }
  }
  std::vector<double> spill(stride * kRows);
  for (int block = 0; block < columns.num_blocks(); ++block) {
    const size_t offset = static_cast<size_t>(block * Columns::kWidth);
    for (int step = 0; step < steps; ++step) {
      const double* w = &weights[static_cast<size_t>(step) *
                                 static_cast<size_t>(units * kRows)];
      const int rows = std::min(kRows, num_resamples - step * kRows);
      double* out = rows == kRows
                        ? &sums[static_cast<size_t>(step * kRows) * stride]
                        : spill.data();
      product(w, columns.block(block), units, out + offset, stride);
      for (int row = 0; row < (rows == kRows ? 0 : rows); ++row) {
        const size_t at = static_cast<size_t>(row) * stride + offset;
        std::copy_n(&spill[at], Columns::kWidth,
                    &sums[static_cast<size_t>(step * kRows) * stride + at]);
      }
    }
  }
}

}  // namespace qsweep::analysis
