#include "worker/kernels/quantizer_loops.h"

#include <cmath>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/random.h"

namespace qsweep::kernels {
namespace {

// Every test runs on all kinds of CPU that this one can play.
class QuantizerLoopsTest
    : public testing::TestWithParam<const QuantizerLoops*> {
 protected:
  const QuantizerLoops& loops() const { return *GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(Levels, QuantizerLoopsTest,
                         testing::ValuesIn(AvailableQuantizerLoops().begin(),
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
  for (const int64_t rows : {1, 5, 6, 13, 64}) {
    for (const int64_t terms : {1, 9}) {
      constexpr int64_t kPanels = 2;
      const int64_t a_step = (rows + 3) * kPanel;  // not as long as rows are
      const int64_t b_step = terms * kPanel * kPanel;
      const auto a = RandomNumbers<T>(random, terms * a_step);
      const auto b = RandomNumbers<T>(random, kPanels * b_step);
      const auto before = RandomNumbers<T>(random, kPanels * a_step);
      std::vector<T> after = before;
      loops.subtract_product(a.data(), a_step, b.data(), b_step, terms,
                             after.data(), a_step, rows, kPanels);
      std::vector<T> last = before;  // the last row by itself
      loops.subtract_product(a.data() + (rows - 1) * kPanel, a_step, b.data(),
                             b_step, terms, last.data() + (rows - 1) * kPanel,
                             a_step, 1, kPanels);
      for (int64_t j = 0; j < kPanels * kPanel; ++j) {
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

}  // namespace
}  // namespace qsweep::kernels
