#ifndef QSWEEP_WORKER_KERNELS_LOOPS_PANELS_H_
#define QSWEEP_WORKER_KERNELS_LOOPS_PANELS_H_

// Products of matrices in panels, and the factor of a block. Included once per
// kind of CPU; with -ffp-contract=fast, so that products are fused with sums.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "worker/kernels/loops/wide.h"
#include "worker/kernels/quantizer_loops.h"

namespace qsweep::kernels {
namespace {

// Rows and vectors of sums that stay in registers.
constexpr int kStrip = 6;
constexpr int kVecs = 2;

// subtract_product for kRows rows and kVecs vectors of a panel's columns.
template <typename T, int kRows>
inline void SubtractStrip(const T* a, int64_t a_step, const T* b, int64_t terms,
                          T* c) {
  using W = Wide<T>;
  using Vec = typename W::Vec;
  Vec sums[kRows][kVecs] = {};
  for (int64_t term = 0; term < terms; ++term) {
#pragma GCC unroll 4
    for (int64_t k = 0; k < kPanel; ++k) {
      Vec factors[kVecs];
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) {
        factors[v] = W::Load(b + k * kPanel + v * W::kLanes);
      }
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        const T x = a[r * kPanel + k];
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) {
          sums[r][v] += x * factors[v];
        }
      }
    }
    a += a_step;
    b += kPanel * kPanel;
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      T* const place = c + r * kPanel + v * W::kLanes;
      W::Store(place, W::Load(place) - sums[r][v]);
    }
  }
}

// The last rows, fewer than a strip.
template <typename T, int kRows>
void SubtractRest(const T* a, int64_t a_step, const T* b, int64_t terms, T* c,
                  int64_t rows) {
  if constexpr (kRows > 0) {
    if (rows == kRows) {
      SubtractStrip<T, kRows>(a, a_step, b, terms, c);
    } else {
      SubtractRest<T, kRows - 1>(a, a_step, b, terms, c, rows);
    }
  }
}

template <typename T>
void SubtractProduct(const T* a, int64_t a_step, const T* b, int64_t b_step,
                     int64_t terms, T* c, int64_t c_step, int64_t rows,
                     int64_t panels) {
  // A block of b's panel stays in the L1 cache for all rows.
  for (int64_t panel = 0; panel < panels; ++panel) {
    for (int64_t term = 0; term < terms; term += kPanelsPerBlock) {
      const int64_t count = std::min(kPanelsPerBlock, terms - term);
      const T* const left = a + term * a_step;
      for (int64_t column = 0; column < kPanel;
           column += kVecs * Wide<T>::kLanes) {
        const T* const right =
            b + panel * b_step + term * kPanel * kPanel + column;
        T* const out = c + panel * c_step + column;
        int64_t row = 0;
        for (; row + kStrip <= rows; row += kStrip) {
          SubtractStrip<T, kStrip>(left + row * kPanel, a_step, right, count,
                                   out + row * kPanel);
        }
        SubtractRest<T, kStrip - 1>(left + row * kPanel, a_step, right, count,
                                    out + row * kPanel, rows - row);
      }
    }
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
