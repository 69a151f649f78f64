#include "worker/kernels/gptq.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/worker/kernels/gptq_sample.h"
#include "worker/kernels/coded_tensor.h"
#include "worker/kernels/rtn.h"

namespace qsweep::kernels {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

constexpr double kDamp = 0.01;

CodedTensor Quantize(const std::vector<float>& weights, int64_t rows,
                     const std::vector<float>& hessian,
                     const GptqOptions& options, bool act_order = false,
                     double damp = kDamp) {
  CodedTensor coded;
  coded.rows = rows;
  coded.columns = static_cast<int64_t>(weights.size()) / rows;
  coded.bits = options.bits;
  coded.groups = options.groups_per_row(coded.columns);
  GptqFactor factor;
  EXPECT_EQ(FactorForGptq(hessian.data(), coded.columns, damp, act_order,
                          InSequence, factor),
            GptqFactoring::kDone);
  coded.group_of_column = GptqGroups(factor, options);
  coded.codes.resize(weights.size());
  coded.scales.resize(static_cast<size_t>(rows * coded.groups));
  coded.zeros.resize(coded.scales.size());
  GptqCpu(weights.data(), rows, factor, options,
          {.codes = coded.codes.data(),
           .scales = coded.scales.data(),
           .zeros = coded.zeros.data()});
  return coded;
}

std::vector<float> ValuesOf(const CodedTensor& coded) {
  std::vector<float> values(coded.codes.size());
  coded.Decode(values);
  return values;
}

TEST(Gptq, GivesTheWorkedCodes_WhereTheHessianIsTheIdentity) {
  const auto codes = [](const std::vector<float>& weights, bool symmetric) {
    const std::vector<float> hessian =
        Identity(static_cast<int64_t>(weights.size()));
    return Quantize(weights, 1, hessian,
                    {.group_size = 0, .symmetric = symmetric})
        .codes;
  };
  const std::vector<float> ten = {-3.5f, -2.75f, -1.25f, -.25f, 0,
                                  .25f,  .75f,   1.25f,  1.75f, 3.5f};
  EXPECT_THAT(codes(ten, true), ElementsAre(0, 2, 5, 7, 8, 9, 10, 11, 12, 15));
  EXPECT_THAT(codes(ten, false), ElementsAre(0, 2, 5, 7, 8, 9, 10, 11, 12, 15));
  EXPECT_THAT(codes({.5f, 1, 1.5f, 3.5f}, true), ElementsAre(10, 12, 14, 15));
  EXPECT_THAT(codes({1, 2, 3, 4}, false), ElementsAre(4, 7, 11, 15));
}

TEST(Gptq, IsRoundingToNearest_WhereTheHessianIsTheIdentity) {
  const Sample sample;
  for (const int bits : {2, 3, 4, 8}) {
    for (const int64_t group : {0, 32, 100}) {
      for (const bool symmetric : {true, false}) {
        SCOPED_TRACE(bits);
        const CodedTensor coded = Quantize(
            sample.weights, Sample::kRows, Identity(Sample::kColumns),
            {.bits = bits, .group_size = group, .symmetric = symmetric});
        std::vector<float> want(sample.weights.size());
        RtnCpu(sample.weights.data(),
               {.rows = Sample::kRows,
                .cols = Sample::kColumns,
                .group_size = group == 0 ? Sample::kColumns : group},
               {.bits = bits,
                .grid = symmetric ? RtnGrid::kGptqSymmetric
                                  : RtnGrid::kGptqAsymmetric},
               want.data(), nullptr, nullptr);
        EXPECT_EQ(ValuesOf(coded), want);
      }
    }
  }
}

// tests/golden/gptq.txt: the algorithm of the paper in fp64, by other means.
TEST(Gptq, EqualsTheAlgorithmOfThePaper_InEveryMode) {
  const Sample sample;
  std::ifstream file(QSWEEP_SOURCE_DIR "/tests/golden/gptq.txt");
  std::string line;
  int modes = 0;
  while (std::getline(file, line)) {
    GptqOptions options;
    bool act_order = false;
    double error = 0;
    std::string codes;
    std::istringstream in(line);
    in >> options.bits >> options.group_size >> options.symmetric >>
        act_order >> options.static_groups >> error >> codes;
    SCOPED_TRACE(line.substr(0, 12));
    const CodedTensor coded = Quantize(sample.weights, Sample::kRows,
                                       sample.hessian, options, act_order);
    ASSERT_EQ(codes.size(), coded.codes.size());
    int64_t different = 0;
    for (size_t i = 0; i < codes.size(); ++i) {
      different +=
          std::stoi(codes.substr(i, 1), nullptr, 16) == coded.codes[i] ? 0 : 1;
    }
    EXPECT_LE(different, 16) << "of 16384";
    EXPECT_NEAR(sample.ErrorOf(ValuesOf(coded)), error, 0.01 * error);
    ++modes;
  }
  EXPECT_EQ(modes, 6);
}

TEST(Gptq, LosesLessOfTheOutputs_ThanRoundingToNearest) {
  const Sample sample;
  for (const int bits : {2, 3, 4}) {
    const GptqOptions options{.bits = bits, .group_size = 64};
    const double own = sample.ErrorOf(ValuesOf(
        Quantize(sample.weights, Sample::kRows, sample.hessian, options)));
    const double nearest = sample.ErrorOf(ValuesOf(Quantize(
        sample.weights, Sample::kRows, Identity(Sample::kColumns), options)));
    EXPECT_LT(own, 0.7 * nearest);
  }
}

TEST(Gptq, DoesNotDependOnTheHessiansScale) {
  Sample sample;
  for (const size_t dead :
       {5, 77}) {  // 1 is put in their place, whatever it is
    sample.hessian[dead * Sample::kColumns + dead] = 7;
  }
  std::vector<float> scaled = sample.hessian;
  for (float& value : scaled) {
    value *= 0.0625f;
  }
  EXPECT_EQ(Quantize(sample.weights, Sample::kRows, scaled, {}),
            Quantize(sample.weights, Sample::kRows, sample.hessian, {}));
}

TEST(Gptq, QuantizesRowsByThemselves) {
  const Sample sample;
  const CodedTensor whole =
      Quantize(sample.weights, Sample::kRows, sample.hessian, {});
  const std::vector<float> one(sample.weights.begin() + 7 * Sample::kColumns,
                               sample.weights.begin() + 8 * Sample::kColumns);
  const CodedTensor row = Quantize(one, 1, sample.hessian, {});
  EXPECT_TRUE(std::equal(row.codes.begin(), row.codes.end(),
                         whole.codes.begin() + 7 * Sample::kColumns));
}

TEST(Gptq, ZeroesDeadColumns) {
  const Sample sample;
  const std::vector<float> values =
      ValuesOf(Quantize(sample.weights, Sample::kRows, sample.hessian, {}));
  EXPECT_NE(values[37], 0);  // an outlier's column
  for (size_t r = 0; r < Sample::kRows; ++r) {
    EXPECT_EQ(values[r * Sample::kColumns + 5], 0);
    EXPECT_EQ(values[r * Sample::kColumns + 77], 0);
  }
}

TEST(Gptq, OrdersColumnsByTheirDiagonal_LeftOnesFirst) {
  std::vector<float> hessian = Identity(4);
  hessian[5] = 3;
  hessian[15] = 3;
  GptqFactor factor;
  ASSERT_EQ(FactorForGptq(hessian.data(), 4, kDamp, true, InSequence, factor),
            GptqFactoring::kDone);
  EXPECT_THAT(factor.order, ElementsAre(1, 3, 0, 2));
  EXPECT_THAT(GptqGroups(factor, {.group_size = 2}), ElementsAre(1, 0, 1, 0));
  EXPECT_THAT(GptqGroups(factor, {.group_size = 2, .static_groups = true}),
              ElementsAre(0, 0, 1, 1));
}

TEST(Gptq, IsZero_WhereWeightsOrInputsAre) {
  const std::vector<float> hessian = Identity(32);
  EXPECT_THAT(ValuesOf(Quantize(std::vector<float>(64, 0.0f), 2, hessian, {})),
              Each(0));
  const std::vector<float> weights(64, 0.3f);
  const std::vector<float> none(32 * 32, 0.0f);
  EXPECT_THAT(ValuesOf(Quantize(weights, 2, none, {})), Each(0));
}

TEST(Gptq, KeepsCodesInRange_WhateverTheWeights) {
  const Sample sample;
  for (const float size : {1e-45f, 1e-30f, 1e30f, 1e38f}) {
    std::vector<float> weights = sample.weights;
    for (float& weight : weights) {
      weight *= size;
    }
    for (const bool symmetric : {true, false}) {
      const CodedTensor coded =
          Quantize(weights, Sample::kRows, sample.hessian,
                   {.bits = 3, .group_size = 64, .symmetric = symmetric});
      EXPECT_LE(*std::ranges::max_element(coded.codes), 7);
    }
  }
}

}  // namespace
}  // namespace qsweep::kernels
