#include "coordinator/analysis/analyze.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/random.h"
#include "coordinator/analysis/names.h"
#include "tests/coordinator/analysis/synthetic_panel.h"

namespace qsweep::analysis {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr int kBaseline = 0;
constexpr int kNone = 1;
constexpr int kLayer0 = 2;
constexpr double kLn2 = std::numbers::ln2;

const CellResult& Cell(const PanelResult& result, int configuration,
                       int language) {
  return result.configurations.at(static_cast<size_t>(configuration))
      .cells.at(static_cast<size_t>(language));
}

// Two documents, each `copies` times, so that sums are easy and intervals exist
// where copies > 2. English is the reference.
PanelInput HandTable(int copies) {
  struct Document {
    uint64_t tokens, bytes;
    double fp, none, layer0, layer1;
  };
  const Document english[] = {{10, 40, 30, 33, 31, 33},
                              {30, 100, 70, 75, 74, 75}};
  const Document hebrew[] = {{20, 80, 60, 72, 66, 72},
                             {60, 220, 140, 158, 150, 158}};
  PanelInput panel =
      SyntheticPanel({.units = 1, .layers = 2, .languages = {"eng", "heb"}});
  panel.rows.clear();
  for (int language = 0; language < 2; ++language) {
    for (int unit = 0; unit < 2 * copies; ++unit) {
      const Document& document =
          language == 0 ? english[unit % 2] : hebrew[unit % 2];
      const double sums[] = {document.fp, document.none, document.layer0,
                             document.layer1};
      for (int c = 0; c < 4; ++c) {
        Row row;
        row.configuration = c;
        row.language = language;
        row.unit = absl::StrCat("u", unit);
        row.nll_sum = sums[c];
        row.nll_fp_sum = document.fp;
        row.unigram_nll_sum = 8.0 * static_cast<double>(document.tokens);
        row.tokens = document.tokens;
        row.bytes = row.bytes_scored = document.bytes;
        row.kl_sum = c == 0 ? 0 : 4;
        row.top1 =
            static_cast<double>(c == 0 ? document.tokens : document.tokens / 2);
        panel.rows.push_back(row);
      }
    }
  }
  return panel;
}

// C23.
TEST(AnalyzePanel, GivesTheHandTable) {
  const PanelResult result = AnalyzePanel(HandTable(1), {});
  const CellResult& english = Cell(result, kNone, 0);
  EXPECT_NEAR(*english.delta_nll.value, 8.0 / 40, 1e-12);
  EXPECT_NEAR(*english.bits_per_unit.value, 8 / (2 * kLn2), 1e-12);
  EXPECT_NEAR(*english.relative_loss.value, 0.08, 1e-12);
  EXPECT_NEAR(*english.bits_per_byte.value, 8 / (140 * kLn2), 1e-12);
  EXPECT_NEAR(*english.ppl, std::exp(108.0 / 40), 1e-12);
  EXPECT_NEAR(*english.degradation_percent, 100 * std::expm1(0.2), 1e-12);
  const CellResult& hebrew = Cell(result, kNone, 1);
  EXPECT_NEAR(*hebrew.gap_bits_per_unit.value, 22 / (2 * kLn2), 1e-12);
  EXPECT_NEAR(*hebrew.gap_relative_loss.value, 0.15 - 0.08, 1e-12);
  EXPECT_NEAR(*hebrew.gap_delta_nll.value, 30.0 / 80 - 0.2, 1e-12);
  EXPECT_NEAR(*hebrew.gap_bits_per_byte.value, (0.1 - 8.0 / 140) / kLn2, 1e-12);
  // Hebrew loses 12 and 18, so the error of its mean is 3.
  EXPECT_NEAR(*hebrew.bits_per_unit.standard_error, 3 / kLn2, 1e-12);
  EXPECT_NEAR(*hebrew.kl_per_token, 0.1, 1e-12);
  EXPECT_NEAR(*hebrew.top1_agreement, 0.5, 1e-12);
  EXPECT_NEAR(*hebrew.disparity, std::expm1(0.375) / std::expm1(0.2), 1e-12);
  EXPECT_EQ(hebrew.bits_per_unit.status, EstimateStatus::kFewUnits);
  EXPECT_EQ(hebrew.verdict, Verdict::kNone);
  EXPECT_THAT(hebrew.flags, ElementsAre("short"));
  EXPECT_EQ(result.units, 2u);
}

TEST(AnalyzePanel, GivesRecoveryAndItsContrasts) {
  const PanelResult result = AnalyzePanel(HandTable(4), {.resamples = 400});
  EXPECT_NEAR(*Cell(result, kLayer0, 0).recovery.value, 1 - 5.0 / 8, 1e-12);
  const CellResult& hebrew = Cell(result, kLayer0, 1);
  EXPECT_NEAR(*hebrew.recovery.value, 1 - 16.0 / 30, 1e-12);
  // Layer 1 recovers nothing, so the average recovers half of layer 0.
  EXPECT_NEAR(*hebrew.recovery_contrast.value, (1 - 16.0 / 30) / 2, 1e-12);
  EXPECT_NEAR(*hebrew.interaction.value, 5.0 / 8 - 16.0 / 30, 1e-12);
  EXPECT_EQ(Cell(result, kLayer0, 0).interaction.status,
            EstimateStatus::kReference);
  EXPECT_EQ(Cell(result, kNone, 1).recovery.status, EstimateStatus::kAnchor);
  EXPECT_EQ(Cell(result, kBaseline, 1).delta_nll.status,
            EstimateStatus::kBaseline);
  const ConfigurationResult& layer0 = result.configurations[kLayer0];
  EXPECT_EQ(layer0.worst_language, "eng");
  EXPECT_EQ(layer0.rank, 1);
  EXPECT_EQ(result.configurations[3].rank, 2);
  // The reference was harmed by layer 0 less than by none: the anchor is its
  // own loss. Were it harmed more, `none` would be.
  EXPECT_NEAR(*hebrew.anchored_gap_bits_per_unit.value,
              *hebrew.gap_bits_per_unit.value, 1e-12);
}

TEST(AnalyzePanel, AnchorsTheGapAtNone_WhenTheReferenceIsHarmed) {
  PanelInput panel = HandTable(4);
  for (int unit = 0; unit < 8; ++unit) {
    RowAt(panel, kLayer0, 0, absl::StrCat("u", unit)).nll_sum += 50;
  }
  const PanelResult result = AnalyzePanel(panel, {.resamples = 200});
  const CellResult& hebrew = Cell(result, kLayer0, 1);
  EXPECT_LT(*hebrew.gap_bits_per_unit.value, 0);
  EXPECT_NEAR(*hebrew.anchored_gap_bits_per_unit.value,
              (16.0 / 2 - 8.0 / 2) / kLn2, 1e-12);
  EXPECT_NEAR(*hebrew.anchored_gap_relative_loss.value, 16.0 / 200 - 0.08,
              1e-12);
}

TEST(AnalyzePanel, RecoversAPlantedEffect) {
  const PanelResult result =
      AnalyzePanel(SyntheticPanel({.units = 60,
                                   .layers = 8,
                                   .loss = {0.2, 0.4, 0.2},
                                   .recovery = {0.02, 0.02, 0.30},
                                   .noise = 0.05}),
                   {.resamples = 2000});
  const ConfigurationResult& planted = result.configurations[2 + 2];
  EXPECT_EQ(planted.rank, 1);
  EXPECT_EQ(planted.group, 1);
  EXPECT_EQ(planted.standing, Standing::kAbove);
  EXPECT_GE(result.resolved_ranks, 1);
  for (const CellResult& cell : planted.cells) {
    EXPECT_LT(*cell.recovery.low, 0.30);
    EXPECT_GT(*cell.recovery.high, 0.30);
    EXPECT_GT(*cell.recovery_contrast.low, 0);
  }
  // The second language loses twice as much, relative to what it had.
  EXPECT_EQ(Cell(result, kNone, 1).verdict, Verdict::kWorse);
  EXPECT_LT(*Cell(result, kNone, 1).gap_relative_loss.low, 0.2 / 3);
  EXPECT_GT(*Cell(result, kNone, 1).gap_relative_loss.high, 0.2 / 3);
  EXPECT_EQ(result.languages[1].units_more, 0u);
}

TEST(AnalyzePanel, RanksNothingBelowThreeTimesTheNoise) {
  // Layer 2 takes back 0.27 of 0.2 nats more than the others.
  PanelInput panel = SyntheticPanel({.units = 60,
                                     .layers = 8,
                                     .languages = {"eng", "deu"},
                                     .loss = {0.2, 0.4},
                                     .recovery = {0.02, 0.02, 0.30},
                                     .noise = 0.05});
  constexpr int kPlanted = 2 + 2;
  panel.noise_floor = 0.01;
  const PanelResult told = AnalyzePanel(panel, {.resamples = 500});
  EXPECT_EQ(told.configurations[kPlanted].standing, Standing::kAbove);
  EXPECT_GE(told.resolved_ranks, 1);
  EXPECT_THAT(told.configurations[kPlanted].flags,
              Not(Contains("below_noise")));
  EXPECT_THAT(told.configurations[kLayer0].flags, Contains("below_noise"));
  EXPECT_EQ(told.configurations[kLayer0].standing, Standing::kNotTold);
  EXPECT_THAT(told.notes, Contains(HasSubstr("1.0e-02 nats per token")));
  panel.noise_floor = 0.02;
  const PanelResult untold = AnalyzePanel(panel, {.resamples = 500});
  const ConfigurationResult& planted = untold.configurations[kPlanted];
  EXPECT_EQ(planted.standing, Standing::kNotTold);
  EXPECT_THAT(planted.flags, Contains("below_noise"));
  EXPECT_EQ(planted.rank, 1);
  EXPECT_EQ(planted.group, 1);
  EXPECT_EQ(untold.configurations[kLayer0].group, 1);
  EXPECT_EQ(untold.resolved_ranks, 0);
  // The estimates themselves stay.
  EXPECT_EQ(*planted.average_contrast.low,
            *told.configurations[kPlanted].average_contrast.low);
}

TEST(AnalyzePanel, RecoversNothing_WhereTheLossIsBelowTheNoise) {
  PanelInput panel = SyntheticPanel(
      {.loss = {0.3, 0.3, 0.01}, .noise = 0.01, .varied_lengths = false});
  panel.noise_floor = 0.005;
  const PanelResult result = AnalyzePanel(panel, {.resamples = 200});
  const CellResult& cell = Cell(result, kLayer0, 2);
  EXPECT_EQ(cell.recovery.status, EstimateStatus::kBelowNoise);
  EXPECT_EQ(cell.interaction.status, EstimateStatus::kBelowNoise);
  EXPECT_THAT(cell.flags, Contains("below_noise"));
  EXPECT_TRUE(cell.delta_nll.low.has_value());
  EXPECT_THAT(Cell(result, kLayer0, 1).flags, Not(Contains("below_noise")));
  for (const ConfigurationResult& configuration : result.configurations) {
    EXPECT_NE(configuration.worst_language, "arb");
  }
}

TEST(AnalyzePanel, GivesNoVerdict_WhenTheNoiseCouldMakeTheGap) {
  PanelInput panel = SyntheticPanel({.units = 60,
                                     .languages = {"eng", "deu"},
                                     .loss = {0.2, 0.26},
                                     .noise = 0.01});
  const auto verdict = [&](double noise_floor) {
    panel.noise_floor = noise_floor;
    return Cell(AnalyzePanel(panel, {.resamples = 200}), kNone, 1).verdict;
  };
  EXPECT_EQ(verdict(0), Verdict::kWorse);
  EXPECT_EQ(verdict(0.009), Verdict::kWorse);  // 0.06 > 2 * 3 * 0.009
  EXPECT_EQ(verdict(0.011), Verdict::kNotResolved);
}

// The same loss per unit is a small share in a language that started high.
TEST(AnalyzePanel, GivesNoVerdict_WhenTheUnitsDisagree) {
  PanelInput panel = SyntheticPanel({.units = 40,
                                     .languages = {"eng", "arb"},
                                     .loss = {0.3, 0.33},
                                     .noise = 0.03,
                                     .varied_lengths = false});
  for (Row& row : panel.rows) {
    if (row.language == 1) {
      const double loss = row.nll_sum - row.nll_fp_sum;
      row.nll_fp_sum *= 2;
      row.nll_sum = row.nll_fp_sum + loss;
    }
  }
  const PanelResult result = AnalyzePanel(panel, {.resamples = 1000});
  const CellResult& cell = Cell(result, kNone, 1);
  EXPECT_GT(*cell.gap_bits_per_unit.low, 0);
  EXPECT_LT(*cell.gap_relative_loss.high, 0);
  EXPECT_EQ(cell.verdict, Verdict::kUnitConflict);
  EXPECT_THAT(cell.flags, Contains("unit_conflict"));
  EXPECT_EQ(result.languages[1].units_more, std::nullopt);
}

TEST(AnalyzePanel, ExcludesUnlearnedLanguages) {
  PanelInput panel = SyntheticPanel({});
  for (Row& row : panel.rows) {
    if (row.language == 2) {
      row.unigram_nll_sum =
          row.nll_fp_sum + 0.2 * static_cast<double>(row.tokens);
    }
  }
  const PanelResult result = AnalyzePanel(panel, {.resamples = 200});
  EXPECT_EQ(result.languages[2].status, EstimateStatus::kUnlearned);
  EXPECT_THAT(result.languages[2].flags, Contains("unlearned"));
  const CellResult& cell = Cell(result, kLayer0, 2);
  EXPECT_TRUE(cell.delta_nll.value.has_value());
  EXPECT_EQ(cell.recovery.status, EstimateStatus::kUnlearned);
  EXPECT_EQ(cell.gap_bits_per_unit.status, EstimateStatus::kUnlearned);
  EXPECT_EQ(cell.verdict, Verdict::kNone);
  EXPECT_TRUE(cell.ppl.has_value());
  EXPECT_EQ(cell.degradation_percent, std::nullopt);
  EXPECT_EQ(cell.disparity, std::nullopt);
  EXPECT_EQ(result.configurations[kLayer0].average_disparity,
            Cell(result, kLayer0, 1).disparity);
  for (const ConfigurationResult& configuration : result.configurations) {
    EXPECT_NE(configuration.worst_language, "arb");
  }
  EXPECT_THAT(result.notes, Contains(HasSubstr("excluded: arb.")));
}

TEST(AnalyzePanel, HasNoGaps_WhenTheReferenceIsUnlearned) {
  PanelInput panel = SyntheticPanel({});
  for (Row& row : panel.rows) {
    if (row.language == 0) {
      row.unigram_nll_sum = row.nll_fp_sum;
    }
  }
  const PanelResult result = AnalyzePanel(panel, {.resamples = 200});
  const CellResult& cell = Cell(result, kLayer0, 1);
  EXPECT_EQ(cell.gap_relative_loss.status, EstimateStatus::kReferenceUnlearned);
  EXPECT_EQ(cell.interaction.status, EstimateStatus::kReferenceUnlearned);
  EXPECT_TRUE(cell.degradation_percent.has_value());
  EXPECT_EQ(cell.disparity, std::nullopt);
  EXPECT_TRUE(cell.recovery.low.has_value());
  EXPECT_GT(result.configurations[kLayer0].rank, 0);
}

TEST(AnalyzePanel, HasNoGaps_WhenTheReferenceIsNotAmongTheLanguages) {
  PanelInput panel = SyntheticPanel({});
  panel.reference = -1;
  const PanelResult result = AnalyzePanel(panel, {.resamples = 200});
  const CellResult& cell = Cell(result, kLayer0, 1);
  EXPECT_EQ(cell.gap_relative_loss.status, EstimateStatus::kReferenceMissing);
  EXPECT_EQ(cell.disparity, std::nullopt);
  EXPECT_GT(result.configurations[kLayer0].rank, 0);
}

// C27.
TEST(AnalyzePanel, FlagsACollapse_AndStaysFinite) {
  PanelInput panel = SyntheticPanel({});
  for (Row& row : panel.rows) {
    if (row.configuration == kLayer0) {
      row.nll_sum = 800.0 * static_cast<double>(row.tokens);
    }
  }
  const PanelResult result = AnalyzePanel(panel, {.resamples = 200});
  const CellResult& cell = Cell(result, kLayer0, 1);
  EXPECT_NEAR(*cell.delta_nll.value, 797, 1);
  EXPECT_TRUE(std::isfinite(*cell.delta_nll.high));
  EXPECT_TRUE(std::isfinite(*cell.recovery.low));
  EXPECT_TRUE(std::isinf(*cell.ppl));
  EXPECT_TRUE(std::isfinite(*cell.disparity));
  EXPECT_THAT(cell.flags, Contains("collapsed"));
  EXPECT_THAT(Cell(result, kNone, 1).flags, Not(Contains("collapsed")));
}

TEST(AnalyzePanel, FlagsACollapse_WhenAgreementIsLost) {
  PanelInput panel = SyntheticPanel({});
  for (Row& row : panel.rows) {
    if (row.configuration == kNone) {
      row.top1 = static_cast<double>(row.tokens / 4);
    }
  }
  const PanelResult result = AnalyzePanel(panel, {.resamples = 50});
  EXPECT_THAT(Cell(result, kNone, 1).flags, Contains("collapsed"));
}

TEST(AnalyzePanel, FlagsAReferenceThatDidNotDegrade) {
  const PanelInput panel =
      SyntheticPanel({.loss = {-0.2, 0.3, 0.3}, .noise = 0.01});
  const PanelResult one = AnalyzePanel(panel, {.resamples = 50});
  EXPECT_THAT(Cell(one, kNone, 1).flags, Contains("ref_nonpos"));
  EXPECT_NEAR(*Cell(one, kNone, 1).disparity,
              *Cell(one, kNone, 1).degradation_percent, 1e-9);
  const PanelResult inf =
      AnalyzePanel(panel, {.ref_rule = RefRule::kInf, .resamples = 50});
  EXPECT_EQ(Cell(inf, kNone, 1).disparity, std::nullopt);
  EXPECT_EQ(inf.configurations[kNone].average_disparity, std::nullopt);
  // A loss that is no loss leaves nothing to recover.
  EXPECT_EQ(Cell(one, kLayer0, 0).recovery.status, EstimateStatus::kUndefined);
}

TEST(AnalyzePanel, GivesNoNumbers_WhenTokensAreNotFinite) {
  PanelInput panel = SyntheticPanel({});
  RowAt(panel, kLayer0, 1, "u3").nonfinite = 2;
  const PanelResult result = AnalyzePanel(panel, {.resamples = 50});
  const CellResult& cell = Cell(result, kLayer0, 1);
  EXPECT_EQ(cell.delta_nll.status, EstimateStatus::kNonfinite);
  EXPECT_EQ(cell.delta_nll.value, std::nullopt);
  EXPECT_THAT(cell.flags, Contains("nonfinite"));
  EXPECT_TRUE(cell.ppl.has_value());
  EXPECT_EQ(cell.degradation_percent, std::nullopt);
  EXPECT_EQ(cell.disparity, std::nullopt);
  EXPECT_EQ(result.configurations[kLayer0].average_disparity,
            Cell(result, kLayer0, 2).disparity);
  EXPECT_EQ(result.configurations[kLayer0].rank, 0);
  EXPECT_GT(result.configurations[kLayer0 + 1].rank, 0);

  RowAt(panel, kBaseline, 1, "u4").nonfinite = 1;
  const PanelResult baseline = AnalyzePanel(panel, {.resamples = 50});
  EXPECT_EQ(baseline.languages[1].status, EstimateStatus::kNonfinite);
  EXPECT_EQ(Cell(baseline, kNone, 1).delta_nll.status,
            EstimateStatus::kNonfinite);
  EXPECT_GT(baseline.configurations[kLayer0].rank, 0);  // by the other two
}

TEST(AnalyzePanel, SaysWhatItCan_WhileRowsAreMissing) {
  PanelInput panel = SyntheticPanel({});
  const size_t all = panel.rows.size();
  std::erase_if(panel.rows, [](const Row& row) {
    return row.configuration == kLayer0 + 1 && row.unit < "u2";
  });
  const PanelResult result = AnalyzePanel(panel, {.resamples = 200});
  EXPECT_EQ(result.rows_expected, all);
  EXPECT_EQ(result.rows, panel.rows.size());
  EXPECT_EQ(result.units, 30u);
  EXPECT_EQ(result.configurations[kLayer0 + 1].rows_missing,
            all - panel.rows.size());
  EXPECT_EQ(Cell(result, kLayer0 + 1, 1).recovery.status,
            EstimateStatus::kPending);
  EXPECT_EQ(Cell(result, kLayer0 + 1, 1).ppl, std::nullopt);
  EXPECT_EQ(result.configurations[kLayer0 + 1].rank, 0);
  EXPECT_TRUE(Cell(result, kLayer0, 1).recovery.low.has_value());
  EXPECT_EQ(result.single_layers, 5);
  EXPECT_THAT(result.notes, Contains(HasSubstr("rows are there")));
}

TEST(AnalyzePanel, LeavesOutAUnit_WhenALanguageCannotUseIt) {
  PanelInput panel = SyntheticPanel({});
  for (Row& row : panel.rows) {
    if (row.language == 2 && row.unit == "u7") {
      row.status = RowStatus::kOneToken;
    }
  }
  PanelInput without = panel;
  std::erase_if(without.rows, [](const Row& row) { return row.unit == "u7"; });
  const PanelResult result = AnalyzePanel(panel, {.resamples = 200});
  EXPECT_EQ(result.units, 29u);
  EXPECT_EQ(result.units_dropped, 1u);
  const PanelResult expected = AnalyzePanel(without, {.resamples = 200});
  EXPECT_EQ(Cell(result, kNone, 1).gap_bits_per_unit.low,
            Cell(expected, kNone, 1).gap_bits_per_unit.low);
}

TEST(AnalyzePanel, HandlesALanguageWithoutUsableRows) {
  PanelInput panel = SyntheticPanel({});
  for (Row& row : panel.rows) {
    if (row.language == 1) {
      row = Row{.configuration = row.configuration,
                .language = 1,
                .unit = row.unit,
                .status = RowStatus::kEmpty};
    }
  }
  const PanelResult result = AnalyzePanel(panel, {.resamples = 50});
  EXPECT_EQ(result.languages[1].status, EstimateStatus::kNoRows);
  EXPECT_EQ(Cell(result, kNone, 1).gap_bits_per_unit.status,
            EstimateStatus::kNoRows);
  EXPECT_EQ(result.units, 30u);
  EXPECT_TRUE(Cell(result, kNone, 2).gap_bits_per_unit.low.has_value());
}

TEST(AnalyzePanel, SurvivesAPanelWithoutRows) {
  PanelInput panel = SyntheticPanel({});
  panel.rows.clear();
  panel.rows_expected = 90;
  const PanelResult result = AnalyzePanel(panel, {.resamples = 50});
  EXPECT_EQ(result.units, 0u);
  EXPECT_EQ(result.rows_expected, 90u);
  EXPECT_EQ(Cell(result, kNone, 0).delta_nll.status, EstimateStatus::kNoRows);
  EXPECT_THAT(result.flags, ElementsAre("exploratory"));
  panel.configurations.clear();
  panel.languages.clear();
  panel.reference = -1;
  EXPECT_THAT(AnalyzePanel(panel, {}).configurations, IsEmpty());
}

TEST(AnalyzePanel, GivesNoVerdict_BelowTwelveEffectiveUnits) {
  const PanelResult result = AnalyzePanel(
      SyntheticPanel(
          {.units = 11, .loss = {0.1, 0.9, 0.9}, .varied_lengths = false}),
      {.resamples = 500});
  EXPECT_NEAR(result.n_eff, 11, 1e-9);
  EXPECT_THAT(result.flags, Contains("exploratory"));
  EXPECT_GT(*Cell(result, kNone, 1).gap_bits_per_unit.low, 0);
  EXPECT_EQ(Cell(result, kNone, 1).verdict, Verdict::kExploratory);
}

TEST(AnalyzePanel, HasNoUnitGaps_WhenTokensAreLeftUnscored) {
  PanelInput panel = SyntheticPanel({});
  panel.evaluation = "hf-text@1;tok=00";
  const PanelResult result = AnalyzePanel(panel, {.resamples = 200});
  const CellResult& cell = Cell(result, kNone, 1);
  EXPECT_TRUE(cell.gap_delta_nll.low.has_value());
  EXPECT_EQ(cell.gap_bits_per_unit.status, EstimateStatus::kUndefined);
  EXPECT_EQ(cell.relative_loss.status, EstimateStatus::kUndefined);
  EXPECT_EQ(cell.verdict, Verdict::kNone);
  EXPECT_GT(result.configurations[kLayer0].rank, 0);
}

TEST(AnalyzePanel, ReportsAPrequantizedModel) {
  PanelInput panel = SyntheticPanel({});
  panel.prequantized = "prequantized";
  const PanelResult result = AnalyzePanel(panel, {.resamples = 50});
  EXPECT_THAT(result.flags, Contains("prequantized"));
  EXPECT_THAT(result.notes, Contains(HasSubstr("Re-quantization")));
}

// Rows come in any order; languages are shown in the order asked for.
TEST(AnalyzePanel, DoesNotDependOnTheOrderOfRowsAndLanguages) {
  const PanelInput panel = SyntheticPanel({});
  PanelInput shuffled = panel;
  Random random(3);
  for (size_t i = shuffled.rows.size(); i > 1; --i) {
    std::swap(shuffled.rows[i - 1], shuffled.rows[random.Below(i)]);
  }
  std::swap(shuffled.languages[1], shuffled.languages[2]);
  for (Row& row : shuffled.rows) {
    row.language = row.language == 0 ? 0 : 3 - row.language;
  }
  const PanelResult a = AnalyzePanel(panel, {.resamples = 300, .seed = 8});
  const PanelResult b = AnalyzePanel(shuffled, {.resamples = 300, .seed = 8});
  for (int c = 0; c < 8; ++c) {
    const ConfigurationResult& x = a.configurations[static_cast<size_t>(c)];
    const ConfigurationResult& y = b.configurations[static_cast<size_t>(c)];
    EXPECT_EQ(x.rank, y.rank);
    EXPECT_EQ(x.group, y.group);
    EXPECT_EQ(x.worst_language, y.worst_language);
    EXPECT_EQ(x.average_contrast.low, y.average_contrast.low);
    for (int l = 0; l < 3; ++l) {
      const CellResult& p = Cell(a, c, l);
      const CellResult& q = Cell(b, c, l == 0 ? 0 : 3 - l);
      EXPECT_EQ(p.recovery.low, q.recovery.low);
      EXPECT_EQ(p.interaction.high, q.interaction.high);
      EXPECT_EQ(p.gap_bits_per_unit.low, q.gap_bits_per_unit.low);
    }
  }
}

// The units of one language dealt into two: whatever gap is claimed is false.
// Everything a panel says, bit by bit.
std::string Dump(const PanelResult& result) {
  std::string text = absl::StrCat(result.resolved_ranks, "\n");
  const auto add = [&text](const Estimate& estimate) {
    for (const std::optional<double>& number :
         {estimate.value, estimate.low, estimate.high,
          estimate.standard_error}) {
      absl::StrAppend(&text, number ? absl::StrFormat("%a ", *number) : "- ");
    }
    absl::StrAppend(&text, StatusName(estimate.status), "\n");
  };
  for (const ConfigurationResult& configuration : result.configurations) {
    absl::StrAppend(&text, configuration.rank, " ", configuration.group, "\n");
    add(configuration.average_contrast);
    add(configuration.worst_recovery);
    for (const CellResult& cell : configuration.cells) {
      add(cell.delta_nll);
      add(cell.recovery);
      add(cell.recovery_contrast);
      add(cell.interaction);
      add(cell.gap_relative_loss);
    }
  }
  return text;
}

TEST(AnalyzePanel, GivesTheSameBits_HoweverManyThreadsWork) {
  const PanelInput panel = SyntheticPanel({.units = 20, .layers = 20});
  const Options options = {.resamples = 500, .seed = 3};
  const std::string alone = Dump(AnalyzePanel(panel, options));
  for (const size_t threads : {1, 2, 5}) {
    const auto result = AnalyzePanel(
        panel, options, {.for_each = [&](size_t count, const Work::Part& part) {
          std::vector<std::jthread> all;
          for (size_t t = 0; t < threads; ++t) {
            all.emplace_back([&, t] {
              for (size_t i = count; i-- > 0;) {  // in another order, too
                if (i % threads == t) {
                  part(i);
                }
              }
            });
          }
        }});
    ASSERT_TRUE(result.has_value());
    EXPECT_EQ(Dump(*result), alone) << threads;
  }
}

TEST(AnalyzePanel, GivesUpSoon_WhenItIsTold) {
  // Some 2,000 questions without a stop: at each of these something goes on.
  const PanelInput panel = SyntheticPanel({.units = 20, .layers = 20});
  const Options options = {.resamples = 20000, .seed = 3};
  for (const int patience : {0, 10, 100, 500, 1000}) {
    int asked = 0;
    const auto result = AnalyzePanel(
        panel, options, {.stop = [&] { return ++asked > patience; }});
    EXPECT_FALSE(result.has_value());
    // Parts that have not begun ask once each.
    EXPECT_LT(asked, patience + 400);
  }
}

TEST(AnalyzePanel, ClaimsNoGap_BetweenAMadeUpPairOfLanguages) {
  constexpr int kDeals = 200;
  int false_verdicts = 0;
  for (int deal = 0; deal < kDeals; ++deal) {
    Random random(static_cast<uint64_t>(1000 + deal));
    PanelInput panel = SyntheticPanel({.units = 60,
                                       .layers = 0,
                                       .languages = {"eng"},
                                       .seed = static_cast<uint64_t>(deal)});
    panel.languages = {"eng", "gne"};
    for (Row& row : panel.rows) {
      // Neighbours go to different sides, which one is drawn by their pair.
      const int unit = std::stoi(row.unit.substr(1));
      Random pair(static_cast<uint64_t>(deal * 1000 + unit / 2));
      row.language = (static_cast<int>(pair.Below(2)) + unit) % 2;
      row.unit = absl::StrCat("p", unit / 2);
    }
    const PanelResult result = AnalyzePanel(panel, {.resamples = 500});
    const Verdict verdict = Cell(result, kNone, 1).verdict;
    ASSERT_NE(verdict, Verdict::kNone);
    false_verdicts +=
        verdict == Verdict::kWorse || verdict == Verdict::kBetter ? 1 : 0;
  }
  EXPECT_LE(false_verdicts, kDeals / 20);
}

}  // namespace
}  // namespace qsweep::analysis
