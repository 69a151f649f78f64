#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "worker/kernels/gptq.h"
#include "worker/kernels/loops/rtn.h"

namespace qsweep::kernels {
namespace {

constexpr int64_t kBlock = 128;  // columns between corrections of the whole row
constexpr int kPanel = 64;       // of a factorization
constexpr int64_t kTile = 256;   // columns at a time: the other rows stay in L2
constexpr int64_t kRowTile = 64;         // rows that share a read of U
constexpr double kSmallestPivot = 1e-7;  // of the mean diagonal

// row[j] -= sum over t of factors[t] * matrix[t * stride + j], for j < count,
// which is at most kTile.
template <typename T>
void SubtractRows(const T* factors, int64_t terms, const T* matrix,
                  int64_t stride, int count, T* __restrict row) {
  int t = 0;
  for (; t + 4 <= terms; t += 4) {
    const T* __restrict m0 = matrix + t * stride;
    const T* __restrict m1 = m0 + stride;
    const T* __restrict m2 = m1 + stride;
    const T* __restrict m3 = m2 + stride;
    const T f0 = factors[t];
    const T f1 = factors[t + 1];
    const T f2 = factors[t + 2];
    const T f3 = factors[t + 3];
    for (int j = 0; j < count; ++j) {
      row[j] -= (f0 * m0[j] + f1 * m1[j]) + (f2 * m2[j] + f3 * m3[j]);
    }
  }
  for (; t < terms; ++t) {
    const T* __restrict m = matrix + t * stride;
    const T f = factors[t];
    for (int j = 0; j < count; ++j) {
      row[j] -= f * m[j];
    }
  }
}

// The lower triangle of a, [n, n], becomes L with a = L L^T. False: a pivot is
// not above `smallest`.
bool Cholesky(double* a, int64_t n, double smallest) {
  std::vector<double> panel(static_cast<size_t>(kPanel * n));  // transposed
  for (int64_t first = 0; first < n; first += kPanel) {
    const int64_t end = std::min(first + kPanel, n);
    for (int64_t i = first; i < n; ++i) {
      double* const row = a + i * n;
      for (int64_t j = first; j < std::min(i, end); ++j) {
        const double* const other = a + j * n;
        double sum = row[j];
        for (int64_t t = first; t < j; ++t) {
          sum -= row[t] * other[t];
        }
        row[j] = sum / other[j];
        panel[static_cast<size_t>((j - first) * n + i)] = row[j];
      }
      if (i < end) {
        double pivot = row[i];
        for (int64_t t = first; t < i; ++t) {
          pivot -= row[t] * row[t];
        }
        if (!(pivot > smallest)) {
          return false;
        }
        row[i] = std::sqrt(pivot);
      }
    }
    for (int64_t tile = end; tile < n; tile += kTile) {
      for (int64_t i = tile; i < n; ++i) {
        const int count =
            static_cast<int>(std::min(tile + kTile, i + 1) - tile);
        SubtractRows(a + i * n + first, static_cast<int>(end - first),
                     panel.data() + tile, n, count, a + i * n + tile);
      }
    }
  }
  return true;
}

// The lower triangle of a, [n, n], becomes that of its inverse; what is above
// the diagonal becomes zero.
void InvertLower(double* a, int64_t n) {
  std::vector<double> rows(static_cast<size_t>(kPanel * n));  // of L
  for (int64_t first = 0; first < n; first += kPanel) {
    const int64_t end = std::min(first + kPanel, n);
    for (int64_t i = first; i < end; ++i) {
      double* const row = a + i * n;
      std::copy_n(row, i + 1, rows.data() + (i - first) * n);
      std::fill_n(row, n, 0.0);
      row[i] = 1;
    }
    for (int64_t tile = 0; tile < end; tile += kTile) {
      const int64_t tile_end = std::min(tile + kTile, end);
      // Rows before this panel are done; each ends at its own panel's end.
      for (int64_t t = tile; t < first; t += kPanel) {
        for (int64_t i = first; i < end; ++i) {
          SubtractRows(rows.data() + (i - first) * n + t, kPanel,
                       a + t * n + tile, n,
                       static_cast<int>(std::min(tile_end, t + kPanel) - tile),
                       a + i * n + tile);
        }
      }
      for (int64_t i = first; i < end; ++i) {
        const double* const factors = rows.data() + (i - first) * n;
        SubtractRows(factors + first, static_cast<int>(i - first),
                     a + first * n + tile, n, static_cast<int>(tile_end - tile),
                     a + i * n + tile);
        for (int64_t j = tile; j < tile_end; ++j) {
          a[i * n + j] /= factors[i];
        }
      }
    }
  }
}

RtnOptions GridOf(const GptqOptions& options) {
  return {.bits = options.bits,
          .grid = options.symmetric ? RtnGrid::kGptqSymmetric
                                    : RtnGrid::kGptqAsymmetric,
          .half_scale = options.half_scale};
}

GroupParameters ParametersOfGroup(const float* weights, int64_t count,
                                  const GptqOptions& options) {
  GroupParameters p =
      ParametersOf<Fp32>(FindMinMax<Fp32>(weights, count), GridOf(options));
  if (!std::isfinite(
          p.scale)) {  // weights that overflowed: the zero is no number
    p = WithZero(p.scale, 0, static_cast<float>((1 << options.bits) - 1));
  }
  return p;
}

// The integer that stands for a weight, in lowest..highest. A scale of zero
// comes of denormal weights alone; a weight that overflowed becomes a bound.
float IntegerOf(float weight, const GroupParameters& p) {
  if (p.scale == 0) {
    return 0;
  }
  const float x = weight / p.scale;
  const float above = x > p.lowest ? x : p.lowest;
  return RoundToInteger(above < p.highest ? above : p.highest);
}

// Some rows of a matrix on their way through the columns.
class Rows {
 public:
  // weights: [rows, columns] in their own order; rows at most kRowTile.
  Rows(const float* weights, int64_t rows, const GptqInverse& inverse,
       const GptqOptions& options)
      : inverse_(inverse),
        options_(options),
        columns_(inverse.columns),
        groups_(options.groups_per_row(inverse.columns)),
        rows_(rows),
        work_(static_cast<size_t>(rows * inverse.columns)),
        parameters_(static_cast<size_t>(rows * groups_)) {
    for (int64_t r = 0; r < rows; ++r) {
      const float* const from = weights + r * columns_;
      for (int64_t i = 0; i < columns_; ++i) {
        const auto column =
            static_cast<size_t>(inverse.order[static_cast<size_t>(i)]);
        work_[static_cast<size_t>(r * columns_ + i)] =
            inverse.dead[column] ? 0.0f : from[column];
      }
      if (options.group_size == 0 || options.static_groups) {
        const int64_t size =
            options.group_size == 0 ? columns_ : options.group_size;
        for (int64_t g = 0; g < groups_; ++g) {
          const int64_t begin = g * size;
          parameters_[static_cast<size_t>(r * groups_ + g)] = ParametersOfGroup(
              from + begin, std::min(size, columns_ - begin), options);
        }
      }
    }
  }

  void Quantize(const std::vector<int32_t>& groups, const GptqOutput& out) {
    std::vector<float> errors(static_cast<size_t>(rows_ * kBlock));
    for (int64_t begin = 0; begin < columns_; begin += kBlock) {
      const int64_t end = std::min(begin + kBlock, columns_);
      for (int64_t r = 0; r < rows_; ++r) {
        QuantizeBlock(r, begin, end, groups, errors.data() + r * kBlock, out);
      }
      for (int64_t tile = end; tile < columns_; tile += kTile) {
        const int count = static_cast<int>(std::min(kTile, columns_ - tile));
        for (int64_t r = 0; r < rows_; ++r) {
          SubtractRows(errors.data() + r * kBlock,
                       static_cast<int>(end - begin),
                       inverse_.upper.data() + begin * columns_ + tile,
                       columns_, count, work_.data() + r * columns_ + tile);
        }
      }
    }
    for (size_t i = 0; i < parameters_.size(); ++i) {
      out.scales[i] = parameters_[i].scale;
      out.zeros[i] = static_cast<uint8_t>(parameters_[i].zero);
    }
  }

 private:
  // Columns begin..end of row r; errors: what each lost, over U's diagonal.
  void QuantizeBlock(int64_t r, int64_t begin, int64_t end,
                     const std::vector<int32_t>& groups, float* errors,
                     const GptqOutput& out) {
    const bool moving = options_.group_size != 0 && !options_.static_groups;
    const float* const row = work_.data() + r * columns_;
    float current[kBlock];
    std::copy(row + begin, row + end, current);
    for (int64_t i = begin; i < end; ++i) {
      const int32_t column = inverse_.order[static_cast<size_t>(i)];
      GroupParameters& p = parameters_[static_cast<size_t>(
          r * groups_ + groups[static_cast<size_t>(column)])];
      if (moving && i % options_.group_size == 0) {
        p = ParametersOfGroup(
            row + i, std::min(options_.group_size, columns_ - i), options_);
      }
      const float* const u = inverse_.upper.data() + i * columns_;
      const float weight = current[i - begin];
      const float integer = IntegerOf(weight, p);
      const float error = (weight - integer * p.scale) / u[i];
      errors[i - begin] = error;
      out.codes[r * columns_ + column] = static_cast<uint8_t>(integer + p.zero);
      for (int64_t j = i + 1; j < end; ++j) {
        current[j - begin] -= error * u[j];
      }
    }
  }

  const GptqInverse& inverse_;
  const GptqOptions& options_;
  const int64_t columns_;
  const int64_t groups_;  // of a row
  const int64_t rows_;
  std::vector<float> work_;                  // in the order of rounding
  std::vector<GroupParameters> parameters_;  // [rows, groups]
};

}  // namespace

bool InvertForGptq(const float* hessian, int64_t columns, double damp,
                   bool act_order, GptqInverse& inverse) {
  const int64_t n = columns;
  const auto size = static_cast<size_t>(n);
  std::vector<double> diagonal(size);
  inverse.columns = n;
  inverse.dead.assign(size, false);
  double mean = 0;
  for (size_t i = 0; i < size; ++i) {
    diagonal[i] = hessian[i * size + i];
    inverse.dead[i] = diagonal[i] == 0;
    diagonal[i] = inverse.dead[i] ? 1 : diagonal[i];
    mean += diagonal[i] / static_cast<double>(n);
  }
  inverse.order.resize(size);
  std::iota(inverse.order.begin(), inverse.order.end(), 0);
  if (act_order) {
    std::ranges::stable_sort(inverse.order, [&](int32_t a, int32_t b) {
      return diagonal[static_cast<size_t>(a)] >
             diagonal[static_cast<size_t>(b)];
    });
  }
  // With the columns reversed, H = L L^T; turned back, H = R R^T with R upper
  // triangular, so that U = R^-1: the inverse itself is not needed.
  std::vector<double> a(size * size);
  const auto column = [&](int64_t i) {
    return static_cast<int64_t>(inverse.order[static_cast<size_t>(n - 1 - i)]);
  };
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < i; ++j) {
      a[static_cast<size_t>(i * n + j)] = hessian[column(i) * n + column(j)];
    }
    a[static_cast<size_t>(i * n + i)] =
        diagonal[static_cast<size_t>(column(i))] + damp * mean;
  }
  if (!Cholesky(a.data(), n, kSmallestPivot * mean)) {
    return false;
  }
  InvertLower(a.data(), n);
  inverse.upper.assign(size * size, 0);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) {
      const auto value = static_cast<float>(
          a[static_cast<size_t>((n - 1 - i) * n + (n - 1 - j))]);
      if (!std::isfinite(value)) {
        return false;
      }
      inverse.upper[static_cast<size_t>(i * n + j)] = value;
    }
  }
  return true;
}

std::vector<int32_t> GptqGroups(const GptqInverse& inverse,
                                const GptqOptions& options) {
  std::vector<int32_t> groups(static_cast<size_t>(inverse.columns), 0);
  if (options.group_size > 0) {
    for (size_t i = 0; i < groups.size(); ++i) {
      const auto column = static_cast<size_t>(inverse.order[i]);
      const auto place =
          static_cast<int64_t>(options.static_groups ? column : i);
      groups[column] = static_cast<int32_t>(place / options.group_size);
    }
  }
  return groups;
}

void GptqCpu(const float* weights, int64_t rows, const GptqInverse& inverse,
             const GptqOptions& options, const GptqOutput& out) {
  const std::vector<int32_t> groups = GptqGroups(inverse, options);
  const int64_t columns = inverse.columns;
  const int64_t per_row = options.groups_per_row(columns);
  for (int64_t first = 0; first < rows; first += kRowTile) {
    Rows(weights + first * columns, std::min(kRowTile, rows - first), inverse,
         options)
        .Quantize(groups, {.codes = out.codes + first * columns,
                           .scales = out.scales + first * per_row,
                           .zeros = out.zeros + first * per_row});
  }
}

}  // namespace qsweep::kernels
