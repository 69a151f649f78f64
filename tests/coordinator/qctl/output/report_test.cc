#include "coordinator/qctl/output/report.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/qctl/output/results_svg.h"
#include "coordinator/qctl/output/svg.h"
#include "coordinator/qctl/output/verdict_text.h"
#include "tests/coordinator/qctl/output/sample_results.h"

namespace qsweep::qctl {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

size_t Count(const std::string& text, const std::string& part) {
  const std::vector<std::string> between = absl::StrSplit(text, part);
  return between.size() - 1;
}

std::string SampleReport() {
  return RenderReport(SampleResults(), {.command = "qctl report 12",
                                        .rows_csv = "model,nll_sum\na,1.5\n",
                                        .created_at = "2026-11-25T12:00:00Z",
                                        .unit = "article",
                                        .language_names = {{"arb", "Arabic"}}});
}

TEST(VerdictSentences, SayTrustGapsAndLayers) {
  EXPECT_THAT(
      VerdictSentences(SampleResults().panels(0), "eng", "article"),
      ElementsAre(
          "This is a pilot of 28 articles (n_eff 15.2) on a model that was "
          "quantized before.",
          "With nothing protected, rus lose more than eng; arb cannot be "
          "judged "
          "(the units disagree) against eng.",
          "L0 (18.0% of the loss in eng) takes back more than the average "
          "layer "
          "when protected; 2 of 4 layers cannot be told from it (about 160 "
          "more articles would tell half of them)."));
}

TEST(RenderReport, MakesNoRequest) {
  const std::string html = SampleReport();
  EXPECT_THAT(html, HasSubstr("default-src 'none'"));
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("@import")));
  // Every link stays in the page or carries its content.
  for (const std::string attribute : {"src=\"", "href=\""}) {
    EXPECT_EQ(Count(html, attribute),
              Count(html, attribute + "#") + Count(html, attribute + "data:"));
  }
  EXPECT_EQ(Count(html, "url("), Count(html, "url(#"));
}

TEST(RenderReport, HasATableBehindEveryPicture) {
  const std::string html = SampleReport();
  EXPECT_EQ(Count(html, "role=\"img\""), 2u);
  EXPECT_EQ(Count(html, "<figure>"), 2u);
  EXPECT_EQ(
      Count(absl::StrReplaceAll(html, {{"\n", ""}}), "</figure><details>"), 2u);
  EXPECT_THAT(html, HasSubstr("+1.00 [-4.00, 6.00] ?"));
  EXPECT_EQ(Count(html, "<table>"), Count(html, "tabindex=\"0\""));
  EXPECT_EQ(Count(html, "<table>"), Count(html, "<caption>"));
}

TEST(RenderReport, EscapesWhatUsersNamed) {
  const std::string html = SampleReport();
  EXPECT_THAT(html, HasSubstr("first &lt;sweep&gt;"));
  EXPECT_THAT(html, Not(HasSubstr("<sweep>")));
}

TEST(RenderReport, CarriesItsRowsAndProvenance) {
  const std::string html = SampleReport();
  const std::vector<std::string> around = absl::StrSplit(
      html, "download=\"rows-job12.csv\" href=\"data:text/csv;base64,");
  ASSERT_EQ(around.size(), 2u);
  std::string rows;
  ASSERT_TRUE(
      absl::Base64Unescape(around[1].substr(0, around[1].find('"')), &rows));
  EXPECT_EQ(rows, "model,nll_sum\na,1.5\n");
  EXPECT_THAT(html, HasSubstr("qctl report 12"));
  EXPECT_THAT(html, HasSubstr(std::string(64, 'a')));
  EXPECT_THAT(html, HasSubstr("Arabic (arb)"));
}

TEST(RenderReport, SaysSo_WhenThereIsNothing) {
  EXPECT_THAT(RenderReport({}, {}), HasSubstr("No results yet."));
}

TEST(HeatmapSvg, HatchesWhatIsNotSignificant) {
  const std::string svg =
      HeatmapSvg(MakeHeatmap(SampleResults().panels(0)), {"command: a & b"});
  // Six cells of L1 and L2, and the legend.
  EXPECT_EQ(Count(svg, "fill=\"url(#qs-hatch)\""), 7u);
  EXPECT_EQ(Count(svg, ">not learned</text>"), 4u);
  EXPECT_THAT(svg, HasSubstr("class=\"plus\" fill-opacity=\"0.94\""));
  EXPECT_THAT(svg, HasSubstr("command: a &amp; b"));
  EXPECT_EQ(HeatmapSvg({}, {}), "");
}

TEST(LayerBarsSvg, DrawsABarWithItsIntervalPerLayer) {
  const std::string svg =
      LayerBarsSvg(MakeLayerBars(SampleResults().panels(0)), {});
  EXPECT_EQ(Count(svg, "class=\"whisker\""), 12u);
  EXPECT_EQ(Count(svg, "class=\"plus\""), 1u);
  EXPECT_EQ(Count(svg, "class=\"minus\""), 1u);
  EXPECT_EQ(Count(svg, "class=\"flat\""), 2u);
  EXPECT_THAT(svg, HasSubstr("+12.0 [5.00, 19.0]"));
  EXPECT_EQ(LayerBarsSvg({}, {}), "");
}

TEST(LayerBarsSvg, ShowsTheSpreadBetweenReplicates_WhereThereIsOne) {
  std::vector<LayerBar> bars = MakeLayerBars(SampleResults().panels(0));
  ASSERT_GE(bars.size(), 2u);
  const std::string without = LayerBarsSvg(bars, {});
  EXPECT_EQ(Count(without, "class=\"spread\""), 0u);
  EXPECT_THAT(without, Not(HasSubstr("SD")));
  bars[0].contrast_sd = 0.0345;
  const std::string one = LayerBarsSvg(bars, {});
  EXPECT_EQ(Count(one, "class=\"spread\""), 1u);
  EXPECT_THAT(one, HasSubstr("] SD 3.45"));
  EXPECT_THAT(one, HasSubstr("between the roundings"));
  // Drawn inside, however wide it is.
  bars[0].contrast_sd = 10;
  EXPECT_THAT(LayerBarsSvg(bars, {}), HasSubstr("-1000"));
}

TEST(EscapeXml, LeavesNoMarkupAndNoControlCharacters) {
  EXPECT_EQ(EscapeXml("a<b>\"&'\x01"), "a&lt;b&gt;&quot;&amp;&#39;?");
}

}  // namespace
}  // namespace qsweep::qctl
