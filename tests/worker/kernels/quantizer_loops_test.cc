#include "worker/kernels/quantizer_loops.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/random.h"
#include "tests/support/kernel_references.h"
#include "worker/kernels/nf4.h"
#include "worker/kernels/rtn.h"

namespace qsweep::kernels {
namespace {

// Every test runs on all kinds of CPU that this one can play.
class QuantizerLoopsTest
    : public ::testing::TestWithParam<const QuantizerLoops*> {
 protected:
  const QuantizerLoops& loops() const { return *GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(Levels, QuantizerLoopsTest,
                         ::testing::ValuesIn(AvailableQuantizerLoops().begin(),
                                             AvailableQuantizerLoops().end()),
                         [](const auto& level) {
                           return std::string(level.param->name);
                         });

size_t Index(int64_t i) { return static_cast<size_t>(i); }

template <typename T>
std::vector<T> RandomNumbers(Random& random, int64_t n) {
  std::vector<T> values(Index(n));
  for (T& value : values) {
    value = static_cast<T>(random.Uniform() - 0.5);
  }
  return values;
}

// Of a matrix in panels.
template <typename T>
double At(const std::vector<T>& panels, int64_t step, int64_t i, int64_t j) {
  return static_cast<double>(
      panels[Index(j / kPanel * step + i * kPanel + j % kPanel)]);
}

template <typename T>
void CheckProducts(const PanelLoops<T>& loops, double tolerance) {
  Random random(1);
  int64_t panels = 0;
  for (const int64_t rows : {1, 5, 6, 13, 64}) {
    for (const int64_t terms : {1, 9}) {
      panels = panels % 3 + 1;
      const int64_t a_step = (rows + 3) * kPanel;  // not as long as rows are
      const int64_t b_step = terms * kPanel * kPanel;
      const auto a = RandomNumbers<T>(random, terms * a_step);
      const auto b = RandomNumbers<T>(random, panels * b_step);
      const auto before = RandomNumbers<T>(random, panels * a_step);
      std::vector<T> after = before;
      loops.subtract_product(a.data(), a_step, b.data(), b_step, terms,
                             after.data(), a_step, rows, panels);
      std::vector<T> last = before;  // the last row by itself
      loops.subtract_product(a.data() + (rows - 1) * kPanel, a_step, b.data(),
                             b_step, terms, last.data() + (rows - 1) * kPanel,
                             a_step, 1, panels);
      for (int64_t j = 0; j < panels * kPanel; ++j) {
        for (int64_t i = 0; i < rows; ++i) {
          double want = At(before, a_step, i, j);
          for (int64_t k = 0; k < terms * kPanel; ++k) {
            want -= At(a, a_step, i, k) * At(b, b_step, k, j);
          }
          EXPECT_NEAR(At(after, a_step, i, j), want, tolerance);
        }
        EXPECT_EQ(At(after, a_step, rows - 1, j),
                  At(last, a_step, rows - 1, j));
        EXPECT_EQ(At(after, a_step, rows, j), At(before, a_step, rows, j));
      }
    }
  }
}

TEST_P(QuantizerLoopsTest, SubtractsProducts_EachRowByItself) {
  CheckProducts(loops().fp32, 1e-5);
  CheckProducts(loops().fp64, 1e-13);
}

template <typename T>
void CheckFactor(const PanelLoops<T>& loops, double tolerance) {
  Random random(2);
  std::vector<T> block(kBlock * kBlock);
  for (int64_t i = 0; i < kBlock; ++i) {
    for (int64_t j = i; j < kBlock; ++j) {
      const double close = std::exp(-0.1 * static_cast<double>(j - i));
      block[Index(i * kBlock + j)] =
          static_cast<T>(close + (i == j ? 0.1 * random.Uniform() : 0));
    }
  }
  const std::vector<T> before = block;
  std::vector<T> inverse(block.size());
  ASSERT_TRUE(loops.factor_block(block.data(), T{0}, inverse.data()));
  const auto at = [](const std::vector<T>& matrix, int64_t i, int64_t j) {
    return static_cast<double>(matrix[Index(i * kBlock + j)]);
  };
  for (int64_t i = 0; i < kBlock; ++i) {
    for (int64_t j = 0; j < kBlock; ++j) {
      double square = 0;
      double identity = 0;
      for (int64_t k = 0; k < kBlock; ++k) {
        square += at(block, i, k) * at(block, j, k);
        identity += at(block, i, k) * at(inverse, k, j);
      }
      EXPECT_NEAR(square, at(before, std::min(i, j), std::max(i, j)),
                  tolerance);
      EXPECT_NEAR(identity, i == j ? 1 : 0, tolerance);
      if (j < i) {
        EXPECT_EQ(at(block, i, j), 0);
        EXPECT_EQ(at(inverse, i, j), 0);
      }
    }
  }
  std::vector<T> negative = before;
  negative[kBlock + 1] = -1;
  EXPECT_FALSE(loops.factor_block(negative.data(), T{0}, inverse.data()));
}

TEST_P(QuantizerLoopsTest, FactorsABlock) {
  CheckFactor(loops().fp32, 2e-5);
  CheckFactor(loops().fp64, 1e-13);
}

// What the definition of a device's sums rests on (docs/kernels.md).
template <typename T>
void CheckFusedBits(PanelLoops<T> QuantizerLoops::*part) {
  constexpr int64_t kPanels = 5;
  constexpr int64_t kTerms = 9;
  Random random(8);
  for (const int64_t rows : {1, 11, 12, 29, 64}) {
    const int64_t step = rows * kPanel;
    const int64_t b_step = kTerms * kPanel * kPanel;
    const auto a = RandomNumbers<T>(random, kTerms * step);
    const auto b = RandomNumbers<T>(random, kPanels * b_step);
    const auto before = RandomNumbers<T>(random, kPanels * step);
    std::vector<T> first;
    std::vector<T> square(kBlock * kBlock);  // a matrix of the kind it is for
    for (int64_t i = 0; i < kBlock * kBlock; ++i) {
      const auto away = static_cast<double>(i / kBlock - i % kBlock);
      square[Index(i)] = static_cast<T>(std::exp(-0.1 * std::fabs(away)) +
                                        (away == 0 ? random.Uniform() : 0));
    }
    std::vector<T> first_root;
    std::vector<T> first_inverse;
    for (const QuantizerLoops* const loops : AvailableQuantizerLoops()) {
      if (!loops->fused) {
        continue;
      }
      SCOPED_TRACE(loops->name);
      std::vector<T> c = before;
      (loops->*part)
          .subtract_product(a.data(), step, b.data(), b_step, kTerms, c.data(),
                            step, rows, kPanels);
      std::vector<T> root = square;
      std::vector<T> inverse(root.size());
      ASSERT_TRUE(
          (loops->*part).factor_block(root.data(), T{0}, inverse.data()));
      if (first.empty()) {
        first = c;
        first_root = root;
        first_inverse = inverse;
      }
      EXPECT_EQ(c, first);
      EXPECT_EQ(root, first_root);
      EXPECT_EQ(inverse, first_inverse);
    }
  }
}

TEST(QuantizerLoops, HaveTheSameBits_WhereverTheyAreFused) {
  CheckFusedBits(&QuantizerLoops::fp32);
  CheckFusedBits(&QuantizerLoops::fp64);
}

// One operation after another.
TEST_P(QuantizerLoopsTest, RoundsColumns_ToTheBitsOfTheDefinition) {
  Random random(3);
  constexpr int64_t kColumns = 37;
  for (const int64_t rows : {8, 40}) {
    auto weights = RandomNumbers<float>(random, kColumns * rows);
    auto inverse = RandomNumbers<float>(random, kColumns * kBlock);
    std::vector<float> parameters;
    for (int64_t r = 0; r < rows; ++r) {  // row 3 has a scale of zero
      parameters.push_back(
          r == 3 ? 0.0f : static_cast<float>(0.05 + 0.1 * random.Uniform()));
    }
    parameters.insert(parameters.end(), Index(rows), 5.0f);
    parameters.insert(parameters.end(), Index(rows), -5.0f);
    parameters.insert(parameters.end(), Index(rows), 10.0f);
    const std::vector<const float*> of_column(kColumns, parameters.data());
    std::vector<float> want_values;
    std::vector<uint8_t> want_codes;
    auto current = weights;
    for (int64_t i = 0; i < kColumns; ++i) {
      for (int64_t r = 0; r < rows; ++r) {
        const float scale = parameters[Index(r)];
        const float weight = current[Index(i * rows + r)];
        const float integer =
            scale == 0
                ? 0
                : std::clamp(std::nearbyint(weight / scale), -5.0f, 10.0f);
        want_values.push_back(integer * scale);
        want_codes.push_back(static_cast<uint8_t>(integer + 5));
        volatile const float error =
            (weight - integer * scale) / inverse[Index(i * kBlock + i)];
        for (int64_t j = i + 1; j < kColumns; ++j) {
          volatile const float owed = error * inverse[Index(i * kBlock + j)];
          current[Index(j * rows + r)] -= owed;
        }
      }
    }
    std::vector<float> values(weights.size());
    std::vector<uint8_t> codes(weights.size());
    loops().round_columns({.columns = kColumns,
                           .rows = rows,
                           .weights = weights.data(),
                           .inverse = inverse.data(),
                           .parameters = of_column.data(),
                           .values = values.data(),
                           .codes = codes.data()});
    EXPECT_EQ(codes, want_codes);
    EXPECT_EQ(values, want_values);
  }
}

constexpr int64_t kRows = 50;
constexpr int64_t kCols = 1003;
// Of which each output is on its own way to memory.
constexpr int64_t kLarge = int64_t{4} << 20;

// Some groups are zero, all of one sign, denormal, or have an outlier.
std::vector<float> RandomWeights(Random& random, int64_t count) {
  std::vector<float> weights(Index(count));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t kind = i / 160 % 13;
    const double size = kind == 4 ? 1e-41 : i % 97 == 3 ? 1 : 0.02;
    const double weight = size * (random.Uniform() - (kind == 2 ? 0 : 0.5));
    weights[Index(i)] = kind == 0 ? 0 : static_cast<float>(weight);
  }
  return weights;
}

// Compares bits; 0 and -0 differ.
int64_t Mismatches(const std::vector<float>& got,
                   const std::vector<double>& want) {
  int64_t mismatches = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    mismatches += std::bit_cast<uint32_t>(got[i]) ==
                          std::bit_cast<uint32_t>(static_cast<float>(want[i]))
                      ? 0
                      : 1;
  }
  return mismatches;
}

TEST_P(QuantizerLoopsTest, RoundsToNearest_AsPlainLoopsOverDoublesDo) {
  Random random(4);
  const std::vector<float> weights = RandomWeights(random, kRows * kCols);
  const std::vector<double> numbers(weights.begin(), weights.end());
  int turn = 0;
  for (const RtnGrid grid :
       {RtnGrid::kAbsmax, RtnGrid::kGptqSymmetric, RtnGrid::kGptqAsymmetric,
        RtnGrid::kAwqSymmetric, RtnGrid::kAwqAsymmetric}) {
    for (const int64_t group : {1, 5, 32, 64, 128, 1003, 50150}) {
      for (const bool half : {false, true}) {
        const RtnShape shape =
            group > kCols
                ? RtnShape{1, kRows * kCols, group}
                : RtnShape{kRows, kCols, group, turn % 3 == 1 ? group / 2 : 0};
        const RtnOptions options{.bits = 2 + ++turn % 7,
                                 .grid = grid,
                                 .half_arithmetic = half,
                                 .half_scale = turn % 3 == 0};
        SCOPED_TRACE(turn);
        const ::qsweep::testing::RtnReference want =
            ::qsweep::testing::RtnByLoops(numbers, shape, options);
        std::vector<float> values(weights.size());
        std::vector<float> scales(want.scales.size());
        std::vector<int16_t> codes(weights.size());
        (half ? loops().rtn_half : loops().rtn)(weights.data(), shape, options,
                                                values.data(), scales.data(),
                                                codes.data());
        EXPECT_EQ(Mismatches(values, want.values), 0);
        EXPECT_EQ(codes, want.codes);
        EXPECT_EQ(std::vector<double>(scales.begin(), scales.end()),
                  want.scales);
      }
    }
  }
}

std::vector<double> Nf4ByLoops(const std::vector<float>& weights, int64_t group,
                               std::vector<uint8_t>& codes) {
  std::vector<double> values;
  codes.clear();
  for (size_t first = 0; first < weights.size(); first += Index(group)) {
    const size_t end = std::min(first + Index(group), weights.size());
    float absmax = 0;
    for (size_t i = first; i < end; ++i) {
      absmax = std::max(absmax, std::fabs(weights[i]));
    }
    const float inverse = 1 / absmax;
    for (size_t i = first; i < end; ++i) {
      const float x = weights[i] * inverse;
      uint8_t code = 0;
      while (code + 1 < kNf4Codes && x > Nf4Threshold(code)) {
        ++code;
      }
      codes.push_back(code);
      values.push_back(kNf4Levels[code] * absmax);
    }
  }
  return values;
}

TEST_P(QuantizerLoopsTest, FindsNf4Codes_AsAPlainLoopDoes) {
  Random random(5);
  std::vector<float> weights = RandomWeights(random, kRows * kCols);
  for (int q = 0; q + 1 < kNf4Codes; ++q) {  // boundaries, and what is behind
    const float boundary = Nf4Threshold(q);
    const size_t first = 640 + 64 * static_cast<size_t>(q);
    std::fill_n(weights.begin() + static_cast<int64_t>(first), 64, boundary);
    weights[first] = 1;
    for (size_t i = 1; i < 32; ++i) {
      weights[first + i] = std::nextafter(boundary, i % 2 == 0 ? -2.0f : 2.0f);
    }
  }
  for (const int64_t group : {1, 5, 64, 100, 4096}) {
    SCOPED_TRACE(group);
    std::vector<uint8_t> want_codes;
    const std::vector<double> want = Nf4ByLoops(weights, group, want_codes);
    std::vector<float> values(weights.size());
    std::vector<uint8_t> codes(weights.size());
    loops().nf4(weights.data(), kRows * kCols, group, nullptr, values.data(),
                nullptr, codes.data());
    EXPECT_EQ(Mismatches(values, want), 0);
    EXPECT_EQ(codes, want_codes);
  }
}

TEST_P(QuantizerLoopsTest, WritesTheSame_PastTheCachesAndInPlace) {
  Random random(6);
  const std::vector<float> weights = RandomWeights(random, kLarge);
  std::vector<float> apart(weights.size());
  std::vector<float> inside;
  for (const int64_t offset : {0, 32, 33}) {
    const RtnShape shape{kLarge / 4096, 4096, 68, offset};
    inside = weights;
    loops().rtn(weights.data(), shape, {}, apart.data(), nullptr, nullptr);
    loops().rtn(inside.data(), shape, {}, inside.data(), nullptr, nullptr);
    EXPECT_EQ(apart, inside);
  }
  inside = weights;
  loops().nf4(weights.data(), kLarge, 68, nullptr, apart.data(), nullptr,
              nullptr);
  loops().nf4(inside.data(), kLarge, 68, nullptr, inside.data(), nullptr,
              nullptr);
  EXPECT_EQ(apart, inside);
}

}  // namespace
}  // namespace qsweep::kernels
