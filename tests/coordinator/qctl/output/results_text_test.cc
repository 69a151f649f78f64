#include "coordinator/qctl/output/results_text.h"

#include <fstream>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/error.h"
#include "coordinator/qctl/output/closing_screen.h"
#include "coordinator/qctl/output/results_view.h"
#include "coordinator/qctl/output/text_width.h"
#include "tests/coordinator/qctl/output/sample_results.h"

namespace qsweep::qctl {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Golden(const std::string& name) {
  std::ifstream file(std::string(QSWEEP_SOURCE_DIR) + "/tests/golden/results/" +
                     name + ".txt");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(RenderConfigurations, LooksAsAgreed) {
  EXPECT_EQ(RenderConfigurations(SampleResults(), {}),
            Golden("configurations"));
}

TEST(RenderLayers, LooksAsAgreed) {
  EXPECT_EQ(RenderLayers(SampleResults(), {}), Golden("layers"));
}

TEST(RenderLanguages, SaysWhatEachLanguageCanShow) {
  const std::string text = RenderLanguages(SampleResults());
  EXPECT_THAT(text, HasSubstr("resolved"));
  EXPECT_THAT(text, HasSubstr("not learned"));
  EXPECT_THAT(text, HasSubstr("the units disagree: no verdict"));
}

TEST(RenderHeatmap, LooksAsAgreed_WithoutColour) {
  EXPECT_EQ(RenderHeatmap(SampleResults(), {}), Golden("heatmap"));
}

TEST(RenderClosingScreen, LooksAsAgreed) {
  EXPECT_EQ(
      RenderClosingScreen(
          SampleResults(),
          {.unit = "article", .next_commands = {"qctl results 12 --by layer"}}),
      Golden("closing_screen"));
}

TEST(RenderHeatmap, ColoursCellsAndWritesTheirValues) {
  const std::string text = RenderHeatmap(SampleResults(), {.color = true});
  EXPECT_THAT(text, HasSubstr("\x1b[48;5;25;38;5;231m"));  // strongest blue
  EXPECT_THAT(text, HasSubstr("+12.0 \x1b[0m"));
  EXPECT_THAT(text, HasSubstr("+1.00?\x1b[0m"));
  EXPECT_THAT(text, Not(HasSubstr("█")));
}

TEST(RenderHeatmap, KeepsItsColumns_WhateverTheScriptOfTheLabels) {
  v1::GetResultsResponse results = SampleResults();
  results.mutable_panels(0)->mutable_configurations(2)->set_layer_set("层零");
  const std::string text = RenderHeatmap(results, {});
  std::istringstream lines(text);
  std::string line;
  std::getline(lines, line);  // title
  std::getline(lines, line);  // heading
  const int width = TextWidth(line);
  for (int row = 0; row < 4; ++row) {
    std::getline(lines, line);
    EXPECT_EQ(TextWidth(line), width) << line;
  }
}

TEST(RenderHeatmap, ShowsRecovery_WhenNoLayerIsRanked) {
  v1::GetResultsResponse results = SampleResults();
  for (v1::ConfigurationResult& c :
       *results.mutable_panels(0)->mutable_configurations()) {
    c.clear_rank();
  }
  EXPECT_THAT(RenderHeatmap(results, {}),
              HasSubstr("Recovery of the loss at none"));
}

TEST(RenderLayers, SaysHowTheRoundingsDiffer_AsTheClosingScreenDoes) {
  v1::GetResultsResponse results = SampleResults();
  v1::ResultPanel& panel = *results.mutable_panels(0);
  for (const uint32_t replicate : {0, 1, 2}) {
    panel.add_replicates(replicate);
  }
  for (v1::ConfigurationResult& c : *panel.mutable_configurations()) {
    if (c.layer_set() == "L0") {
      c.mutable_average_contrast_spread()->set_standard_deviation(0.0345);
    }
  }
  const std::string text = RenderLayers(results, {});
  EXPECT_THAT(text, HasSubstr("; mean of 3 roundings; 95% intervals\n"));
  EXPECT_THAT(text, HasSubstr("; SD: of it, between the roundings\n"));
  EXPECT_THAT(text, ContainsRegex("AGAINST AVERAGE +SD, % +WORST, %"));
  EXPECT_THAT(text, ContainsRegex("L0 +\\+12.0 \\[5.00, 19.0\\] +3.45 +18.0"));
  EXPECT_THAT(text, Not(HasSubstr("this rounding only")));
  const std::string closing = RenderClosingScreen(results, {});
  EXPECT_THAT(closing, HasSubstr("and the mean of these 3 roundings."));
  EXPECT_THAT(closing,
              HasSubstr("[5.00, 19.0], SD 3.45 between 3 roundings\n"));
}

TEST(RenderLayers, SaysHowMuchIsShown) {
  EXPECT_THAT(RenderLayers(SampleResults(), {.top = 1}),
              HasSubstr("showing 1 of 4 layers"));
}

TEST(RenderLayers, SaysWhatMayBeNoise) {
  v1::GetResultsResponse results = SampleResults();
  EXPECT_THAT(RenderLayers(results, {}), Not(HasSubstr("arithmetic noise")));
  v1::ResultPanel& panel = *results.mutable_panels(0);
  panel.set_noise_floor(0.00123);
  EXPECT_THAT(RenderLayers(results, {}),
              HasSubstr("arithmetic noise in fp32: 1.2e-03 nats per token\n"));
  int layers = 0;
  for (v1::ConfigurationResult& c : *panel.mutable_configurations()) {
    if (c.has_layer() && ++layers == 1) {
      c.add_flags("below_noise");
    }
  }
  EXPECT_THAT(RenderLayers(results, {}),
              HasSubstr("nats per token; below three times that: L"));
}

TEST(RenderLayers, SaysWhatIsStillMissing) {
  v1::GetResultsResponse results = SampleResults();
  results.mutable_panels(0)->set_rows(300);
  EXPECT_THAT(RenderLayers(results, {}), HasSubstr("300 of 672 rows so far"));
  EXPECT_EQ(RenderLayers({}, {}), "no results yet\n");
}

TEST(RenderClosingScreen, LeadsWithExploratory_WhenUnitsAreFew) {
  v1::GetResultsResponse results = SampleResults();
  results.mutable_panels(0)->add_flags("exploratory");
  results.mutable_panels(0)->set_n_eff(8.9);
  v1::ConfigurationResult* none =
      results.mutable_panels(0)->mutable_configurations(1);
  none->mutable_cells(1)->set_verdict("exploratory");
  const std::string text = RenderClosingScreen(results, {});
  EXPECT_THAT(text, HasSubstr("Below 12: exploratory, no verdicts."));
  EXPECT_THAT(text, HasSubstr("exploratory: no verdict; unit_conflict"));
}

TEST(PivotTable, HasALanguagePerColumn_AndNothingForMissingValues) {
  const absl::StatusOr<Table> table =
      PivotTable(SampleResults(), "gap_bits_per_unit");
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(RenderDelimited(*table, ',', true),
            "model,protect,eng,arb,rus,swh\n"
            "SmolLM2-135M,L0,,10,20,\n"
            "SmolLM2-135M,L1,,10,20,\n"
            "SmolLM2-135M,L2,,10,20,\n"
            "SmolLM2-135M,L3,,10,20,\n"
            "SmolLM2-135M,none,,15.6,21.3,\n"
            "SmolLM2-135M,all,,,,\n");
  const absl::Status unknown = PivotTable(SampleResults(), "accuracy").status();
  EXPECT_EQ(GetErrorInfo(unknown)->code, "QS1004");
  EXPECT_THAT(GetErrorInfo(unknown)->hint, HasSubstr("recovery_contrast"));
}

TEST(NumberText, KeepsTwoOrThreeDigits) {
  EXPECT_EQ(NumberText(12345.6), "12,346");
  EXPECT_EQ(NumberText(123.4), "123");
  EXPECT_EQ(NumberText(12.34, true), "+12.3");
  EXPECT_EQ(NumberText(-0.0123), "-0.012");
  EXPECT_EQ(NumberText(1e-6), "1.0e-06");
  EXPECT_EQ(NumberText(-1e-17, true), "+0.00");
}

TEST(LayerList, JoinsRunsOfThree) {
  EXPECT_EQ(LayerList({7, 3, 4, 5, 9, 10, 0}), "L0, L3-5, L7, L9, L10");
  EXPECT_EQ(LayerList({}), "");
}

TEST(MoreText, RoundsToWhatItKnows) {
  EXPECT_EQ(MoreText(7, "unit"), "about 7 more units");
  EXPECT_EQ(MoreText(1, "unit"), "about 1 more unit");
  EXPECT_EQ(MoreText(163, "article"), "about 160 more articles");
  EXPECT_EQ(MoreText(9999, "unit"), "about 10,000 more units");
  EXPECT_EQ(MoreText(4294967295u, "unit"), "more than 100,000 more units");
}

}  // namespace
}  // namespace qsweep::qctl
