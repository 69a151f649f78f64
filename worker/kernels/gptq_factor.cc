#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "worker/kernels/aligned_array.h"
#include "worker/kernels/gptq.h"
#include "worker/kernels/gptq_blocks.h"
#include "worker/kernels/quantizer_loops.h"

namespace qsweep::kernels {
namespace {

constexpr double kSmallestPivot = 1e-7;  // of the mean diagonal
constexpr double kSingleDamp = 1e-3;     // from here on fp32 is enough
constexpr int64_t kTileRows = 96;        // of a block of columns, per item

template <typename T>
const PanelLoops<T>& LoopsOf(const QuantizerLoops& loops) {
  if constexpr (std::is_same_v<T, float>) {
    return loops.fp32;
  } else {
    return loops.fp64;
  }
}

// The damped Hessian, columns in the order of rounding.
struct Damped {
  const float* hessian;
  const std::vector<int32_t>& order;
  std::vector<double> diagonal;  // by column
  double mean;                   // of the diagonal before it was damped

  int64_t columns() const { return static_cast<int64_t>(order.size()); }
};

// R from the last block of columns to the first. Everything is computed from
// what is to its right and below.
template <typename T>
class Factorization {
 public:
  Factorization(const Damped& damped, const ParallelFor& parallel)
      : damped_(damped),
        parallel_(parallel),
        loops_(LoopsOf<T>(BestQuantizerLoops())),
        blocks_(BlocksOf(damped.columns())),
        upper_(UpperOffset(blocks_)),
        turned_(blocks_ * kBlock * kBlock),
        block_(kBlock * kBlock),
        inverse_(kBlock * kBlock),
        solver_(kBlock * kBlock) {}

  GptqFactoring Run(GptqFactor& factor) {
    factor.inverses = AlignedArray<float>(blocks_ * kBlock * kBlock);
    for (int64_t block = blocks_ - 1; block >= 0; --block) {
      const int64_t right = blocks_ - 1 - block;  // blocks
      const bool updated =
          parallel_(right, [&](int64_t i) { Turn(block, block + 1 + i); }) &&
          ForRows((block + 1) * kBlock, [&](int64_t row, int64_t rows) {
            Fill(block, row, rows);
            Update(block, row, rows);
          });
      if (!updated) {
        return GptqFactoring::kStopped;
      }
      if (!FactorDiagonal(block,
                          factor.inverses.data() + block * kBlock * kBlock)) {
        return GptqFactoring::kSingular;
      }
      if (!ForRows(block * kBlock, [&](int64_t row, int64_t rows) {
            Solve(block, row, rows);
          })) {
        return GptqFactoring::kStopped;
      }
    }
    if constexpr (std::is_same_v<T, float>) {
      factor.upper = std::move(upper_);
    } else {
      factor.upper = AlignedArray<float>(upper_.size());
      std::transform(upper_.data(), upper_.data() + upper_.size(),
                     factor.upper.data(),
                     [](T value) { return static_cast<float>(value); });
    }
    return GptqFactoring::kDone;
  }

 private:
  T* Block(int64_t block) { return upper_.data() + UpperOffset(block); }

  // item(row, rows) for all of `count` rows.
  template <typename Item>
  bool ForRows(int64_t count, const Item& item) {
    return parallel_((count + kTileRows - 1) / kTileRows, [&](int64_t i) {
      const int64_t row = i * kTileRows;
      item(row, std::min(kTileRows, count - row));
    });
  }

  // R[block, other], transposed, into its place among the terms of a product.
  void Turn(int64_t block, int64_t other) {
    const T* const from = Block(other) + block * kBlock * kPanel;
    T* const to = turned_.data() + (other - block - 1) * kBlock * kPanel;
    const int64_t step = TurnedStep(block);
    for (int64_t k = 0; k < kBlock; ++k) {
      const T* const column = from + k / kPanel * UpperStep(other) + k % kPanel;
      for (int64_t j = 0; j < kBlock; ++j) {
        to[j / kPanel * step + k * kPanel + j % kPanel] = column[j * kPanel];
      }
    }
  }
  int64_t TurnedStep(int64_t block) const {
    return (blocks_ - 1 - block) * kBlock * kPanel;
  }

  // The damped Hessian; columns after the last are those of an identity.
  void Fill(int64_t block, int64_t first, int64_t rows) {
    const int64_t n = damped_.columns();
    const int64_t begin = block * kBlock;
    const int32_t* const order = damped_.order.data();
    for (int64_t i = first; i < first + rows; ++i) {
      T* const to = Block(block) + i * kPanel;
      const float* const row = i < n ? damped_.hessian + order[i] * n : nullptr;
      for (int64_t j = begin; j < begin + kBlock; ++j) {
        const int64_t column = j - begin;
        to[column / kPanel * UpperStep(block) + column % kPanel] =
            static_cast<T>(row != nullptr && j < n ? row[order[j]] : 0.0f);
      }
      if (i >= begin) {
        const double diagonal =
            i < n ? damped_.diagonal[static_cast<size_t>(order[i])]
                  : damped_.mean;
        to[(i - begin) / kPanel * UpperStep(block) + (i - begin) % kPanel] =
            static_cast<T>(diagonal);
      }
    }
  }

  // What the blocks to the right have of it is taken away.
  void Update(int64_t block, int64_t row, int64_t rows) {
    for (int64_t other = block + 1; other < blocks_; ++other) {
      loops_.subtract_product(
          Block(other) + row * kPanel, UpperStep(other),
          turned_.data() + (other - block - 1) * kBlock * kPanel,
          TurnedStep(block), kPanelsPerBlock, Block(block) + row * kPanel,
          UpperStep(block), rows, kPanelsPerBlock);
    }
  }

  bool FactorDiagonal(int64_t block, float* inverse) {
    T* const diagonal = Block(block) + block * kBlock * kPanel;
    const auto at = [&](int64_t i, int64_t j) -> T& {
      return diagonal[j / kPanel * UpperStep(block) + i * kPanel + j % kPanel];
    };
    for (int64_t i = 0; i < kBlock; ++i) {
      for (int64_t j = 0; j < kBlock; ++j) {
        block_.data()[i * kBlock + j] = at(i, j);
      }
    }
    if (!loops_.factor_block(block_.data(),
                             static_cast<T>(kSmallestPivot * damped_.mean),
                             inverse_.data())) {
      return false;
    }
    for (int64_t i = 0; i < kBlock; ++i) {
      for (int64_t j = 0; j < kBlock; ++j) {
        const T value = inverse_.data()[i * kBlock + j];
        at(i, j) = block_.data()[i * kBlock + j];
        inverse[j / kPanel * kInverseStep + i * kPanel + j % kPanel] =
            static_cast<float>(value);
        solver_.data()[i / kPanel * kInverseStep + j * kPanel + i % kPanel] =
            -value;
      }
    }
    return true;
  }

  // Rows above the diagonal, times the transposed inverse of its block.
  void Solve(int64_t block, int64_t row, int64_t rows) {
    AlignedArray<T> copy(rows * kBlock);
    for (int64_t panel = 0; panel < kPanelsPerBlock; ++panel) {
      T* const from = Block(block) + panel * UpperStep(block) + row * kPanel;
      std::copy_n(from, rows * kPanel, copy.data() + panel * rows * kPanel);
      std::fill_n(from, rows * kPanel, T{0});
    }
    // Column j of the transposed inverse is zero before its element j.
    for (int64_t panel = 0; panel < kPanelsPerBlock; ++panel) {
      loops_.subtract_product(
          copy.data() + panel * rows * kPanel, rows * kPanel,
          solver_.data() + panel * (kInverseStep + kPanel * kPanel),
          kInverseStep, kPanelsPerBlock - panel,
          Block(block) + panel * UpperStep(block) + row * kPanel,
          UpperStep(block), rows, 1);
    }
  }

  const Damped& damped_;
  const ParallelFor& parallel_;
  const PanelLoops<T>& loops_;
  const int64_t blocks_;
  AlignedArray<T> upper_;   // as GptqFactor has it
  AlignedArray<T> turned_;  // a row of blocks, transposed, in panels
  AlignedArray<T> block_;   // on the diagonal
  AlignedArray<T> inverse_;
  AlignedArray<T> solver_;  // minus the inverse, transposed, in panels
};

}  // namespace

float GptqFactor::Upper(int64_t i, int64_t j) const {
  const int64_t block = j / kBlock;
  return upper
      .data()[UpperOffset(block) + j % kBlock / kPanel * UpperStep(block) +
              i * kPanel + j % kPanel];
}

float GptqFactor::UpperInverse(int64_t i, int64_t j) const {
  return inverses.data()[j / kBlock * kBlock * kBlock +
                         j % kBlock / kPanel * kInverseStep +
                         i % kBlock * kPanel + j % kPanel];
}

int64_t GptqFactorBytes(int64_t columns) {
  const int64_t blocks = BlocksOf(columns);
  return (UpperOffset(blocks) + blocks * kBlock * kBlock) *
         static_cast<int64_t>(sizeof(float));
}

int64_t FactoringBytes(int64_t columns) {
  // In fp64; in fp32 R is the factor's from the start.
  const int64_t blocks = BlocksOf(columns);
  return (UpperOffset(blocks) + (blocks + 3) * kBlock * kBlock) *
         static_cast<int64_t>(sizeof(double));
}

GptqFactoring FactorForGptq(const float* hessian, int64_t columns, double damp,
                            bool act_order, const ParallelFor& parallel,
                            GptqFactor& factor) {
  const auto size = static_cast<size_t>(columns);
  std::vector<double> diagonal(size);
  factor.columns = columns;
  factor.dead.assign(size, false);
  double mean = 0;
  for (size_t i = 0; i < size; ++i) {
    diagonal[i] = hessian[i * size + i];
    factor.dead[i] = diagonal[i] == 0;
    diagonal[i] = factor.dead[i] ? 1 : diagonal[i];
    mean += diagonal[i] / static_cast<double>(columns);
  }
  factor.order.resize(size);
  std::iota(factor.order.begin(), factor.order.end(), 0);
  if (act_order) {
    std::ranges::stable_sort(factor.order, [&](int32_t a, int32_t b) {
      return diagonal[static_cast<size_t>(a)] >
             diagonal[static_cast<size_t>(b)];
    });
  }
  for (double& value : diagonal) {
    value += damp * mean;
  }
  const Damped damped{hessian, factor.order, std::move(diagonal), mean};
  return damp >= kSingleDamp
             ? Factorization<float>(damped, parallel).Run(factor)
             : Factorization<double>(damped, parallel).Run(factor);
}

}  // namespace qsweep::kernels
