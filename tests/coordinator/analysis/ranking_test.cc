#include "coordinator/analysis/ranking.h"

#include <algorithm>

#include "gtest/gtest.h"

#include "common/base/random.h"
#include "tests/coordinator/analysis/synthetic_panel.h"

namespace qsweep::analysis {
namespace {

constexpr size_t kUnits = 40;

// Layers that recover these shares, in two languages; recovery in the second is
// 0.02 worse. noise: of the share, by unit.
RankingInput MakeInput(const std::vector<double>& recovery, double noise,
                       uint64_t seed) {
  Random random(seed);
  RankingInput input;
  for (int language = 0; language < 2; ++language) {
    std::vector<double> none;
    for (size_t u = 0; u < kUnits; ++u) {
      none.push_back(20 + 5 * Normal(random));
    }
    input.none.push_back(none);
  }
  for (const double share : recovery) {
    input.layers.emplace_back();
    for (size_t language = 0; language < 2; ++language) {
      std::vector<double> layer;
      for (const double none : input.none[language]) {
        layer.push_back(none *
                        (1 - share + 0.02 * static_cast<double>(language) +
                         noise * Normal(random)));
      }
      input.layers.back().push_back(layer);
    }
  }
  return input;
}

TEST(RankLayers, ResolvesWhatIsFarApart_AndGroupsTheRest) {
  const RankingInput input =
      MakeInput({0.03, 0.40, 0.03, 0.25, 0.03, 0.03, 0.03, 0.03}, 0.01, 1);
  const Ranking ranking = RankLayers(input, Resamples(kUnits, 2000, 5), 0.95);
  EXPECT_EQ(ranking.layers[1].rank, 1);
  EXPECT_EQ(ranking.layers[3].rank, 2);
  EXPECT_EQ(ranking.resolved_ranks, 2);
  EXPECT_EQ(ranking.layers[1].standing, Standing::kAbove);
  EXPECT_EQ(ranking.layers[3].standing, Standing::kAbove);
  EXPECT_EQ(ranking.layers[1].group, 1);
  EXPECT_EQ(ranking.layers[3].group, 2);
  for (const size_t other : {0, 2, 4, 5, 6, 7}) {
    EXPECT_EQ(ranking.layers[other].standing, Standing::kBelow);
    EXPECT_EQ(ranking.layers[other].group, 3);
  }
  EXPECT_EQ(ranking.layers[1].worst_language, 1);
  EXPECT_NEAR(ranking.layers[1].worst_recovery, 0.38, 0.01);
  EXPECT_EQ(ranking.units_more, std::nullopt);
}

TEST(RankLayers, TellsNothing_WhenLayersDoNotDiffer) {
  int told = 0;
  int resolved = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const RankingInput input =
        MakeInput(std::vector<double>(10, 0.05), 0.05, seed);
    const Ranking ranking =
        RankLayers(input, Resamples(kUnits, 500, seed), 0.95);
    resolved += ranking.resolved_ranks > 0 ? 1 : 0;
    told += std::any_of(ranking.layers.begin(), ranking.layers.end(),
                        [](const RankedLayer& layer) {
                          return layer.standing != Standing::kNotTold;
                        })
                ? 1
                : 0;
  }
  EXPECT_LE(told, 5);  // 5% of 40 is 2; more than 5 has a chance of 1%
  EXPECT_LE(resolved, 5);
}

TEST(RankLayers, PutsTheUntoldInOneGroup_AndSaysHowManyUnitsTheyNeed) {
  const RankingInput input =
      MakeInput({0.5, 0.05, 0.06, 0.04, 0.05, 0.06}, 0.2, 3);
  const Ranking ranking = RankLayers(input, Resamples(kUnits, 1000, 1), 0.95);
  std::vector<int> groups;
  for (const RankedLayer& layer : ranking.layers) {
    if (layer.standing == Standing::kNotTold) {
      groups.push_back(layer.group);
    }
  }
  ASSERT_GE(groups.size(), 2u);
  EXPECT_EQ(std::count(groups.begin(), groups.end(), groups[0]),
            static_cast<std::ptrdiff_t>(groups.size()));
  ASSERT_TRUE(ranking.units_more.has_value());
  EXPECT_GT(*ranking.units_more, 0u);
}

TEST(RankLayers, DoesNotSeparateLayersThatAreTheSame) {
  RankingInput input = MakeInput({0.1, 0.3, 0.2}, 0.02, 9);
  input.layers[2] = input.layers[1];
  const Ranking ranking = RankLayers(input, Resamples(kUnits, 500, 2), 0.95);
  EXPECT_EQ(ranking.layers[1].rank, 1);
  EXPECT_EQ(ranking.layers[2].rank, 2);
  EXPECT_EQ(ranking.layers[1].group, ranking.layers[2].group);
  EXPECT_EQ(ranking.resolved_ranks, 0);
}

}  // namespace
}  // namespace qsweep::analysis
