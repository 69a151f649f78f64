#include "coordinator/service/results_conversion.h"

#include <algorithm>

#include "gtest/gtest.h"

#include "common/base/digest.h"
#include "common/base/error.h"
#include "coordinator/analysis/analyze.h"
#include "tests/coordinator/analysis/synthetic_panel.h"

namespace qsweep {
namespace {

TEST(ResultsOptions, FillsInDefaults) {
  const auto options = ResultsOptions({}, 7);
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->confidence, 0.95);
  EXPECT_EQ(options->resamples, 10000);
  EXPECT_EQ(options->ref_rule, analysis::RefRule::kOne);
  EXPECT_EQ(options->seed, 7u);
}

TEST(ResultsOptions, NamesTheFieldThatIsWrong) {
  v1::GetResultsRequest request;
  request.set_ref_rule("two");
  EXPECT_EQ(GetErrorInfo(ResultsOptions(request, 0).status())->field,
            "ref_rule");
  request.set_ref_rule("inf");
  request.set_confidence(1.5);
  EXPECT_EQ(GetErrorInfo(ResultsOptions(request, 0).status())->field,
            "confidence");
  request.set_confidence(0.9);
  request.set_resamples(2000000);
  EXPECT_EQ(GetErrorInfo(ResultsOptions(request, 0).status())->field,
            "resamples");
  request.set_resamples(100);
  EXPECT_EQ(ResultsOptions(request, 0)->ref_rule, analysis::RefRule::kInf);
}

TEST(ResultsToProto, CarriesValuesIntervalsAndReasons) {
  const analysis::PanelInput panel = analysis::SyntheticPanel({});
  const analysis::Options options = {.resamples = 100, .seed = 3};
  const analysis::PanelResult result = AnalyzePanel(panel, options);
  const v1::GetResultsResponse response =
      ResultsToProto({&panel, 1}, {&result, 1}, options, "eng");
  EXPECT_EQ(response.reference(), "eng");
  EXPECT_EQ(response.rows(), panel.rows.size());
  EXPECT_EQ(response.seed(), 3u);
  ASSERT_EQ(response.panels_size(), 1);
  const v1::ResultPanel& out = response.panels(0);
  EXPECT_EQ(out.languages(2).language(), "arb");
  ASSERT_EQ(out.configurations_size(), 8);
  EXPECT_TRUE(out.configurations(0).baseline());
  EXPECT_TRUE(out.configurations(1).unprotected());
  EXPECT_EQ(out.configurations(2).layer(), 0u);
  const v1::CellResult& cell = out.configurations(2).cells(1);
  const analysis::CellResult& want = result.configurations[2].cells[1];
  EXPECT_EQ(cell.recovery().value(), *want.recovery.value);
  EXPECT_EQ(cell.recovery().low(), *want.recovery.low);
  EXPECT_EQ(cell.gap_bits_per_unit().high(), *want.gap_bits_per_unit.high);
  EXPECT_EQ(cell.recovery().status(), "");
  const v1::Estimate& anchor = out.configurations(1).cells(1).recovery();
  EXPECT_EQ(anchor.status(), "anchor");
  EXPECT_FALSE(anchor.has_value());
  EXPECT_EQ(out.configurations(2).configuration_digest().size(), 32u);
}

TEST(DataDigest, IsOfTheRowsAlone) {
  analysis::PanelInput panel =
      analysis::SyntheticPanel({.units = 2, .layers = 1});
  const std::string digest = DataDigest({&panel, 1});
  std::reverse(panel.rows.begin(), panel.rows.end());
  panel.corpus = "renamed";
  EXPECT_EQ(DataDigest({&panel, 1}), digest);
  const std::vector<analysis::PanelInput> twice = {panel, panel};
  EXPECT_EQ(DataDigest(twice), digest);  // a shared row counts once
  panel.rows[0].nll_sum += 1e-9;
  EXPECT_NE(DataDigest({&panel, 1}), digest);
}

TEST(DataDigest, IsOfTabSeparatedLines) {
  analysis::PanelInput panel;
  panel.model_digest = "aa";
  panel.evaluation = "aligned@1;tok=00";
  panel.languages = {"eng"};
  panel.configurations.resize(1);
  panel.configurations[0].digest = "bb";
  analysis::Row row;
  row.unit = "2";
  row.document_digest = "cc";
  row.nll_sum = 2.5;
  row.nll_fp_sum = 2;
  row.unigram_nll_sum = 1e-7;
  row.tokens = 3;
  row.bytes = 10;
  row.bytes_scored = 10;
  row.chars = 9;
  row.top1 = 2;
  panel.rows.push_back(row);
  panel.rows.push_back({.unit = "1",
                        .document_digest = "dd",
                        .status = analysis::RowStatus::kEmpty});
  EXPECT_EQ(
      DataDigest({&panel, 1}),
      Digest::Of("aa\tbb\taligned@1;tok=00\teng\t1\tdd\tempty\t\t\t\t\t0\t"
                 "\t0\t\t\t\n"
                 "aa\tbb\taligned@1;tok=00\teng\t2\tcc\tok\t2.5\t2\t1e-07"
                 "\t3\t10\t10\t9\t\t2\t0\n")
          .hex());
}

}  // namespace
}  // namespace qsweep
