#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/random.h"
#include "tests/support/device_memory.h"
#include "tests/support/kernel_references.h"
#include "tests/worker/kernels/device/kernel_test.h"
#include "worker/kernels/head_stats.h"
#include "worker/kernels/row_kernels.h"

namespace qsweep::kernels {
namespace {

using ::qsweep::testing::DeviceArray;
using ::qsweep::testing::HeadByLoops;
using ::qsweep::testing::HeadReference;

using HeadKernel = qsweep::testing::KernelTest;

using Rows = std::vector<std::vector<float>>;  // [rows][vocabulary]

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Rows RandomRows(Random& random, size_t rows, size_t vocabulary, double scale) {
  Rows result(rows, std::vector<float>(vocabulary));
  for (std::vector<float>& row : result) {
    for (float& logit : row) {
      logit = static_cast<float>((random.Uniform() - 0.5) * 2 * scale);
    }
  }
  return result;
}

// How the logits lie in device memory.
struct Layout {
  size_t columns = 0;  // of a tile
  size_t padding = 0;  // between rows
  size_t shift = 0;    // before the first
};

struct State {
  std::vector<HeadRow> baseline;
  std::vector<HeadRow> own;
};

std::vector<float> TileOf(const Rows& rows, size_t first, size_t columns,
                          size_t stride) {
  std::vector<float> tile(rows.size() * stride, kNan);
  for (size_t r = 0; r < rows.size(); ++r) {
    std::copy_n(rows[r].begin() + static_cast<std::ptrdiff_t>(first), columns,
                tile.begin() + static_cast<std::ptrdiff_t>(r * stride));
  }
  return tile;
}

// own: any number of configurations, one after the other.
State RunHead(const Rows& baseline, const Rows& own,
              const std::vector<int32_t>& gold, Layout layout) {
  const size_t vocabulary = baseline[0].size();
  DeviceArray<int32_t> device_gold(gold);
  DeviceArray<HeadRow> baseline_state(std::vector<HeadRow>(baseline.size()));
  DeviceArray<HeadRow> state(std::vector<HeadRow>(own.size()));
  DeviceArray<double> rescale(baseline.size());
  for (size_t first = 0; first < vocabulary; first += layout.columns) {
    const size_t columns = std::min(layout.columns, vocabulary - first);
    const size_t stride = layout.columns + layout.padding;
    DeviceArray<float> baseline_logits(TileOf(baseline, first, columns, stride),
                                       layout.shift);
    DeviceArray<float> logits(TileOf(own, first, columns, stride),
                              layout.shift);
    HeadTile tile = {.logits = baseline_logits.data(),
                     .stride = static_cast<int64_t>(stride),
                     .rows = static_cast<int64_t>(baseline.size()),
                     .columns = static_cast<int64_t>(columns),
                     .first_column = static_cast<int32_t>(first)};
    const HeadTile baseline_tile = tile;
    EXPECT_EQ(HeadBaselineCuda(baseline_tile, device_gold.data(),
                               baseline_state.data(), rescale.data(), nullptr),
              0);
    tile.logits = logits.data();
    tile.rows = static_cast<int64_t>(own.size());
    EXPECT_EQ(HeadConfigurationCuda(tile, baseline_tile, device_gold.data(),
                                    baseline_state.data(), rescale.data(),
                                    state.data(), nullptr),
              0);
    EXPECT_EQ(qsweep::testing::DeviceProblem(), "");
  }
  return {baseline_state.Read(), state.Read()};
}

std::vector<TokenScore> ScoresOf(const State& state) {
  std::vector<TokenScore> scores;
  for (size_t r = 0; r < state.own.size(); ++r) {
    scores.push_back(
        ScoreOf(state.baseline[r % state.baseline.size()], state.own[r]));
  }
  return scores;
}

// Over all fields, to compare bits.
uint64_t Digest(const std::vector<HeadRow>& rows) {
  uint64_t digest = 0xcbf29ce484222325;
  const auto add = [&](uint64_t bits) {
    digest = (digest ^ bits) * 0x100000001b3;
  };
  for (const HeadRow& row : rows) {
    add(std::bit_cast<uint32_t>(row.max));
    add(static_cast<uint32_t>(row.argmax));
    add(std::bit_cast<uint32_t>(row.gold_logit));
    add(std::bit_cast<uint64_t>(row.sum_exp));
    add(std::bit_cast<uint64_t>(row.cross));
  }
  return digest;
}

// At most 32 numbers are added in fp32, each within 2 units in the last place
// of its exponential: far below 1e-6 of the sum, which is 1e-6 nats.
constexpr double kTolerance = 1e-6;

TEST_F(HeadKernel, MatchesDoubles_WhateverTheTiles) {
  Random random(21);
  for (const size_t vocabulary : {1, 3, 31, 255, 257, 1025, 5003}) {
    for (const double scale : {0.01, 3.0, 40.0}) {
      const Rows baseline = RandomRows(random, 3, vocabulary, scale);
      Rows own = RandomRows(random, 6, vocabulary, 0.05 * scale);
      std::vector<int32_t> gold;
      for (size_t r = 0; r < own.size(); ++r) {
        for (size_t i = 0; i < vocabulary; ++i) {
          own[r][i] += baseline[r % 3][i];
        }
        if (r < 3) {
          gold.push_back(static_cast<int32_t>(random.Below(vocabulary)));
        }
      }
      for (const size_t columns : {64, 1000, 8192}) {
        SCOPED_TRACE(::testing::Message() << vocabulary << " scale " << scale
                                          << " tiles of " << columns);
        const State state = RunHead(baseline, own, gold, {.columns = columns});
        const std::vector<TokenScore> scores = ScoresOf(state);
        for (size_t r = 0; r < own.size(); ++r) {
          const size_t b = r % 3;
          const HeadReference want = HeadByLoops(own[r], baseline[b], gold[b]);
          const HeadReference base =
              HeadByLoops(baseline[b], baseline[b], gold[b]);
          EXPECT_NEAR(scores[r].nll, want.nll, kTolerance);
          EXPECT_NEAR(scores[r].nll_fp, base.nll, kTolerance);
          EXPECT_NEAR(scores[r].kl, want.kl, kTolerance);
          EXPECT_EQ(state.own[r].argmax, want.argmax);
          EXPECT_EQ(state.baseline[b].argmax, base.argmax);
        }
      }
    }
  }
}

TEST_F(HeadKernel, GivesTheSameBits_OnEveryDeviceAndInTheEmulation) {
  Random random(22);
  const Rows baseline = RandomRows(random, 4, 3001, 8);
  const Rows own = RandomRows(random, 8, 3001, 8);
  const State state =
      RunHead(baseline, own, {0, 100, 1500, 3000}, {.columns = 1024});
  EXPECT_EQ(Digest(state.baseline), 17224611388190239026u);
  EXPECT_EQ(Digest(state.own), 6832564553943393654u);
}

TEST_F(HeadKernel, GivesTheSameBits_WhateverThePlaceAndTheNeighbours) {
  Random random(23);
  const Rows baseline = RandomRows(random, 3, 2100, 5);
  const Rows own = RandomRows(random, 3, 2100, 5);
  const std::vector<int32_t> gold = {5, 1999, 2099};
  const State state = RunHead(baseline, own, gold, {.columns = 1000});
  for (const Layout layout :
       {Layout{1000, 4, 0}, Layout{1000, 3, 0}, Layout{1000, 0, 1}}) {
    const State moved = RunHead(baseline, own, gold, layout);
    EXPECT_EQ(Digest(moved.baseline), Digest(state.baseline));
    EXPECT_EQ(Digest(moved.own), Digest(state.own));
  }
  const State alone =
      RunHead({baseline[2]}, {own[2]}, {gold[2]}, {.columns = 1000});
  EXPECT_EQ(Digest(alone.baseline), Digest({state.baseline[2]}));
  EXPECT_EQ(Digest(alone.own), Digest({state.own[2]}));
}

TEST_F(HeadKernel, DivergenceFromItselfIsZero) {
  Random random(24);
  const Rows rows = RandomRows(random, 4, 1000, 12);
  for (const TokenScore& score :
       ScoresOf(RunHead(rows, rows, {0, 1, 2, 999}, {.columns = 144}))) {
    EXPECT_EQ(score.kl, 0);
    EXPECT_EQ(score.nll, score.nll_fp);
    EXPECT_TRUE(score.top1);
  }
}

TEST_F(HeadKernel, TakesTheLowestId_WhenLogitsTie) {
  struct Case {
    size_t low;
    size_t high;
  };
  // A thread takes 4 ids, the block 1024, so that after them the first thread
  // has higher ids than the last had.
  const std::vector<Case> cases = {
      {0, 1}, {7, 1999}, {1025, 1026}, {1020, 1025}, {4, 1088}};
  Rows rows(cases.size(), std::vector<float>(2000, 0.5f));
  for (size_t i = 0; i < cases.size(); ++i) {
    rows[i][cases[i].low] = rows[i][cases[i].high] = 2;
  }
  for (const size_t columns : {64, 2000}) {
    const State state = RunHead(
        rows, rows, std::vector<int32_t>(rows.size(), 0), {.columns = columns});
    for (size_t i = 0; i < cases.size(); ++i) {
      EXPECT_EQ(state.own[i].argmax, static_cast<int32_t>(cases[i].low)) << i;
    }
  }
}

TEST_F(HeadKernel, LossIsNotFinite_WhenALogitIsNot) {
  const Rows baseline(4, std::vector<float>(200, 0.5f));
  Rows own = baseline;
  own[0][150] = kNan;
  own[1][0] = kNan;
  own[2][3] = kInfinity;
  const std::vector<TokenScore> scores =
      ScoresOf(RunHead(baseline, own, {0, 1, 2, 3}, {.columns = 96}));
  for (size_t r = 0; r < 3; ++r) {
    EXPECT_FALSE(std::isfinite(scores[r].nll)) << r;
  }
  EXPECT_TRUE(std::isfinite(scores[3].nll));
  EXPECT_TRUE(std::isfinite(scores[3].kl));
}

TEST_F(HeadKernel, MaskedLogitsAddNothing) {
  Rows rows(1, std::vector<float>(300, 0.0f));
  for (size_t i = 1; i < 300; i += 2) {
    rows[0][i] = -kInfinity;
  }
  const State state = RunHead(rows, rows, {0}, {.columns = 128});
  EXPECT_NEAR(std::log(state.own[0].sum_exp), std::log(150), kTolerance);
}

TEST_F(HeadKernel, LossIsExact_WhenItWouldOverflowAsAPerplexity) {
  Rows rows(1, std::vector<float>(3000, 0.0f));
  rows[0][2500] = 1000;
  for (const size_t columns : {500, 3000}) {
    const State state = RunHead(rows, rows, {0}, {.columns = columns});
    EXPECT_NEAR(ScoresOf(state)[0].nll, 1000, kTolerance);
  }
}

TEST_F(HeadKernel, RefusesTilesThatDoNotMatch) {
  DeviceArray<float> logits(std::vector<float>(64, 0));
  DeviceArray<int32_t> gold(std::vector<int32_t>(4, 0));
  DeviceArray<HeadRow> state(std::vector<HeadRow>(4));
  DeviceArray<double> rescale(size_t{4});
  const HeadTile good = {
      .logits = logits.data(), .stride = 16, .rows = 4, .columns = 16};
  HeadTile narrow = good;
  narrow.columns = 8;
  HeadTile overlapping = good;
  overlapping.stride = 8;
  HeadTile no_rows = good;
  no_rows.rows = 0;
  EXPECT_EQ(HeadBaselineCuda(overlapping, gold.data(), state.data(),
                             rescale.data(), nullptr),
            1);
  EXPECT_EQ(HeadConfigurationCuda(narrow, good, gold.data(), state.data(),
                                  rescale.data(), state.data(), nullptr),
            1);
  EXPECT_EQ(HeadConfigurationCuda(good, no_rows, gold.data(), state.data(),
                                  rescale.data(), state.data(), nullptr),
            1);
  EXPECT_EQ(HeadBaselineCuda(no_rows, gold.data(), state.data(), rescale.data(),
                             nullptr),
            0);
  EXPECT_EQ(state.Read()[0].argmax, -1);
}

}  // namespace
}  // namespace qsweep::kernels
