#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "worker/kernels/aligned_array.h"
#include "worker/kernels/gptq.h"
#include "worker/kernels/gptq_blocks.h"
#include "worker/kernels/loops/rtn.h"
#include "worker/kernels/quantizer_loops.h"

namespace qsweep::kernels {
namespace {

constexpr int64_t kRowTile = 64;  // rows that share a read of R
constexpr int64_t kRowStep = 8;   // of ColumnBlock

RtnOptions GridOf(const GptqOptions& options) {
  return {.bits = options.bits,
          .grid = options.symmetric ? RtnGrid::kGptqSymmetric
                                    : RtnGrid::kGptqAsymmetric,
          .half_scale = options.half_scale};
}

GroupParameters ParametersOfGroup(const float* weights, int64_t count,
                                  const GptqOptions& options) {
  GroupParameters p = ParametersOf<Fp32>(weights, count, GridOf(options));
  if (!std::isfinite(
          p.scale)) {  // weights that overflowed: the zero is no number
    p = WithZero(p.scale, 0.0f, static_cast<float>((1 << options.bits) - 1));
  }
  return p;
}

// Some rows of a matrix on their way through the columns, in panels.
class Rows {
 public:
  // weights: [rows, columns] in their own order; rows at most kRowTile.
  Rows(const float* weights, int64_t rows, const GptqFactor& factor,
       const GptqOptions& options)
      : factor_(factor),
        options_(options),
        loops_(BestQuantizerLoops()),
        columns_(factor.columns),
        blocks_(BlocksOf(factor.columns)),
        groups_(options.groups_per_row(factor.columns)),
        rows_(rows),
        lanes_((rows + kRowStep - 1) / kRowStep * kRowStep),
        panel_(lanes_ * kPanel),
        lost_(blocks_ * kBlock * lanes_),
        parameters_(groups_ * 4 * lanes_),
        block_(kBlock * lanes_),
        values_(kBlock * lanes_),
        codes_(kBlock * lanes_),
        inverse_(kBlock * kBlock) {
    std::fill_n(lost_.data(), lost_.size(), 0.0f);
    std::fill_n(parameters_.data(), parameters_.size(), 0.0f);
    const int32_t* const order = factor.order.data();
    for (int64_t r = 0; r < rows; ++r) {
      const float* const from = weights + r * columns_;
      for (int64_t i = 0; i < columns_; ++i) {
        lost_.data()[Place(i) + r * kPanel] = from[order[i]];
      }
    }
    for (int64_t i = 0; i < columns_; ++i) {
      for (int64_t r = 0;
           factor.dead[static_cast<size_t>(order[i])] && r < rows; ++r) {
        lost_.data()[Place(i) + r * kPanel] = 0;
      }
    }
    if (options.group_size == 0 || options.static_groups) {
      const int64_t size =
          options.group_size == 0 ? columns_ : options.group_size;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t g = 0; g < groups_; ++g) {
          const int64_t begin = g * size;
          Keep(g, r,
               ParametersOfGroup(weights + r * columns_ + begin,
                                 std::min(size, columns_ - begin), options));
        }
      }
    }
  }

  void Quantize(const std::vector<int32_t>& groups, const GptqOutput& out) {
    for (int64_t block = 0; block < blocks_; ++block) {
      const int64_t begin = block * kBlock;
      const int64_t end = std::min(begin + kBlock, columns_);
      const int64_t needed = NeededColumns(begin, end);
      Update(block, BlocksOf(needed));
      FindParameters(begin, end);
      QuantizeBlock(begin, end, groups, out);
    }
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t g = 0; g < groups_; ++g) {
        const float* const p = parameters_.data() + g * 4 * lanes_ + r;
        out.scales[r * groups_ + g] = p[0];
        out.zeros[r * groups_ + g] = static_cast<uint8_t>(p[lanes_]);
      }
    }
  }

 private:
  // Of column i's element of the first row.
  int64_t Place(int64_t i) const { return i / kPanel * panel_ + i % kPanel; }

  void Keep(int64_t group, int64_t r, const GroupParameters& p) {
    float* const to = parameters_.data() + group * 4 * lanes_ + r;
    to[0] = p.scale;
    to[lanes_] = p.zero;
    to[2 * lanes_] = p.lowest;
    to[3 * lanes_] = p.highest;
  }

  bool moving() const {
    return options_.group_size != 0 && !options_.static_groups;
  }

  // Where the last group ends that starts in begin..end.
  int64_t NeededColumns(int64_t begin, int64_t end) const {
    const int64_t size = options_.group_size;
    const int64_t last = moving() ? (end - 1) / size * size : 0;
    return moving() && last >= begin
               ? std::max(end, std::min(last + size, columns_))
               : end;
  }

  // The weights of blocks first..end - 1 after those before `first`.
  void Update(int64_t first, int64_t end) {
    const int64_t size = kBlock * lanes_;
    if (updated_.size() < (end - first) * size) {
      updated_ = AlignedArray<float>((end - first) * size);
      owed_ = AlignedArray<float>((end - first) * size);
      sums_ = AlignedArray<float>(size);
    }
    for (int64_t block = first; block < end; ++block) {
      const float* const weights = lost_.data() + block * size;
      float* const updated = updated_.data() + (block - first) * size;
      std::copy_n(weights, size, updated);
      if (first == 0) {
        continue;
      }
      std::fill_n(sums_.data(), size, 0.0f);
      for (int64_t before = 0; before < block; ++before) {
        const float* const lost = before < first
                                      ? lost_.data() + before * size
                                      : owed_.data() + (before - first) * size;
        loops_.fp32.subtract_product(lost, panel_,
                                     factor_.upper.data() + UpperOffset(block) +
                                         before * kBlock * kPanel,
                                     UpperStep(block), kPanelsPerBlock,
                                     sums_.data(), panel_, rows_,
                                     kPanelsPerBlock);
      }
      for (int64_t panel = 0; panel < kPanelsPerBlock; ++panel) {
        loops_.fp32.subtract_product(
            sums_.data(), panel_,
            factor_.inverses.data() + block * kBlock * kBlock +
                panel * kInverseStep,
            kInverseStep, panel + 1, updated + panel * panel_, panel_, rows_,
            1);
      }
      float* const owed = owed_.data() + (block - first) * size;
      for (int64_t i = 0; i < size; ++i) {
        owed[i] = weights[i] - updated[i];
      }
    }
  }

  // Of the groups that start in begin..end.
  void FindParameters(int64_t begin, int64_t end) {
    if (!moving()) {
      return;
    }
    const int64_t size = options_.group_size;
    std::vector<float> group(static_cast<size_t>(std::min(size, columns_)));
    for (int64_t g = (begin + size - 1) / size; g * size < end; ++g) {
      const int64_t first = g * size;
      const int64_t count = std::min(size, columns_ - first);
      for (int64_t r = 0; r < rows_; ++r) {
        for (int64_t i = 0; i < count; ++i) {
          group[static_cast<size_t>(i)] =
              updated_.data()[Place(first + i - begin) + r * kPanel];
        }
        Keep(g, r, ParametersOfGroup(group.data(), count, options_));
      }
    }
  }

  // Columns begin..end, of which lost_ then has what they lost.
  void QuantizeBlock(int64_t begin, int64_t end,
                     const std::vector<int32_t>& groups,
                     const GptqOutput& out) {
    const int64_t count = end - begin;
    const float* parameters[kBlock];
    for (int64_t i = 0; i < count; ++i) {
      const auto column =
          static_cast<size_t>(factor_.order[static_cast<size_t>(begin + i)]);
      parameters[i] = parameters_.data() + groups[column] * 4 * lanes_;
      const float* const from = updated_.data() + Place(i);
      for (int64_t r = 0; r < lanes_; ++r) {
        block_.data()[i * lanes_ + r] = from[r * kPanel];
      }
      for (int64_t panel = 0; panel < kPanelsPerBlock; ++panel) {
        std::copy_n(factor_.inverses.data() + begin * kBlock +
                        panel * kInverseStep + i * kPanel,
                    kPanel, inverse_.data() + i * kBlock + panel * kPanel);
      }
    }
    loops_.round_columns({.columns = count,
                          .rows = lanes_,
                          .weights = block_.data(),
                          .inverse = inverse_.data(),
                          .parameters = parameters,
                          .values = values_.data(),
                          .codes = codes_.data()});
    for (int64_t i = 0; i < count; ++i) {
      float* const lost = lost_.data() + Place(begin + i);
      for (int64_t r = 0; r < rows_; ++r) {
        lost[r * kPanel] -= values_.data()[i * lanes_ + r];
      }
    }
    const int32_t* const order = factor_.order.data() + begin;
    for (int64_t r = 0; r < rows_; ++r) {
      uint8_t* const to = out.codes + r * columns_;
      for (int64_t i = 0; i < count; ++i) {
        to[order[i]] = codes_.data()[i * lanes_ + r];
      }
    }
  }

  const GptqFactor& factor_;
  const GptqOptions& options_;
  const QuantizerLoops& loops_;
  const int64_t columns_;
  const int64_t blocks_;
  const int64_t groups_;  // of a row
  const int64_t rows_;
  const int64_t lanes_;  // rows, and some that are zero
  const int64_t panel_;  // from a panel to the next
  // In the order of rounding: the weights as they came, and of the columns that
  // are done what is lost of these.
  AlignedArray<float> lost_;
  AlignedArray<float> parameters_;  // [groups, 4, lanes], as of ColumnBlock
  // Of the block in hand, and of those after it that its groups reach into.
  AlignedArray<float> updated_;  // weights
  AlignedArray<float> owed_;     // what they differ from those that came
  AlignedArray<float> sums_;
  // Of the block in hand, by columns.
  AlignedArray<float> block_;
  AlignedArray<float> values_;
  AlignedArray<uint8_t> codes_;
  AlignedArray<float> inverse_;  // [kBlock, kBlock], by rows
};

}  // namespace

std::vector<int32_t> GptqGroups(const GptqFactor& factor,
                                const GptqOptions& options) {
  std::vector<int32_t> groups(static_cast<size_t>(factor.columns), 0);
  if (options.group_size > 0) {
    for (size_t i = 0; i < groups.size(); ++i) {
      const auto column = static_cast<size_t>(factor.order[i]);
      const auto place =
          static_cast<int64_t>(options.static_groups ? column : i);
      groups[column] = static_cast<int32_t>(place / options.group_size);
    }
  }
  return groups;
}

void GptqCpu(const float* weights, int64_t rows, const GptqFactor& factor,
             const GptqOptions& options, const GptqOutput& out) {
  const std::vector<int32_t> groups = GptqGroups(factor, options);
  const int64_t columns = factor.columns;
  const int64_t per_row = options.groups_per_row(columns);
  for (int64_t first = 0; first < rows; first += kRowTile) {
    Rows(weights + first * columns, std::min(kRowTile, rows - first), factor,
         options)
        .Quantize(groups, {.codes = out.codes + first * columns,
                           .scales = out.scales + first * per_row,
                           .zeros = out.zeros + first * per_row});
  }
}

}  // namespace qsweep::kernels
