#include "coordinator/analysis/replicates.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/analysis/analyze.h"
#include "tests/coordinator/analysis/synthetic_panel.h"

namespace qsweep::analysis {
namespace {

using ::testing::HasSubstr;

// Baseline, none and L0 in one language of two documents of 10 tokens, two
// draws: dNLL of none 1 and 3, 2 and 6; of L0 0.5 and 2.1, 1 and 3.
PanelInput Worked() {
  PanelInput panel;
  panel.evaluation = "aligned@1;tok=00";
  panel.quantizer = "rtn:bits=4,group=64";
  panel.replicates = {0, 1};
  panel.languages = {"eng"};
  panel.reference = 0;
  panel.configurations.resize(3);
  panel.configurations[0].baseline = true;
  panel.configurations[0].replicates = {{0, "fp"}};
  panel.configurations[1].unprotected = true;
  panel.configurations[1].replicates = {{0, "none"}, {1, "none'"}};
  panel.configurations[2].layer = 0;
  panel.configurations[2].replicates = {{0, "L0"}, {1, "L0'"}};
  const double losses[3][2][2] = {
      {{0, 0}, {0, 0}}, {{1, 3}, {2, 6}}, {{0.5, 2.1}, {1, 3}}};
  for (int c = 0; c < 3; ++c) {
    for (int r = 0; r < (c == 0 ? 1 : 2); ++r) {
      for (int u = 0; u < 2; ++u) {
        Row& row = panel.rows.emplace_back();
        row.configuration = c;
        row.replicate = r;
        row.unit = u == 0 ? "a" : "b";
        row.tokens = 10;
        row.bytes = row.bytes_scored = 40;
        row.nll_fp_sum = 30;
        row.nll_sum = 30 + losses[c][r][u];
        row.unigram_nll_sum = 70;
        row.kl_sum = losses[c][r][u];
        row.top1 = 10 - r;
      }
    }
  }
  return panel;
}

TEST(AverageReplicates, HasTheMeanOfADocumentsDraws) {
  const PanelInput panel = Worked();
  const PanelInput averaged = AverageReplicates(panel);
  EXPECT_EQ(averaged.rows.size(), 6u);
  EXPECT_EQ(averaged.rows_stored, 10u);
  const Row& row = averaged.rows[4];  // L0 of document a
  EXPECT_EQ(row.configuration, 2);
  EXPECT_EQ(row.unit, "a");
  EXPECT_DOUBLE_EQ(row.nll_sum, 30.75);
  EXPECT_EQ(row.nll_fp_sum, 30);
  EXPECT_EQ(row.tokens, 10u);
  EXPECT_DOUBLE_EQ(*row.kl_sum, 0.75);
  EXPECT_DOUBLE_EQ(*row.top1, 9.5);
}

TEST(AverageReplicates, WaitsForAllDraws_AndCountsWhatIsNotFinite) {
  PanelInput panel = Worked();
  panel.rows[9].nonfinite = 2;               // L0', document b
  panel.rows[7].kl_sum.reset();              // L0, document b
  panel.rows.erase(panel.rows.begin() + 2);  // none, document a
  const PanelInput averaged = AverageReplicates(panel);
  ASSERT_EQ(averaged.rows.size(), 5u);
  EXPECT_EQ(averaged.rows[2].unit, "b");
  EXPECT_EQ(averaged.rows[4].nonfinite, 2u);
  EXPECT_FALSE(averaged.rows[4].kl_sum.has_value());
  panel.rows.back().status = RowStatus::kTooLong;
  EXPECT_EQ(AverageReplicates(panel).rows[4].status, RowStatus::kTooLong);
}

TEST(AnalyzePanel, SaysMeanAndSpread_OverReplicates) {
  const PanelResult result = AnalyzePanel(Worked(), {.resamples = 100});
  EXPECT_EQ(result.rows, 10u);
  const CellResult& none = result.configurations[1].cells[0];
  // Draws lose 4/20 and 8/20 nats per token.
  EXPECT_DOUBLE_EQ(*none.delta_nll.value, 0.3);
  ASSERT_TRUE(none.delta_nll_spread);
  EXPECT_DOUBLE_EQ(none.delta_nll_spread->mean, 0.3);
  EXPECT_DOUBLE_EQ(none.delta_nll_spread->standard_deviation, std::sqrt(0.02));
  EXPECT_EQ(none.delta_nll_spread->replicates, 2);
  EXPECT_FALSE(none.recovery_spread);
  EXPECT_FALSE(result.configurations[0].cells[0].delta_nll_spread);
  EXPECT_THAT(result.notes.back(), HasSubstr("the mean of these 2 roundings"));
}

// Each draw is compared with the `none` of the same draw.
TEST(AddSpreads, TakesEachDrawByItself) {
  const PanelInput panel = Worked();
  PanelResult result = AnalyzePanel(panel, {.resamples = 100});
  CellResult& cell = result.configurations[2].cells[0];
  cell.recovery.value = 1 - 6.6 / 12;  // few units leave it undefined
  AddSpreads(panel, AverageReplicates(panel), result);
  // 1 - 2.6/4 and 1 - 4/8.
  ASSERT_TRUE(cell.recovery_spread);
  EXPECT_DOUBLE_EQ(cell.recovery_spread->mean, (0.35 + 0.5) / 2);
  EXPECT_NEAR(cell.recovery_spread->standard_deviation, 0.15 / std::sqrt(2.0),
              1e-12);
}

// The interval is that of documents whose draws were averaged: one that k
// independent draws of a document would narrow is not what is resampled.
TEST(AnalyzePanel, ResamplesDocuments_NotDraws) {
  const PanelInput panel = SyntheticPanel({.units = 20, .layers = 3});
  PanelInput twice = panel;
  twice.rows.clear();
  twice.replicates = {0, 1};
  for (ConfigurationInput& configuration : twice.configurations) {
    configuration.replicates = {{0, configuration.digest}};
    if (!configuration.baseline) {
      configuration.replicates.push_back({1, configuration.digest + "'"});
    }
  }
  for (Row row : panel.rows) {
    twice.rows.push_back(row);
    if (row.configuration > 0) {
      row.replicate = 1;
      twice.rows.push_back(row);
    }
  }
  const PanelResult one = AnalyzePanel(panel, {.resamples = 500});
  const PanelResult two = AnalyzePanel(twice, {.resamples = 500});
  for (size_t c = 1; c < panel.configurations.size(); ++c) {
    const CellResult& a = one.configurations[c].cells[1];
    const CellResult& b = two.configurations[c].cells[1];
    EXPECT_DOUBLE_EQ(*a.delta_nll.low, *b.delta_nll.low);
    EXPECT_DOUBLE_EQ(*a.delta_nll.high, *b.delta_nll.high);
    EXPECT_FALSE(a.delta_nll_spread);
    EXPECT_NEAR(b.delta_nll_spread->standard_deviation, 0, 1e-15);
    EXPECT_EQ(one.configurations[c].rank, two.configurations[c].rank);
  }
  EXPECT_THAT(one.notes.back(), HasSubstr("this rounding only"));
}

}  // namespace
}  // namespace qsweep::analysis
