#include "coordinator/service/job_results.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;

// Two models, two quantizers each, two languages of two units; one row a key,
// whose NLL sum tells configuration and document.
JobRows TwoModels() {
  JobRows rows;
  rows.spec.set_compute(v1::COMPUTE_BF16);
  rows.corpus.set_name("texts");
  for (const char* code : {"deu", "eng"}) {
    v1::CorpusLanguage* language = rows.corpus.add_languages();
    language->set_language(code);
    language->add_aliases(absl::StrCat(code, "-alias"));
  }
  for (int m = 0; m < 2; ++m) {
    v1::ModelDescription& model = rows.models.emplace_back();
    model.set_name(absl::StrCat("model-", m));
    model.set_digest(Digest::Of(model.name()).bytes());
    rows.noise_floors.push_back(m * 1e-3);
    rows.evaluations.push_back(
        {.model_index = m, .text = absl::StrCat("aligned@1;tok=", m)});
    rows.configurations.push_back({.model_index = m,
                                   .quantizer = "fp",
                                   .resolved = "all",
                                   .baseline = true});
    for (const char* quantizer : {"rtn:bits=4", "rtn:bits=8"}) {
      rows.configurations.push_back({.model_index = m,
                                     .quantizer = quantizer,
                                     .layer_set = "none",
                                     .resolved = "none",
                                     .unprotected = true});
    }
  }
  for (const char* code : {"deu", "eng"}) {
    for (const char* id : {"1", "2"}) {
      rows.documents.push_back({.language = code, .id = id});
    }
  }
  for (int c = 0; c < 6; ++c) {
    for (int d = 0; d < 4; ++d) {
      JobRows::Row& row = rows.rows.emplace_back();
      row.configuration = c;
      row.evaluation = c / 3;
      row.document = d;
      row.values.set_status(v1::ROW_STATUS_OK);
      row.values.set_nll_sum(10 * c + d);
    }
  }
  return rows;
}

TEST(MakePanels, MakesOnePerModelAndQuantizer_EachWithTheBaseline) {
  const std::vector<analysis::PanelInput> panels = MakePanels(TwoModels());
  std::vector<std::string> names;
  for (const analysis::PanelInput& panel : panels) {
    names.push_back(absl::StrCat(panel.model, " ", panel.quantizer));
    ASSERT_EQ(panel.configurations.size(), 2u);
    EXPECT_TRUE(panel.configurations[0].baseline);
    EXPECT_TRUE(panel.configurations[1].unprotected);
    EXPECT_THAT(panel.languages, ElementsAre("deu", "eng"));
    EXPECT_EQ(panel.compute, "bf16");
    EXPECT_EQ(panel.noise_floor, panel.model == "model-1" ? 1e-3 : 0);
    EXPECT_EQ(panel.corpus, "texts");
    EXPECT_EQ(panel.rows_expected, 8u);
    ASSERT_EQ(panel.rows.size(), 8u);
  }
  EXPECT_THAT(names, ElementsAre("model-0 rtn:bits=4", "model-0 rtn:bits=8",
                                 "model-1 rtn:bits=4", "model-1 rtn:bits=8"));
  const analysis::PanelInput& last = panels[3];
  EXPECT_EQ(last.evaluation, "aligned@1;tok=1");
  EXPECT_EQ(last.rows[0].nll_sum, 30);  // the baseline of model-1
  EXPECT_EQ(last.rows[6].nll_sum, 52);  // its 8-bit row of document 2
  EXPECT_EQ(last.rows[6].configuration, 1);
  EXPECT_EQ(last.rows[6].language, 1);
  EXPECT_EQ(last.rows[6].unit, "1");
}

// Of model-0 the second quantizer becomes another draw of the first.
TEST(MakePanels, PutsReplicatesIntoOnePanel) {
  JobRows rows = TwoModels();
  rows.configurations[1].quantizer = "rtn:bits=4,group=64";
  rows.configurations[2].quantizer = "rtn:bits=4,group=64,replicate=2";
  rows.configurations[1].digest = Digest::Of("none");
  rows.configurations[2].digest = Digest::Of("none of replicate 2");
  const std::vector<analysis::PanelInput> panels = MakePanels(rows);
  ASSERT_EQ(panels.size(), 3u);
  const analysis::PanelInput& panel = panels[0];
  EXPECT_EQ(panel.quantizer, "rtn:bits=4,group=64");
  EXPECT_THAT(panel.replicates, ElementsAre(0, 2));
  ASSERT_EQ(panel.configurations.size(), 2u);
  const analysis::ConfigurationInput& none = panel.configurations[1];
  ASSERT_EQ(none.replicates.size(), 2u);
  EXPECT_EQ(none.digest, Digest::Of("none").hex());
  EXPECT_EQ(none.replicates[1].number, 2);
  EXPECT_EQ(none.replicates[1].digest, Digest::Of("none of replicate 2").hex());
  EXPECT_EQ(panel.rows_expected, 12u);
  ASSERT_EQ(panel.rows.size(), 12u);
  EXPECT_EQ(panel.rows[8].configuration, 1);
  EXPECT_EQ(panel.rows[8].replicate, 1);
  EXPECT_EQ(panel.rows[8].nll_sum, 20);
}

TEST(MakePanels, NamesTheReplicate_WhenItIsTheOnlyOne) {
  JobRows rows = TwoModels();
  rows.configurations[1].quantizer = "rtn:bits=4,group=64,replicate=2";
  const analysis::PanelInput panel = MakePanels(rows)[0];
  EXPECT_EQ(panel.quantizer, "rtn:bits=4,group=64,replicate=2");
  EXPECT_THAT(panel.replicates, ElementsAre(2));
}

TEST(MakePanels, TakesTheAnchorByMeaning_NotByName) {
  JobRows rows = TwoModels();
  rows.configurations[1].layer_set = rows.configurations[1].resolved = "norm";
  EXPECT_TRUE(MakePanels(rows)[0].configurations[1].unprotected);
}

TEST(MakePanels, RefersToTheLanguageNamed_ElseToEnglish_ElseToTheFirst) {
  JobRows rows = TwoModels();
  EXPECT_EQ(MakePanels(rows)[0].reference, 1);
  rows.spec.set_reference("deu-alias");
  EXPECT_EQ(MakePanels(rows)[0].reference, 0);
  rows.spec.clear_reference();
  rows.spec.add_languages("deu");
  for (JobDocument& document : rows.documents) {
    document.language = document.language == "eng" ? "fra" : "deu";
  }
  EXPECT_EQ(MakePanels(rows)[0].reference, 0);
}

TEST(MakePanels, LeavesHoles_WhileTheJobRuns) {
  JobRows rows = TwoModels();
  rows.rows.erase(rows.rows.begin() + 4, rows.rows.begin() + 11);
  const std::vector<analysis::PanelInput> panels = MakePanels(rows);
  EXPECT_EQ(panels[0].rows.size(), 4u);  // the baseline only
  EXPECT_EQ(panels[1].rows.size(), 5u);
  EXPECT_EQ(panels[1].rows[4].configuration, 1);
  EXPECT_EQ(panels[1].rows_expected, 8u);
}

TEST(MakePanels, HasOnePanel_WhenThereIsOnlyABaseline) {
  JobRows rows = TwoModels();
  rows.configurations.resize(1);
  rows.evaluations.resize(1);
  rows.rows.resize(4);
  const std::vector<analysis::PanelInput> panels = MakePanels(rows);
  ASSERT_EQ(panels.size(), 1u);
  EXPECT_EQ(panels[0].quantizer, "fp");
  EXPECT_EQ(panels[0].rows.size(), 4u);
}

}  // namespace
}  // namespace qsweep::testing
