#include "worker/kernels/row_kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/random.h"

namespace qsweep::kernels {
namespace {

// Every test runs on all kinds of CPU that this one can play.
class RowKernelsTest : public testing::TestWithParam<const RowKernels*> {
 protected:
  const RowKernels& kernels() const { return *GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(Levels, RowKernelsTest,
                         testing::ValuesIn(AvailableRowKernels().begin(),
                                           AvailableRowKernels().end()),
                         [](const auto& level) {
                           return std::string(level.param->name);
                         });

std::vector<float> RandomFloats(Random& random, int64_t n, double scale = 1) {
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) {
    value = static_cast<float>((random.Uniform() - 0.5) * 2 * scale);
  }
  return values;
}

size_t Index(int64_t i) { return static_cast<size_t>(i); }

TEST_P(RowKernelsTest, RmsNormMatchesDoubles_WhenTheRowHasATail) {
  Random random(4);
  for (const int64_t n : {3, 8, 576, 577}) {
    const std::vector<float> x = RandomFloats(random, n, 5);
    const std::vector<float> gain = RandomFloats(random, n);
    std::vector<float> out(Index(n));
    kernels().rms_norm(x.data(), gain.data(), n, 1e-5F, out.data());
    double squares = 0;
    for (const float v : x) {
      squares += static_cast<double>(v) * static_cast<double>(v);
    }
    const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-5);
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_NEAR(out[Index(i)], x[Index(i)] * scale * gain[Index(i)], 2e-6);
    }
  }
}

TEST_P(RowKernelsTest, RotatesHalvesAsPairs_WhenTheHalfHasATail) {
  Random random(5);
  constexpr int kHeadDim = 20;
  std::vector<float> row = RandomFloats(random, 3 * kHeadDim);
  const std::vector<float> before = row;
  std::vector<float> cosines;
  std::vector<float> sines;
  for (int i = 0; i < kHeadDim / 2; ++i) {
    cosines.push_back(std::cos(0.3F * static_cast<float>(i)));
    sines.push_back(std::sin(0.3F * static_cast<float>(i)));
  }
  kernels().rotate(row.data(), 3, kHeadDim, cosines.data(), sines.data());
  for (size_t head = 0; head < 3; ++head) {
    for (size_t i = 0; i < kHeadDim / 2; ++i) {
      const size_t low = head * kHeadDim + i;
      const size_t high = low + kHeadDim / 2;
      EXPECT_NEAR(row[low], before[low] * cosines[i] - before[high] * sines[i],
                  1e-6);
      EXPECT_NEAR(row[high], before[high] * cosines[i] + before[low] * sines[i],
                  1e-6);
    }
  }
}

TEST_P(RowKernelsTest, SiluMatchesDoubles_OverTheWholeRange) {
  std::vector<float> gate;
  for (int i = -400; i <= 403; ++i) {
    gate.push_back(static_cast<float>(i) * 0.25F);
  }
  const std::vector<float> x = gate;
  const std::vector<float> up(gate.size(), 3.0F);
  kernels().silu_multiply(gate.data(), up.data(),
                          static_cast<int64_t>(gate.size()));
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = 3.0 * x[i] / (1 + std::exp(-static_cast<double>(x[i])));
    EXPECT_NEAR(gate[i], want, std::abs(want) * 1e-6 + 1e-30) << x[i];
  }
}

float FromBits(uint32_t bits) { return std::bit_cast<float>(bits); }

TEST_P(RowKernelsTest, RoundsToBf16_ToNearestEven) {
  const std::vector<std::pair<uint32_t, uint32_t>> cases = {
      {0x00000000, 0x00000000}, {0x80000000, 0x80000000},
      {0x3F800000, 0x3F800000},                            // 1
      {0x3F807FFF, 0x3F800000}, {0x3F808000, 0x3F800000},  // half: to even
      {0x3F808001, 0x3F810000}, {0x3F817FFF, 0x3F810000},
      {0x3F818000, 0x3F820000},                            // half: to even
      {0xBF818000, 0xBF820000}, {0x3FFFFFFF, 0x40000000},  // carries
      {0x00008000, 0x00000000}, {0x00018000, 0x00020000},  // subnormal
      {0x7F7F0000, 0x7F7F0000}, {0x7F7FFFFF, 0x7F800000},  // too large
      {0x7F800000, 0x7F800000}, {0xFF800000, 0xFF800000}};
  std::vector<float> in;
  for (const auto& [bits, want] : cases) {
    in.push_back(FromBits(bits));
  }
  std::vector<float> out(in.size());
  std::vector<uint16_t> halves(in.size());
  const auto size = static_cast<int64_t>(in.size());
  kernels().round_to_bf16(in.data(), size, out.data());
  kernels().to_bf16(in.data(), size, halves.data());
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_EQ(std::bit_cast<uint32_t>(out[i]), cases[i].second) << i;
    EXPECT_EQ(halves[i], cases[i].second >> 16) << i;
  }
  for (const uint32_t nan : {0x7FFFFFFFU, 0x7F800001U, 0xFFC00000U}) {
    float value = FromBits(nan);
    uint16_t half = 0;
    kernels().to_bf16(&value, 1, &half);
    kernels().round_to_bf16(&value, 1, &value);  // in place
    EXPECT_TRUE(std::isnan(value));
    EXPECT_TRUE(std::isnan(FromBits(uint32_t{half} << 16)));
  }
}

// Logits of a vocabulary, and the plain formulas over all of it.
struct Logits {
  int rows;
  int64_t vocabulary;
  std::vector<float> values;

  const float* row(int r) const { return values.data() + r * vocabulary; }
  double LogSum(int r) const {
    double max = -std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < vocabulary; ++i) {
      max = std::max(max, static_cast<double>(row(r)[i]));
    }
    double sum = 0;
    for (int64_t i = 0; i < vocabulary; ++i) {
      sum += std::exp(static_cast<double>(row(r)[i]) - max);
    }
    return max + std::log(sum);
  }
  double Nll(int r, int32_t gold) const {
    return LogSum(r) - static_cast<double>(row(r)[gold]);
  }
  double KlTo(const Logits& other, int r) const {
    const double a = LogSum(r);
    const double b = other.LogSum(r);
    double kl = 0;
    for (int64_t i = 0; i < vocabulary; ++i) {
      const double p = static_cast<double>(row(r)[i]) - a;
      kl += std::exp(p) * (p - (static_cast<double>(other.row(r)[i]) - b));
    }
    return kl;
  }
  int64_t Argmax(int r) const {
    return std::max_element(row(r), row(r) + vocabulary) - row(r);
  }
};

std::vector<TokenScore> ScoreByTiles(const RowKernels& kernels,
                                     const Logits& baseline,
                                     const Logits& configuration,
                                     const std::vector<int32_t>& gold,
                                     int64_t tile_columns) {
  const int rows = baseline.rows;
  const int64_t stride = RowStride(tile_columns);
  std::vector<HeadRow> base_rows(Index(rows));
  std::vector<HeadRow> own_rows(Index(rows));
  std::vector<double> rescale(Index(rows));
  std::vector<float> exps(Index(rows * stride));
  for (int64_t first = 0; first < baseline.vocabulary; first += tile_columns) {
    const int64_t columns = std::min(tile_columns, baseline.vocabulary - first);
    std::vector<float> tiles[2];
    for (int which = 0; which < 2; ++which) {
      tiles[which].resize(Index(rows * stride));
      for (int r = 0; r < rows; ++r) {
        std::copy_n((which == 0 ? baseline : configuration).row(r) + first,
                    columns, tiles[which].data() + r * stride);
      }
    }
    LogitTile tile = {.logits = tiles[0].data(),
                      .stride = stride,
                      .rows = rows,
                      .columns = columns,
                      .first_column = static_cast<int32_t>(first),
                      .gold = gold.data()};
    kernels.add_baseline(tile, base_rows.data(), exps.data(), rescale.data());
    tile.logits = tiles[1].data();
    kernels.add_configuration(tile, tiles[0].data(), exps.data(),
                              rescale.data(), own_rows.data());
  }
  std::vector<TokenScore> scores;
  for (int r = 0; r < rows; ++r) {
    scores.push_back(ScoreOf(base_rows[Index(r)], own_rows[Index(r)]));
  }
  return scores;
}

TEST_P(RowKernelsTest, HeadStatisticsMatchDoubles_WhenTheVocabularyIsTiled) {
  Random random(7);
  constexpr int kRows = 16;
  constexpr int64_t kVocabulary = 5003;
  for (const double scale : {0.01, 3.0, 40.0}) {
    SCOPED_TRACE(testing::Message() << "scale " << scale);
    Logits base{kRows, kVocabulary,
                RandomFloats(random, kRows * kVocabulary, scale)};
    Logits own = base;
    const std::vector<float> noise =
        RandomFloats(random, kRows * kVocabulary, scale * 0.05);
    for (size_t i = 0; i < noise.size(); ++i) {
      own.values[i] += noise[i];
    }
    std::vector<int32_t> gold;
    for (int r = 0; r < kRows; ++r) {
      gold.push_back(static_cast<int32_t>(random.Below(kVocabulary)));
    }
    for (const int64_t tile : {48, 768, 6144}) {
      const std::vector<TokenScore> got =
          ScoreByTiles(kernels(), base, own, gold, tile);
      for (int r = 0; r < kRows; ++r) {
        const TokenScore& score = got[Index(r)];
        EXPECT_NEAR(score.nll_fp, base.Nll(r, gold[Index(r)]), 1e-6);
        EXPECT_NEAR(score.nll, own.Nll(r, gold[Index(r)]), 1e-6);
        EXPECT_NEAR(score.kl, base.KlTo(own, r), 1e-6);
        EXPECT_EQ(score.top1, base.Argmax(r) == own.Argmax(r));
      }
    }
  }
}

TEST_P(RowKernelsTest, DivergenceFromItselfIsZero) {
  Random random(8);
  const Logits base{8, 1000, RandomFloats(random, 8 * 1000, 12)};
  for (const TokenScore& score :
       ScoreByTiles(kernels(), base, base, {0, 1, 2, 3, 4, 5, 6, 999}, 144)) {
    EXPECT_EQ(score.kl, 0);
    EXPECT_EQ(score.nll, score.nll_fp);
    EXPECT_TRUE(score.top1);
  }
}

TEST_P(RowKernelsTest, LowestIdWins_WhenLogitsTie) {
  Logits base{4, 100, std::vector<float>(400, 0.5F)};
  Logits own = base;
  base.values[7] = base.values[60] = 2;  // row 0: ids 7 and 60 tie
  own.values[7] = 2;
  own.values[100 + 99] = 2;  // row 1: id 99 against the tie of all at id 0
  const std::vector<TokenScore> scores =
      ScoreByTiles(kernels(), base, own, {0, 0, 0, 0}, 48);
  EXPECT_TRUE(scores[0].top1);
  EXPECT_FALSE(scores[1].top1);
  EXPECT_TRUE(scores[2].top1);
}

TEST_P(RowKernelsTest, ScoreIsNotFinite_WhenALogitIsNot) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const Logits base{4, 200, std::vector<float>(800, 0.5F)};
  Logits own = base;
  own.values[150] = kNan;
  own.values[200] = kNan;
  own.values[2 * 200 + 3] = kInf;
  const std::vector<TokenScore> scores =
      ScoreByTiles(kernels(), base, own, {0, 1, 2, 3}, 96);
  for (int r = 0; r < 3; ++r) {
    EXPECT_FALSE(std::isfinite(scores[Index(r)].nll)) << r;
  }
  EXPECT_TRUE(std::isfinite(scores[3].nll));
}

TEST_P(RowKernelsTest, LossIsExact_WhenItWouldOverflowAsAPerplexity) {
  Logits base{4, 100, std::vector<float>(400, 0.0F)};
  base.values[5] = 1000;  // loss of any other id: 1000
  const std::vector<TokenScore> scores =
      ScoreByTiles(kernels(), base, base, {0, 0, 0, 0}, 48);
  EXPECT_NEAR(scores[0].nll, 1000, 1e-6);
}

}  // namespace
}  // namespace qsweep::kernels
