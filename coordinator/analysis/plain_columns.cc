#include "coordinator/analysis/plain_columns.h"

#include <algorithm>
#include <cmath>

#include "coordinator/analysis/earlier_columns.h"

namespace qsweep::analysis {
namespace {

constexpr double kUnlearnedMargin = 0.25;    // nats per token
constexpr double kCollapsedMargin = 0.5;     // nats per token below ln V
constexpr double kCollapsedAgreement = 0.3;  // top-1, with the baseline
constexpr uint64_t kShortTokens = 200;

struct Totals {
  double nll = 0;
  double nll_fp = 0;
  double unigram = 0;
  double tokens = 0;
  double tokens_squared = 0;
  uint64_t bytes = 0;
  std::optional<double> kl = 0.0;
  std::optional<double> top1 = 0.0;
};

Totals Sum(const std::vector<const Row*>& rows) {
  Totals totals;
  for (const Row* row : rows) {
    const double tokens = static_cast<double>(row->tokens);
    totals.nll += row->nll_sum;
    totals.nll_fp += row->nll_fp_sum;
    totals.unigram += row->unigram_nll_sum;
    totals.tokens += tokens;
    totals.tokens_squared += tokens * tokens;
    totals.bytes += row->bytes;
    totals.kl = totals.kl && row->kl_sum
                    ? std::optional(*totals.kl + *row->kl_sum)
                    : std::nullopt;
    totals.top1 = totals.top1 && row->top1
                      ? std::optional(*totals.top1 + *row->top1)
                      : std::nullopt;
  }
  return totals;
}

int FindBaseline(const PanelInput& panel) {
  const auto it =
      std::find_if(panel.configurations.begin(), panel.configurations.end(),
                   [](const ConfigurationInput& c) { return c.baseline; });
  return it == panel.configurations.end()
             ? -1
             : static_cast<int>(it - panel.configurations.begin());
}

bool HasRows(EstimateStatus status) {
  return status == EstimateStatus::kOk || status == EstimateStatus::kNonfinite;
}

bool Collapsed(const Totals& totals, int vocabulary_size) {
  return (totals.unigram > 0 && totals.nll >= totals.unigram) ||
         (vocabulary_size > 1 &&
          totals.nll / totals.tokens >=
              std::log(vocabulary_size) - kCollapsedMargin) ||
         (totals.top1 && *totals.top1 < kCollapsedAgreement * totals.tokens);
}

void FillCell(const PanelInput& panel, const Totals& totals,
              EstimateStatus status, bool baseline, CellResult& cell) {
  cell.nll_per_token = totals.nll / totals.tokens;
  cell.ppl = std::exp(*cell.nll_per_token);
  if (totals.kl) {
    cell.kl_per_token = *totals.kl / totals.tokens;
  }
  if (totals.top1) {
    cell.top1_agreement = *totals.top1 / totals.tokens;
  }
  if (status == EstimateStatus::kNonfinite) {
    AddFlag(cell.flags, "nonfinite");
  }
  if (!baseline && Collapsed(totals, panel.vocabulary_size)) {
    AddFlag(cell.flags, "collapsed");
  }
}

}  // namespace

void AddFlag(std::vector<std::string>& flags, const std::string& flag) {
  const auto it = std::lower_bound(flags.begin(), flags.end(), flag);
  if (it == flags.end() || *it != flag) {
    flags.insert(it, flag);
  }
}

LanguageResult SummarizeLanguage(const PanelInput& panel,
                                 const UnitTable& table, int language) {
  LanguageResult result;
  result.language = panel.languages[static_cast<size_t>(language)];
  if (!table.present(language) || table.num_units() == 0) {
    result.status = EstimateStatus::kNoRows;
    return result;
  }
  const Totals totals = Sum(table.rows(table.anchor(), language));
  result.tokens = static_cast<uint64_t>(totals.tokens);
  result.bytes = totals.bytes;
  if (totals.tokens == 0) {
    result.status = EstimateStatus::kUndefined;
    AddFlag(result.flags, "short");
    return result;
  }
  result.nll_fp_per_token = totals.nll_fp / totals.tokens;
  result.nll_unigram_per_token = totals.unigram / totals.tokens;
  result.ppl_fp = std::exp(result.nll_fp_per_token);
  result.n_eff = totals.tokens * totals.tokens / totals.tokens_squared;
  if (result.tokens < kShortTokens) {
    AddFlag(result.flags, "short");
  }
  if (totals.unigram > 0 &&
      totals.nll_fp >= totals.unigram - kUnlearnedMargin * totals.tokens) {
    AddFlag(result.flags, "unlearned");
    result.status = EstimateStatus::kUnlearned;
  }
  const int baseline = FindBaseline(panel);
  if (baseline >= 0 &&
      table.status(baseline, language) == EstimateStatus::kNonfinite) {
    AddFlag(result.flags, "nonfinite");
    result.status = EstimateStatus::kNonfinite;
  }
  return result;
}

void FillPlainColumns(const PanelInput& panel, const UnitTable& table,
                      const std::vector<LanguageResult>& languages,
                      RefRule ref_rule, int configuration,
                      ConfigurationResult& result) {
  const bool baseline =
      panel.configurations[static_cast<size_t>(configuration)].baseline;
  std::vector<std::optional<double>> deltas(languages.size());
  result.cells.resize(languages.size());
  result.rows_missing =
      static_cast<uint32_t>(table.rows_missing(configuration));
  for (size_t l = 0; l < languages.size(); ++l) {
    const int language = static_cast<int>(l);
    const EstimateStatus status = table.status(configuration, language);
    if (languages[l].tokens == 0 || !HasRows(status)) {
      continue;
    }
    const Totals totals = Sum(table.rows(configuration, language));
    FillCell(panel, totals, status, baseline, result.cells[l]);
    if (languages[l].tokens < kShortTokens) {
      AddFlag(result.cells[l].flags, "short");
    }
    // A sum that leaves out the worst tokens, or a language that the model does
    // not know, must not enter a comparison or an average.
    if (status == EstimateStatus::kOk &&
        languages[l].status == EstimateStatus::kOk) {
      deltas[l] = (totals.nll - totals.nll_fp) / totals.tokens;
      result.cells[l].degradation_percent = DegradationPercent(*deltas[l]);
    }
  }
  const size_t reference = static_cast<size_t>(panel.reference);
  if (baseline || panel.reference < 0 || !deltas[reference]) {
    return;
  }
  std::vector<double> disparities;
  for (size_t l = 0; l < languages.size(); ++l) {
    if (l == reference || !deltas[l]) {
      continue;
    }
    CellResult& cell = result.cells[l];
    cell.disparity = Disparity(*deltas[l], *deltas[reference], ref_rule);
    if (*deltas[reference] <= 0) {
      AddFlag(cell.flags, "ref_nonpos");
    }
    if (cell.disparity) {
      disparities.push_back(*cell.disparity);
    }
  }
  result.average_disparity = FiniteMean(disparities);
  result.max_disparity = FiniteMax(disparities);
}

}  // namespace qsweep::analysis
