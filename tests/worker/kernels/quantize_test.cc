#include "worker/kernels/quantize.h"

#include <bit>
#include <cmath>
#include <fstream>
#include <limits>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "common/base/random.h"
#include "tests/support/error_matchers.h"
#include "worker/kernels/rtn.h"
#include "worker/kernels/scheme_options.h"

namespace qsweep::kernels {
namespace {

using qsweep::testing::CodeOf;
using qsweep::testing::FieldOf;
using qsweep::testing::HintOf;

constexpr int64_t kRows = 2;
constexpr int64_t kCols = 14;

std::vector<uint32_t> ReadBits(std::istream& in) {
  std::vector<uint32_t> bits;
  uint32_t value = 0;
  while (in >> std::hex >> value) {
    bits.push_back(value);
  }
  return bits;
}

// "grid sym bits gran group arith scale" of tests/golden/make_rtn.py.
Scheme ReadScheme(std::istream& in) {
  std::string grid, granularity, arithmetic, scale;
  Scheme scheme;
  int symmetric = 0;
  in >> grid >> symmetric >> scheme.bits >> granularity >> scheme.group >>
      arithmetic >> scale;
  scheme.symmetric = symmetric == 1;
  scheme.grid = grid == "absmax" ? Grid::kAbsmax
                : grid == "gptq" ? Grid::kGptq
                                 : Grid::kAwq;
  scheme.granularity = granularity == "tensor"    ? Granularity::kTensor
                       : granularity == "channel" ? Granularity::kChannel
                                                  : Granularity::kGroup;
  scheme.arithmetic =
      arithmetic == "fp16" ? Arithmetic::kFp16 : Arithmetic::kFp32;
  scheme.scale = scale == "fp16" ? ScaleStorage::kFp16 : ScaleStorage::kFp32;
  return scheme;
}

TEST(FakeQuantize, EqualsNumpyToTheLastBit_InEveryMode) {
  std::ifstream file(QSWEEP_SOURCE_DIR "/tests/golden/rtn.txt");
  std::string line;
  ASSERT_TRUE(std::getline(file, line));
  std::istringstream first(line);
  std::string word;
  first >> word;
  ASSERT_EQ(word, "weights");
  std::vector<float> weights;
  for (const uint32_t bits : ReadBits(first)) {
    weights.push_back(std::bit_cast<float>(bits));
  }
  ASSERT_EQ(weights.size(), static_cast<size_t>(kRows * kCols));
  int num_modes = 0;
  while (std::getline(file, line)) {
    std::istringstream in(line);
    const Scheme scheme = ReadScheme(in);
    SCOPED_TRACE(scheme.CanonicalText());
    const std::vector<uint32_t> expected = ReadBits(in);
    std::vector<float> out(weights.size());
    QSWEEP_ASSERT_OK(FakeQuantize(scheme, weights, kRows, kCols, out));
    std::vector<uint32_t> got;
    for (const float value : out) {
      got.push_back(std::bit_cast<uint32_t>(value));
    }
    ASSERT_EQ(got, expected);
    ++num_modes;
  }
  EXPECT_EQ(num_modes, 240);
}

TEST(QuantizeToCodes, DecodesToTheSameValues_InEachReplicate) {
  std::vector<float> weights;
  for (int i = 0; i < 2 * 20; ++i) {
    weights.push_back(std::sin(static_cast<float>(i * i)));
  }
  for (const int replicate : {0, 1, 2, 3, 7}) {
    for (const bool symmetric : {true, false}) {
      const Scheme scheme = {.group = 8,
                             .symmetric = symmetric,
                             .grid = symmetric ? Grid::kAbsmax : Grid::kGptq,
                             .replicate = replicate};
      std::vector<float> out(weights.size());
      QSWEEP_ASSERT_OK(FakeQuantize(scheme, weights, 2, 20, out));
      const auto coded = QuantizeToCodes(scheme, weights, 2, 20);
      QSWEEP_ASSERT_OK(coded);
      std::vector<float> decoded(weights.size());
      coded->Decode(decoded);
      EXPECT_EQ(decoded, out) << replicate;
    }
  }
}

absl::Status Try(const Scheme& scheme, std::vector<float>& out) {
  const std::vector<float> weights(12, 1.0f);
  return FakeQuantize(scheme, weights, 2, 6, out);
}

TEST(FakeQuantize, RefusesWhatTheMethodCannotDo_AndWritesNothing) {
  struct Case {
    const char* name;
    Scheme scheme;
    const char* code;
    const char* field;
  };
  for (const Case& c : {
           Case{"method", {.method = Method::kGptq}, "QS1020", "method"},
           Case{"nf4 of 8 bits",
                {.method = Method::kNf4, .bits = 8},
                "QS1042",
                "bits"},
           Case{"nf4, group 0",
                {.method = Method::kNf4, .group = 0},
                "QS1043",
                "group"},
           Case{"hqq of 9 bits",
                {.method = Method::kHqq, .bits = 9},
                "QS1042",
                "bits"},
           Case{"hqq, group does not divide",
                {.method = Method::kHqq, .group = 8},
                "QS1043",
                "group"},
           Case{"replicate of a channel",
                {.granularity = Granularity::kChannel, .replicate = 1},
                "QS1004",
                "replicate"},
           Case{"1 bit", {.bits = 1}, "QS1042", "bits"},
           Case{"9 bits", {.bits = 9}, "QS1042", "bits"},
           Case{"group 0", {.group = 0}, "QS1043", "group"},
           Case{"awq, group does not divide",
                {.group = 4, .symmetric = false, .grid = Grid::kAwq},
                "QS1043",
                "group"},
           Case{"absmax without symmetry",
                {.symmetric = false},
                "QS1004",
                "sym"},
       }) {
    SCOPED_TRACE(c.name);
    std::vector<float> out(12, 5.0f);
    const absl::Status status = Try(c.scheme, out);
    EXPECT_EQ(CodeOf(status), c.code);
    EXPECT_EQ(FieldOf(status), c.field);
    EXPECT_EQ(out, std::vector<float>(12, 5.0f));
  }
}

TEST(FactorHessian, SaysWhatToDo_WhenTheHessianHasNoFactor) {
  const Scheme scheme = {.method = Method::kGptq};
  const std::vector<float> singular(4, 1.0f);
  const auto status =
      FactorHessian(scheme, singular, 2, "q", InSequence).status();
  EXPECT_EQ(CodeOf(status), "QS5012");
  EXPECT_EQ(FieldOf(status), "damp");
  EXPECT_EQ(HintOf(status),
            "Use damp=0.1, or more and other calibration texts.");
  const std::vector<float> infinite = {1, 0, 0,
                                       std::numeric_limits<float>::infinity()};
  EXPECT_EQ(
      HintOf(FactorHessian(scheme, infinite, 2, "q", InSequence).status()),
      "The model's activations overflow on these texts.");
}

TEST(QuantizeRows, FillsACodedTensorPartByPart) {
  const Scheme scheme = {.method = Method::kGptq,
                         .bits = 3,
                         .group = 2,
                         .damp_millionths = 10'000};
  const std::vector<float> hessian = {4, 1, 1, 1, 3, 1, 1, 1, 2};
  const auto factor = FactorHessian(scheme, hessian, 3, "q", InSequence);
  QSWEEP_ASSERT_OK(factor);
  const std::vector<float> weights = {1, .2f, -.5f, 3, -2, 1, 0, 0, 4};
  CodedTensor whole = StartCoded(scheme, 3, *factor);
  QuantizeRows(scheme, *factor, weights, 0, 3, whole);
  EXPECT_EQ(whole.groups, 2);
  CodedTensor parts = StartCoded(scheme, 3, *factor);
  const std::span<const float> all(weights);
  QuantizeRows(scheme, *factor, all.subspan(3, 6), 1, 3, parts);
  QuantizeRows(scheme, *factor, all.first(3), 0, 1, parts);
  EXPECT_EQ(parts, whole);
}

TEST(FakeQuantize, RefusesWeightsThatFp16CannotHold_AndWritesNothing) {
  const std::vector<float> large = {1e6f, -1e6f, 2, 3, 4, 5};
  for (const Grid grid : {Grid::kAbsmax, Grid::kGptq, Grid::kAwq}) {
    Scheme scheme{.group = 6, .grid = grid, .scale = ScaleStorage::kFp16};
    std::vector<float> out(6, 5.0f);
    absl::Status status = FakeQuantize(scheme, large, 1, 6, out);
    EXPECT_EQ(CodeOf(status), "QS1004");
    EXPECT_EQ(FieldOf(status), "scale");
    EXPECT_EQ(HintOf(status), "Use scale=fp32.");
    EXPECT_EQ(out, std::vector<float>(6, 5.0f));
    EXPECT_EQ(CodeOf(QuantizeToCodes(scheme, large, 1, 6).status()), "QS1004");
    scheme.bits = 8;  // the scale is small enough
    QSWEEP_EXPECT_OK(FakeQuantize(scheme, large, 1, 6, out));
    EXPECT_NEAR(out[0], 1e6, 4000);
    scheme = {.group = 6, .grid = grid, .arithmetic = Arithmetic::kFp16};
    status = FakeQuantize(scheme, large, 1, 6, out);
    EXPECT_EQ(FieldOf(status), "arith");
  }
}

TEST(FakeQuantize, DoesNothing_WhenTheMatrixIsEmpty) {
  std::vector<float> out;
  QSWEEP_EXPECT_OK(FakeQuantize({}, {}, 0, 6, out));
}

TEST(FakeQuantize, UsesOneScale_WhenTheGroupIsLongerThanTheRow) {
  const std::vector<float> weights = {7, 1, 2, -3, 4, 5};
  std::vector<float> out(6);
  QSWEEP_ASSERT_OK(FakeQuantize({.group = 128}, weights, 1, 6, out));
  EXPECT_EQ(out, weights);
}

TEST(QuantizeToCodes, DecodesToWhatFakeQuantizeWrites) {
  constexpr int64_t kWide = 40;
  std::vector<float> weights;
  for (int i = 0; i < 3 * kWide; ++i) {
    // Groups on both sides of zero, on one side, and all zero.
    const float sine = std::sin(static_cast<float>(i * i)) * 0.3f;
    weights.push_back(i < 40 ? sine : i < 80 ? std::abs(sine) + 0.1f : 0.0f);
  }
  for (const Grid grid : {Grid::kAbsmax, Grid::kGptq, Grid::kAwq}) {
    for (const bool symmetric : {true, false}) {
      for (const int bits : {2, 3, 4, 5, 8}) {
        for (const Granularity granularity :
             {Granularity::kTensor, Granularity::kChannel,
              Granularity::kGroup}) {
          for (const ScaleStorage scale :
               {ScaleStorage::kFp32, ScaleStorage::kFp16}) {
            if (grid == Grid::kAbsmax && !symmetric) {
              continue;
            }
            const Scheme scheme{
                .bits = bits,
                .granularity = granularity,
                .group = granularity == Granularity::kGroup ? 8 : 0,
                .symmetric = symmetric,
                .grid = grid,
                .scale = scale};
            SCOPED_TRACE(scheme.CanonicalText());
            std::vector<float> expected(weights.size());
            QSWEEP_ASSERT_OK(FakeQuantize(scheme, weights, 3, kWide, expected));
            const auto coded = QuantizeToCodes(scheme, weights, 3, kWide);
            QSWEEP_ASSERT_OK(coded);
            std::vector<float> decoded(weights.size());
            coded->Decode(decoded);
            EXPECT_EQ(decoded, expected);
            for (const uint8_t code : coded->codes) {
              ASSERT_LT(code, 1 << bits);
            }
            for (const uint8_t zero : coded->zeros) {
              ASSERT_LT(zero, 1 << bits);
              if (symmetric) {
                ASSERT_EQ(zero, 1 << (bits - 1));
              }
            }
          }
        }
      }
    }
  }
  EXPECT_EQ(CodeOf(QuantizeToCodes({.bits = 9}, weights, 3, kWide)), "QS1042");
  EXPECT_EQ(CodeOf(QuantizeToCodes({.group = 7, .grid = Grid::kAwq}, weights, 3,
                                   kWide)),
            "QS1043");
}

// Some items large, of every way to cut a tensor.
class LargeTensorTest : public ::testing::Test {
 protected:
  static constexpr int64_t kRows = 300;
  static constexpr int64_t kColumns = 1024;  // 4.7 items

  LargeTensorTest() {
    Random random(7);
    for (int64_t i = 0; i < kRows * kColumns; ++i) {
      weights_.push_back(static_cast<float>(random.Uniform() - 0.4));
    }
  }

  static std::vector<Scheme> Schemes() {
    std::vector<Scheme> schemes;
    for (const Granularity granularity :
         {Granularity::kTensor, Granularity::kChannel, Granularity::kGroup}) {
      for (const Grid grid : {Grid::kAbsmax, Grid::kGptq, Grid::kAwq}) {
        for (const bool half : {false, true}) {
          schemes.push_back(
              {.granularity = granularity,
               .group = granularity == Granularity::kGroup ? 64 : 0,
               .symmetric = grid != Grid::kAwq,
               .grid = grid,
               .arithmetic = half ? Arithmetic::kFp16 : Arithmetic::kFp32});
        }
      }
    }
    for (const bool double_quant : {false, true}) {
      for (const int replicate : {0, 1}) {
        schemes.push_back({.method = Method::kNf4,
                           .group = 64,
                           .double_quant = double_quant,
                           .replicate = replicate});
      }
    }
    schemes.push_back({.method = Method::kHqq, .group = 64});
    schemes.push_back({.method = Method::kHqq, .group = 64, .replicate = 1});
    schemes.push_back({.method = Method::kHqq, .group = 64, .axis = 0});
    return schemes;
  }

  std::vector<float> weights_;
};

TEST_F(LargeTensorTest, HasTheSameBits_InAnyOrderAndInPlace) {
  for (const Scheme& scheme : Schemes()) {
    SCOPED_TRACE(scheme.CanonicalText());
    std::vector<float> want(weights_.size());
    QSWEEP_ASSERT_OK(FakeQuantize(scheme, weights_, kRows, kColumns, want));
    EXPECT_NE(want, weights_);
    std::vector<float> got = weights_;
    QSWEEP_ASSERT_OK(FakeQuantize(scheme, got, kRows, kColumns, got,
                                  [](int64_t count, const auto& item) {
                                    EXPECT_GE(count, 4);
                                    for (int64_t i = count; i-- > 0;) {
                                      item(i);
                                    }
                                    return true;
                                  }));
    ASSERT_EQ(got, want);
  }
}

TEST_F(LargeTensorTest, HasTheBitsOfTheWholeAtOnce) {
  for (const Scheme& scheme : Schemes()) {
    SCOPED_TRACE(scheme.CanonicalText());
    if (scheme.method != Method::kRtn) {
      continue;
    }
    std::vector<float> want(weights_.size());
    RtnCpu(weights_.data(), RtnShapeOf(scheme, kRows, kColumns),
           RtnOptionsOf(scheme), want.data(), nullptr, nullptr);
    std::vector<float> got(weights_.size());
    QSWEEP_ASSERT_OK(FakeQuantize(scheme, weights_, kRows, kColumns, got));
    ASSERT_EQ(got, want);
  }
  // Groups of a column and of a row are the same groups.
  constexpr int64_t kGroups = kRows * kColumns / 64;
  std::vector<float> turned(weights_.size());
  const auto turn = [](const std::vector<float>& from, int64_t rows,
                       std::vector<float>& to) {
    const auto columns = static_cast<int64_t>(from.size()) / rows;
    for (int64_t i = 0; i < std::ssize(from); ++i) {
      to[static_cast<size_t>(i % columns * rows + i / columns)] =
          from[static_cast<size_t>(i)];
    }
  };
  turn(weights_, kGroups, turned);
  std::vector<float> rows(weights_.size());
  Scheme scheme = {.method = Method::kHqq, .group = 64};
  QSWEEP_ASSERT_OK(FakeQuantize(scheme, weights_, kRows, kColumns, rows));
  scheme.axis = 0;
  std::vector<float> columns(weights_.size());
  QSWEEP_ASSERT_OK(FakeQuantize(scheme, turned, kRows, kColumns, columns));
  turn(columns, 64, turned);
  EXPECT_EQ(turned, rows);
}

TEST_F(LargeTensorTest, StopsBeforeTheNextItem_WhenItIsTold) {
  for (const Scheme& scheme : Schemes()) {
    SCOPED_TRACE(scheme.CanonicalText());
    for (const int most : {0, 2, 7}) {
      if (most == 7 && scheme.method == Method::kRtn) {
        continue;  // done before
      }
      if (most == 7 && scheme.method == Method::kNf4 && !scheme.double_quant) {
        continue;
      }
      int ran = 0;
      const auto parallel = [&](int64_t count, const auto& item) {
        for (int64_t i = 0; i < count; ++i) {
          if (ran == most) {
            return false;
          }
          ++ran;
          item(i);
        }
        return true;
      };
      std::vector<float> out(weights_.size());
      EXPECT_EQ(
          FakeQuantize(scheme, weights_, kRows, kColumns, out, parallel).code(),
          absl::StatusCode::kCancelled);
      EXPECT_EQ(ran, most);
    }
  }
}

TEST(FakeQuantize, KeepsZeros) {
  const std::vector<float> zeros(128);
  for (const Granularity granularity :
       {Granularity::kTensor, Granularity::kChannel, Granularity::kGroup}) {
    for (const Grid grid : {Grid::kAbsmax, Grid::kGptq, Grid::kAwq}) {
      const Scheme scheme = {
          .granularity = granularity,
          .group = granularity == Granularity::kGroup ? 32 : 0,
          .symmetric = grid != Grid::kAwq,
          .grid = grid};
      std::vector<float> out(zeros.size(), 1.0f);
      QSWEEP_ASSERT_OK(FakeQuantize(scheme, zeros, 2, 64, out));
      EXPECT_EQ(out, zeros) << scheme.CanonicalText();
    }
  }
}

}  // namespace
}  // namespace qsweep::kernels
