#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

#include "tests/worker/kernels/gptq_sample.h"
#include "worker/kernels/gptq.h"

namespace qsweep::kernels {
namespace {

constexpr double kDamp = 0.01;

TEST(FactorForGptq, FactorsTheDampedHessian) {
  const Sample sample;
  constexpr int64_t kN = Sample::kColumns;
  for (const double damp : {kDamp, 0.0001}) {  // in fp32 and in fp64
    GptqFactor factor;
    ASSERT_EQ(FactorForGptq(sample.hessian.data(), kN, damp, true, InSequence,
                            factor),
              GptqFactoring::kDone);
    const auto hessian = [&](int64_t i, int64_t j) {
      const int64_t a = factor.order[static_cast<size_t>(i)];
      const int64_t b = factor.order[static_cast<size_t>(j)];
      const double h = sample.hessian[static_cast<size_t>(a * kN + b)];
      return i == j && h == 0 ? 1 : h;
    };
    double mean = 0;
    for (int64_t i = 0; i < kN; ++i) {
      mean += hessian(i, i) / static_cast<double>(kN);
    }
    for (int64_t i = 0; i < kN; ++i) {
      for (int64_t j = i; j < kN; ++j) {
        double product = 0;  // R R^T
        for (int64_t k = j; k < kN; ++k) {
          product += static_cast<double>(factor.Upper(i, k)) *
                     static_cast<double>(factor.Upper(j, k));
        }
        const double want = hessian(i, j) + (i == j ? damp * mean : 0);
        EXPECT_NEAR(product, want,
                    1e-6 * std::sqrt(hessian(i, i) * hessian(j, j)));
      }
    }
    for (int64_t i = 0; i < kN; ++i) {
      for (int64_t j = i; j < (i / 128 + 1) * 128; ++j) {
        double product = 0;  // R U, of a block
        for (int64_t k = i; k <= j; ++k) {
          product += static_cast<double>(factor.Upper(i, k)) *
                     static_cast<double>(factor.UpperInverse(k, j));
        }
        EXPECT_NEAR(product, i == j ? 1 : 0, 1e-5);
      }
    }
  }
}

// fp32 alone would be off by half.
TEST(FactorForGptq, IsExactEnough_WhereInputsAreFewAndTheDampingSmall) {
  constexpr size_t kN = 128;
  constexpr double kLittle = 1e-6;
  Generator generator;
  std::vector<float> hessian(kN * kN);
  for (int sample = 0; sample < 4; ++sample) {
    std::vector<float> x(kN);
    for (float& value : x) {
      value = static_cast<float>(generator.Next(101) - 50);
    }
    for (size_t i = 0; i < kN * kN; ++i) {
      hessian[i] += x[i / kN] * x[i % kN];
    }
  }
  GptqFactor factor;
  ASSERT_EQ(
      FactorForGptq(hessian.data(), kN, kLittle, false, InSequence, factor),
      GptqFactoring::kDone);
  double mean = 0;
  for (size_t i = 0; i < kN; ++i) {
    mean += static_cast<double>(hessian[i * kN + i]) / kN;
  }
  // U H U^T is the identity.
  for (size_t i = 0; i < kN; ++i) {
    std::vector<double> row(kN);
    for (size_t k = i; k < kN; ++k) {
      for (size_t j = 0; j < kN; ++j) {
        row[j] += static_cast<double>(factor.UpperInverse(
                      static_cast<int64_t>(i), static_cast<int64_t>(k))) *
                  (static_cast<double>(hessian[k * kN + j]) +
                   (k == j ? kLittle * mean : 0));
      }
    }
    for (size_t j = 0; j < kN; ++j) {
      double product = 0;
      for (size_t k = j; k < kN; ++k) {
        product +=
            row[k] * static_cast<double>(factor.UpperInverse(
                         static_cast<int64_t>(j), static_cast<int64_t>(k)));
      }
      EXPECT_NEAR(product, i == j ? 1 : 0, 0.01);
    }
  }
}

TEST(FactorForGptq, RefusesWhatIsSingularOrNotFinite) {
  constexpr int64_t kN = 100;
  std::vector<float> hessian(kN * kN, 1.0f);  // all columns are one
  GptqFactor factor;
  const auto factored = [&](const std::vector<float>& of, double damp) {
    return FactorForGptq(of.data(), kN, damp, false, InSequence, factor);
  };
  EXPECT_EQ(factored(hessian, 0), GptqFactoring::kSingular);
  EXPECT_EQ(factored(hessian, kDamp), GptqFactoring::kDone);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity()}) {
    for (const size_t at : {size_t{0}, size_t{kN * kN - 1}, size_t{kN}}) {
      std::vector<float> damaged = Identity(kN);
      damaged[at] = bad;
      damaged[at / kN + at % kN * kN] = bad;
      EXPECT_EQ(factored(damaged, kDamp), GptqFactoring::kSingular);
      EXPECT_EQ(factored(damaged, 0), GptqFactoring::kSingular);
    }
  }
}

// Items backwards, as threads may finish them.
bool Backwards(int64_t count, const std::function<void(int64_t)>& item) {
  for (int64_t i = count - 1; i >= 0; --i) {
    item(i);
  }
  return true;
}

TEST(FactorForGptq, HasTheSameBits_InWhateverOrderItsPartsAreDone) {
  const Sample sample;
  constexpr int64_t kN = Sample::kColumns;
  GptqFactor one;
  GptqFactor other;
  ASSERT_EQ(
      FactorForGptq(sample.hessian.data(), kN, kDamp, false, InSequence, one),
      GptqFactoring::kDone);
  ASSERT_EQ(
      FactorForGptq(sample.hessian.data(), kN, kDamp, false, Backwards, other),
      GptqFactoring::kDone);
  for (int64_t i = 0; i < kN; ++i) {
    for (int64_t j = i; j < kN; ++j) {
      ASSERT_EQ(one.Upper(i, j), other.Upper(i, j));
    }
  }
}

TEST(FactorForGptq, TakesTheBytesItSays) {
  const Sample sample;
  GptqFactor factor;
  ASSERT_EQ(FactorForGptq(sample.hessian.data(), Sample::kColumns, kDamp, false,
                          InSequence, factor),
            GptqFactoring::kDone);
  EXPECT_EQ((factor.upper.size() + factor.inverses.size()) * 4,
            GptqFactorBytes(Sample::kColumns));
}

TEST(FactorForGptq, Stops_WhenItIsTold) {
  const Sample sample;
  GptqFactor factor;
  for (int steps = 0; steps < 6; ++steps) {
    int left = steps;
    const auto parallel = [&left](int64_t count, const auto& item) {
      return left-- > 0 && InSequence(count, item);
    };
    EXPECT_EQ(FactorForGptq(sample.hessian.data(), Sample::kColumns, kDamp,
                            false, parallel, factor),
              GptqFactoring::kStopped);
  }
}

}  // namespace
}  // namespace qsweep::kernels
