#ifndef QSWEEP_WORKER_KERNELS_LOOPS_PANELS_H_
#define QSWEEP_WORKER_KERNELS_LOOPS_PANELS_H_

// Products of matrices in panels, and the factor of a block. Included once per
// kind of CPU; with -ffp-contract=fast, so that products are fused with sums.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "worker/kernels/loops/registers.h"
#include "worker/kernels/quantizer_loops.h"

namespace qsweep::kernels {
namespace {

// Rows and vectors of sums that stay in registers: 12 of 16, or 24 of 32.
#if defined(__AVX512F__)
constexpr int kStrip = 12;
#else
constexpr int kStrip = 6;
#endif
constexpr int kVecs = 2;

// subtract_product for kRows rows and kWidth vectors of columns, which may
// belong to two panels. Every sum takes its terms one after another.
template <typename T, int kRows, int kWidth>
inline void SubtractStrip(const T* a, int64_t a_step, const T* b,
                          int64_t b_step, int64_t terms, T* c, int64_t c_step) {
  using W = Wide<T>;
  using Vec = typename W::Vec;
  constexpr int64_t kPerPanel = kPanel / W::kLanes;
  const auto place = [](int v, int64_t step) {
    return v / kPerPanel * step + v % kPerPanel * W::kLanes;
  };
  Vec sums[kRows][kWidth] = {};
  for (int64_t term = 0; term < terms; ++term) {
#pragma GCC unroll 4
    for (int64_t k = 0; k < kPanel; ++k) {
      Vec factors[kWidth];
#pragma GCC unroll 4
      for (int v = 0; v < kWidth; ++v) {
        factors[v] = W::Load(b + k * kPanel + place(v, b_step));
      }
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        const T x = a[r * kPanel + k];
#pragma GCC unroll 4
        for (int v = 0; v < kWidth; ++v) {
          sums[r][v] += x * factors[v];
        }
      }
    }
    a += a_step;
    b += kPanel * kPanel;
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kWidth; ++v) {
      T* const at = c + r * kPanel + place(v, c_step);
      W::Store(at, W::Load(at) - sums[r][v]);
    }
  }
}

// The last rows, fewer than a strip.
template <typename T, int kRows, int kWidth>
void SubtractRest(const T* a, int64_t a_step, const T* b, int64_t b_step,
                  int64_t terms, T* c, int64_t c_step, int64_t rows) {
  if constexpr (kRows > 0) {
    if (rows == kRows) {
      SubtractStrip<T, kRows, kWidth>(a, a_step, b, b_step, terms, c, c_step);
    } else {
      SubtractRest<T, kRows - 1, kWidth>(a, a_step, b, b_step, terms, c, c_step,
                                         rows);
    }
  }
}

// All rows of kWidth vectors of columns.
template <typename T, int kWidth>
void SubtractColumns(const T* a, int64_t a_step, const T* b, int64_t b_step,
                     int64_t terms, T* c, int64_t c_step, int64_t rows) {
  int64_t row = 0;
  for (; row + kStrip <= rows; row += kStrip) {
    SubtractStrip<T, kStrip, kWidth>(a + row * kPanel, a_step, b, b_step, terms,
                                     c + row * kPanel, c_step);
  }
  SubtractRest<T, kStrip - 1, kWidth>(a + row * kPanel, a_step, b, b_step,
                                      terms, c + row * kPanel, c_step,
                                      rows - row);
}

template <typename T>
void SubtractProduct(const T* a, int64_t a_step, const T* b, int64_t b_step,
                     int64_t terms, T* c, int64_t c_step, int64_t rows,
                     int64_t panels) {
  constexpr int64_t kWidth = kVecs * Wide<T>::kLanes;  // columns
  // A block of b's panels stays in the L1 cache for all rows.
  for (int64_t first = 0; first < panels * kPanel;) {
    const int64_t panel = first / kPanel;
    // Registers that hold a whole panel go by two of these where there are two.
    const bool single = first + kWidth > panels * kPanel;
    for (int64_t term = 0; term < terms; term += kPanelsPerBlock) {
      const int64_t count = std::min(kPanelsPerBlock, terms - term);
      const T* const left = a + term * a_step;
      const T* const right =
          b + panel * b_step + term * kPanel * kPanel + first % kPanel;
      T* const out = c + panel * c_step + first % kPanel;
      if (single) {
        SubtractColumns<T, 1>(left, a_step, right, b_step, count, out, c_step,
                              rows);
      } else {
        SubtractColumns<T, kVecs>(left, a_step, right, b_step, count, out,
                                  c_step, rows);
      }
    }
    first += single ? Wide<T>::kLanes : kWidth;
  }
}

// row[j] -= factor * other[j] for j from `first` rounded down to a whole vector
// up to `end` rounded up.
template <typename T>
inline void SubtractScaled(T factor, const T* other, int64_t first, int64_t end,
                           T* row) {
  using W = Wide<T>;
  for (int64_t j = first / W::kLanes * W::kLanes; j < end; j += W::kLanes) {
    W::Store(row + j, W::Load(row + j) - factor * W::Load(other + j));
  }
}

template <typename T>
bool FactorBlock(T* block, T smallest, T* inverse) {
  constexpr int64_t kLast = kBlock - 1;
  // With rows and columns reversed the block is L L^T; `upper` becomes L^T.
  alignas(64) T upper[kBlock * kBlock] = {};
  for (int64_t i = 0; i < kBlock; ++i) {
    for (int64_t j = i; j < kBlock; ++j) {
      upper[i * kBlock + j] = block[(kLast - j) * kBlock + kLast - i];
    }
  }
  for (int64_t k = 0; k < kBlock; ++k) {
    T* const row = upper + k * kBlock;
    const T pivot = row[k];
    if (!(pivot > smallest && pivot <= std::numeric_limits<T>::max())) {
      return false;
    }
    const T factor = 1 / std::sqrt(pivot);
    for (int64_t j = k; j < kBlock; ++j) {
      row[j] *= factor;
    }
    for (int64_t i = k + 1; i < kBlock; ++i) {
      SubtractScaled(row[i], row, i, kBlock, upper + i * kBlock);
    }
  }
  alignas(64) T lower[kBlock * kBlock] = {};  // L^-1
  for (int64_t i = 0; i < kBlock; ++i) {
    T* const row = lower + i * kBlock;
    row[i] = 1;
    for (int64_t k = 0; k < i; ++k) {
      SubtractScaled(upper[k * kBlock + i], lower + k * kBlock, 0, k + 1, row);
    }
    const T factor = 1 / upper[i * kBlock + i];
    for (int64_t j = 0; j <= i; ++j) {
      row[j] *= factor;
    }
  }
  for (int64_t i = 0; i < kBlock; ++i) {
    for (int64_t j = 0; j < kBlock; ++j) {
      block[i * kBlock + j] =
          j < i ? 0 : upper[(kLast - j) * kBlock + kLast - i];
      inverse[i * kBlock + j] = lower[(kLast - i) * kBlock + kLast - j];
    }
  }
  return true;
}

template <typename T>
constexpr PanelLoops<T> MakePanelLoops() {
  return {.subtract_product = SubtractProduct<T>,
          .factor_block = FactorBlock<T>};
}

}  // namespace
}  // namespace qsweep::kernels

#endif  // QSWEEP_WORKER_KERNELS_LOOPS_PANELS_H_
