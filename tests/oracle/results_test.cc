// The analysis beside its second implementation in NumPy, over synthetic rows:
// the same CSV and JSON that `qctl export` and `qctl results` write.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include <sys/wait.h>

#include "coordinator/analysis/analyze.h"
#include "coordinator/qctl/output/output.h"
#include "coordinator/qctl/output/results_json.h"
#include "coordinator/qctl/output/value.h"
#include "coordinator/service/results_conversion.h"
#include "tests/coordinator/analysis/synthetic_panel.h"

namespace qsweep {
namespace {

using analysis::PanelInput;
using analysis::Row;
using analysis::RowStatus;

std::string Csv(const PanelInput& panel) {
  std::string csv =
      "model,configuration,evaluation,language,document,document_digest,status,"
      "nll_sum,nll_fp_sum,unigram_nll_sum,tokens,bytes,bytes_scored,chars,"
      "kl_sum,top1,nonfinite\n";
  for (const Row& row : panel.rows) {
    const bool ok = row.status == RowStatus::kOk;
    const auto sum = [ok](double value) {
      return ok ? qctl::ShortestText(value) : "";
    };
    const auto count = [ok](uint64_t value) {
      return ok ? absl::StrCat(value) : "";
    };
    const analysis::ConfigurationInput& configuration =
        panel.configurations[static_cast<size_t>(row.configuration)];
    absl::StrAppend(
        &csv, panel.model_digest, ",",
        configuration.replicates.empty()
            ? configuration.digest
            : configuration.replicates[static_cast<size_t>(row.replicate)]
                  .digest,
        ",", panel.evaluation, ",",
        panel.languages[static_cast<size_t>(row.language)], ",");
    absl::StrAppend(&csv, row.unit, ",", row.document_digest, ",",
                    ok ? "ok" : "one_token", ",", sum(row.nll_sum), ",",
                    sum(row.nll_fp_sum), ",", sum(row.unigram_nll_sum), ",",
                    count(row.tokens), ",", row.bytes, ",",
                    count(row.bytes_scored), ",", row.chars, ",",
                    row.kl_sum ? sum(*row.kl_sum) : "", ",");
    absl::StrAppend(&csv,
                    row.top1 ? count(static_cast<uint64_t>(*row.top1)) : "",
                    ",", count(row.nonfinite), "\n");
  }
  return csv;
}

std::string ResultsJson(const PanelInput& panel,
                        const analysis::Options& options) {
  const analysis::PanelResult result = AnalyzePanel(panel, options);
  const std::string reference =
      panel.reference < 0
          ? "xyz"
          : panel.languages[static_cast<size_t>(panel.reference)];
  return qctl::JsonText(qctl::ResultsDocument(
      ResultsToProto({&panel, 1}, {&result, 1}, options, reference)));
}

// The script's exit status; its words go to the test's output.
int RunOracle(const std::string& csv, const std::string& json) {
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) /
      absl::StrCat("results_oracle_", ::getpid());
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "rows.csv") << csv;
  std::ofstream(folder / "results.json") << json;
  const std::string command = absl::StrCat(
      QSWEEP_PYTHON, " ", QSWEEP_SOURCE_DIR, "/tests/oracle/results_numpy.py ",
      (folder / "rows.csv").string(), " ", (folder / "results.json").string());
  const int status = std::system(command.c_str());
  std::filesystem::remove_all(folder);
  return WEXITSTATUS(status);
}

TEST(ResultsOracle, Agrees_OnACompleteSweep) {
  const PanelInput panel =
      analysis::SyntheticPanel({.units = 24,
                                .layers = 8,
                                .languages = {"eng", "deu", "arb", "swh"},
                                .seed = 11,
                                .loss = {0.2, 0.3, 0.45, 0.3},
                                .recovery = {0.3, 0.02, 0.15, 0.02}});
  const analysis::Options options = {.resamples = 3000, .seed = 1234567};
  EXPECT_EQ(RunOracle(Csv(panel), ResultsJson(panel, options)), 0);
}

// Of four languages one loses less than the noise, and one layer stands out.
TEST(ResultsOracle, Agrees_OnAPanelWithANoiseFloor) {
  PanelInput panel =
      analysis::SyntheticPanel({.units = 24,
                                .layers = 8,
                                .languages = {"eng", "deu", "arb", "swh"},
                                .seed = 12,
                                .loss = {0.3, 0.32, 0.45, 0.02},
                                .recovery = {0.5, 0.02, 0.2, 0.02},
                                .noise = 0.02});
  for (const double noise_floor : {0.0001, 0.006, 0.012, 0.04}) {
    panel.noise_floor = noise_floor;
    EXPECT_EQ(RunOracle(Csv(panel),
                        ResultsJson(panel, {.resamples = 500, .seed = 3})),
              0)
        << noise_floor;
  }
}

// Everything that can be missing or wrong at once.
TEST(ResultsOracle, Agrees_OnADamagedSweep) {
  PanelInput panel = analysis::SyntheticPanel(
      {.units = 14,
       .layers = 6,
       .languages = {"eng", "deu", "arb", "swh", "jpn"},
       .seed = 5,
       .loss = {-0.1, 0.3, 0.5, 0.3, 0.3},
       .recovery = {0.3, 0.1}});
  std::erase_if(panel.rows, [](const Row& row) {
    return row.configuration == 4 && row.language == 1 && row.unit == "u3";
  });
  for (Row& row : panel.rows) {
    if (row.language == 3) {
      row.unigram_nll_sum = row.nll_fp_sum;  // unlearned
    }
    if (row.configuration == 5) {
      row.nll_sum = 900.0 * static_cast<double>(row.tokens);  // collapsed
    }
    if (row.unit == "u7" && row.language == 2) {
      row.status = RowStatus::kOneToken;
    }
    if (row.configuration == 6 && row.unit == "u5" && row.language == 2) {
      row.nonfinite = 3;
    }
    if (row.configuration == 3 && row.language == 4) {
      row.kl_sum = std::nullopt;
    }
  }
  for (const analysis::RefRule rule :
       {analysis::RefRule::kOne, analysis::RefRule::kInf,
        analysis::RefRule::kZero}) {
    const analysis::Options options = {.ref_rule = rule,
                                       .confidence = 0.9,
                                       .resamples = 500,
                                       .seed = 18446744073709551615u};
    EXPECT_EQ(RunOracle(Csv(panel), ResultsJson(panel, options)), 0);
  }
}

TEST(ResultsOracle, Agrees_OnFewUnitsAndOtherEvaluations) {
  PanelInput panel = analysis::SyntheticPanel({.units = 4});
  EXPECT_EQ(RunOracle(Csv(panel), ResultsJson(panel, {.resamples = 100})), 0);
  panel = analysis::SyntheticPanel({.units = 9});
  panel.evaluation = "hf-text@1;tok=00";
  panel.reference = -1;
  EXPECT_EQ(RunOracle(Csv(panel), ResultsJson(panel, {.resamples = 300})), 0);
}

// Means over the draws, intervals of the means, spreads between the draws.
TEST(ResultsOracle, Agrees_OnReplicates) {
  PanelInput panel = analysis::Replicated(
      analysis::SyntheticPanel({.units = 14,
                                .layers = 5,
                                .languages = {"eng", "deu", "arb"},
                                .seed = 3,
                                .loss = {0.2, 0.3, 0.45},
                                .recovery = {0.3, 0.02, 0.15}}),
      3);
  EXPECT_EQ(RunOracle(Csv(panel), ResultsJson(panel, {.resamples = 500})), 0);
  // A draw that lacks a row, one that is not finite.
  std::erase_if(panel.rows, [](const Row& row) {
    return row.configuration == 3 && row.language == 1 && row.unit == "u3" &&
           row.replicate == 2;
  });
  for (Row& row : panel.rows) {
    if (row.configuration == 4 && row.unit == "u5" && row.language == 2 &&
        row.replicate == 1) {
      row.nonfinite = 3;
    }
  }
  EXPECT_EQ(RunOracle(Csv(panel), ResultsJson(panel, {.resamples = 500})), 0);
}

TEST(ResultsOracle, Disagrees_WhenARowWasChanged) {
  PanelInput panel = analysis::SyntheticPanel({.units = 12, .layers = 3});
  const std::string json = ResultsJson(panel, {.resamples = 200});
  panel.rows.back().nll_sum *= 1.001;
  EXPECT_EQ(RunOracle(Csv(panel), json), 1);
}

}  // namespace
}  // namespace qsweep
