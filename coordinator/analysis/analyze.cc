#include "coordinator/analysis/analyze.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "coordinator/analysis/cell_estimates.h"
#include "coordinator/analysis/plain_columns.h"
#include "coordinator/analysis/power.h"
#include "coordinator/analysis/ranking.h"
#include "coordinator/analysis/ratio_bootstrap.h"
#include "coordinator/analysis/replicates.h"
#include "coordinator/analysis/resamples.h"
#include "coordinator/analysis/unit_table.h"

namespace qsweep::analysis {
namespace {

// A loss below this share of the baseline's NLL is arithmetic noise: nothing
// can be said to be recovered of it.
constexpr double kLossFloor = 1e-5;

// What is not so many times the arithmetic noise is not told from it.
constexpr double kNoiseFactor = 3;

// Configurations resampled together: they share the columns of the languages,
// and their statistics stay below 100 MB at 10,000 resamples.
constexpr size_t kBatch = 6;

int FindUnprotected(const PanelInput& panel) {
  for (size_t c = 0; c < panel.configurations.size(); ++c) {
    if (panel.configurations[c].unprotected) {
      return static_cast<int>(c);
    }
  }
  return -1;
}

bool EveryTokenScored(const PanelInput& panel, const UnitTable& table) {
  if (panel.evaluation != "aligned" &&
      panel.evaluation.rfind("aligned@", 0) != 0) {
    return false;
  }
  for (int l = 0; l < static_cast<int>(panel.languages.size()); ++l) {
    if (!table.present(l)) {
      continue;
    }
    for (const Row* row : table.rows(table.anchor(), l)) {
      if (row->bytes_scored != row->bytes) {
        return false;
      }
    }
  }
  return true;
}

int SignOf(const Estimate& estimate) {
  if (!estimate.low || !estimate.high) {
    return 0;
  }
  return *estimate.low > 0 ? 1 : (*estimate.high < 0 ? -1 : 0);
}

void SetAllStatuses(CellResult& cell, EstimateStatus status) {
  for (Estimate* estimate :
       {&cell.delta_nll, &cell.bits_per_unit, &cell.relative_loss,
        &cell.bits_per_byte, &cell.recovery, &cell.recovery_contrast,
        &cell.interaction, &cell.gap_delta_nll, &cell.gap_bits_per_unit,
        &cell.gap_relative_loss, &cell.gap_bits_per_byte,
        &cell.anchored_gap_bits_per_unit, &cell.anchored_gap_relative_loss}) {
    *estimate = {.status = status};
  }
}

// One panel on its way through the analysis; the steps run in this order.
class PanelAnalysis {
 public:
  PanelAnalysis(const PanelInput& panel, const Options& options,
                const Work& work)
      : panel_(panel),
        options_(options),
        work_(work),
        table_(panel),
        resamples_(std::max(1, table_.num_units()), options.resamples,
                   options.seed, work),
        context_{.panel = panel_,
                 .table = table_,
                 .resamples = resamples_,
                 .confidence = options.confidence,
                 .every_token_scored = EveryTokenScored(panel, table_),
                 .none = FindUnprotected(panel)} {
    context_.recovery.resize(panel.languages.size(),
                             EstimateStatus::kUndefined);
    context_.average.resize(panel.languages.size());
  }

  // Half a result when work.stop() said so.
  PanelResult Run() {
    Summarize();
    EstimateAll();
    for (ConfigurationResult& configuration : result_.configurations) {
      Judge(configuration);
    }
    Rank();
    AddPower();
    AddNotes();
    return std::move(result_);
  }

 private:
  void Summarize();
  void EstimateAll();
  void FindRecoverable();
  void FindSingles();
  void Judge(ConfigurationResult& configuration);
  void AddWorst(ConfigurationResult& configuration);
  void Rank();
  void AddPower();
  void AddNotes();
  bool exploratory() const { return result_.n_eff < kExploratoryUnits; }
  // Nats per token; 0: not measured.
  double noise() const { return kNoiseFactor * panel_.noise_floor; }
  bool GapIsNoise(const CellResult& cell, size_t language) const;

  const PanelInput& panel_;
  const Options& options_;
  const Work& work_;
  UnitTable table_;
  Resamples resamples_;
  CellContext context_;
  std::vector<int> ranked_languages_;  // recovery is defined
  std::vector<int> singles_;           // single layers that can be ranked
  PanelResult result_;
};

void PanelAnalysis::Summarize() {
  result_.units = static_cast<uint64_t>(table_.num_units());
  result_.units_dropped = static_cast<uint64_t>(table_.units_dropped());
  result_.rows =
      panel_.rows_stored > 0 ? panel_.rows_stored : panel_.rows.size();
  result_.rows_expected = std::max<uint64_t>(
      result_.rows, panel_.rows_expected > 0
                        ? panel_.rows_expected
                        : panel_.configurations.size() *
                              panel_.languages.size() *
                              (result_.units + result_.units_dropped));
  for (int l = 0; l < static_cast<int>(panel_.languages.size()); ++l) {
    const LanguageResult language = SummarizeLanguage(panel_, table_, l);
    context_.languages.push_back(language.status);
    if (language.status == EstimateStatus::kOk) {
      result_.n_eff = result_.n_eff == 0
                          ? language.n_eff
                          : std::min(result_.n_eff, language.n_eff);
    }
    result_.languages.push_back(language);
  }
  result_.configurations.resize(panel_.configurations.size());
  for (int c = 0; c < static_cast<int>(panel_.configurations.size()); ++c) {
    FillPlainColumns(panel_, table_, result_.languages, options_.ref_rule, c,
                     result_.configurations[static_cast<size_t>(c)]);
  }
  if (!panel_.prequantized.empty()) {
    AddFlag(result_.flags, panel_.prequantized);
  }
  if (exploratory()) {
    AddFlag(result_.flags, "exploratory");
  }
}

void PanelAnalysis::EstimateAll() {
  if (table_.num_units() == 0) {
    for (ConfigurationResult& configuration : result_.configurations) {
      for (CellResult& cell : configuration.cells) {
        SetAllStatuses(cell, EstimateStatus::kNoRows);
      }
    }
    return;
  }
  if (context_.none >= 0) {
    // First and alone: what recovery is relative to must be known.
    EstimateCells(context_, {{context_.none}}, work_, result_);
    FindRecoverable();
    FindSingles();
  }
  std::vector<std::vector<int>> batches;
  for (int c = 0; c < static_cast<int>(panel_.configurations.size()); ++c) {
    if (c == context_.none) {
      continue;
    }
    if (batches.empty() || batches.back().size() == kBatch) {
      batches.emplace_back();
    }
    batches.back().push_back(c);
  }
  // Each batch writes the cells of its own configurations only.
  ForEachPart(work_, batches.size(), [&](size_t i) {
    EstimateCells(context_, batches[i], work_, result_);
  });
}

void PanelAnalysis::FindRecoverable() {
  const ConfigurationResult& none =
      result_.configurations[static_cast<size_t>(context_.none)];
  for (size_t l = 0; l < panel_.languages.size(); ++l) {
    const Estimate& loss = none.cells[l].delta_nll;
    const double floor = kLossFloor * result_.languages[l].nll_fp_per_token;
    if (context_.languages[l] != EstimateStatus::kOk || !loss.low ||
        *loss.low <= floor) {
      continue;
    }
    if (*loss.low <= noise()) {
      context_.recovery[l] = EstimateStatus::kBelowNoise;
      continue;
    }
    context_.recovery[l] = EstimateStatus::kOk;
    ranked_languages_.push_back(static_cast<int>(l));
  }
}

// Single layers with all rows in every language that counts, and their average.
void PanelAnalysis::FindSingles() {
  for (int c = 0; c < static_cast<int>(panel_.configurations.size()); ++c) {
    bool complete = panel_.configurations[static_cast<size_t>(c)].layer &&
                    !ranked_languages_.empty();
    for (const int l : ranked_languages_) {
      complete = complete && CellStatus(context_, c, l) == EstimateStatus::kOk;
    }
    if (complete) {
      singles_.push_back(c);
    }
  }
  if (singles_.size() < 2) {
    singles_.clear();
    return;
  }
  for (const int l : ranked_languages_) {
    std::vector<double>& average = context_.average[static_cast<size_t>(l)];
    average.resize(static_cast<size_t>(table_.num_units()));
    for (const int c : singles_) {
      const std::vector<double> delta = DeltaNll(table_, c, l);
      for (size_t unit = 0; unit < average.size(); ++unit) {
        average[unit] += delta[unit] / static_cast<double>(singles_.size());
      }
    }
  }
}

// Whether the noise of both languages could make the gap in relative loss.
bool PanelAnalysis::GapIsNoise(const CellResult& cell, size_t language) const {
  const LanguageResult& reference =
      result_.languages[static_cast<size_t>(panel_.reference)];
  return std::abs(*cell.gap_relative_loss.value) <
         noise() / result_.languages[language].nll_fp_per_token +
             noise() / reference.nll_fp_per_token;
}

// Verdicts, flags and the columns of the configuration as a whole.
void PanelAnalysis::Judge(ConfigurationResult& configuration) {
  std::optional<double> kl_sum = 0.0;
  int learned = 0;
  for (size_t l = 0; l < configuration.cells.size(); ++l) {
    CellResult& cell = configuration.cells[l];
    const int bits = SignOf(cell.gap_bits_per_unit);
    const int relative = SignOf(cell.gap_relative_loss);
    const bool judged = cell.gap_bits_per_unit.low.has_value() &&
                        cell.gap_relative_loss.low.has_value();
    const bool conflict = judged && bits != relative;
    if (conflict) {
      AddFlag(cell.flags, "unit_conflict");
    }
    if (cell.delta_nll.value && std::abs(*cell.delta_nll.value) < noise()) {
      AddFlag(cell.flags, "below_noise");
    }
    if (judged) {
      cell.verdict = exploratory()         ? Verdict::kExploratory
                     : GapIsNoise(cell, l) ? Verdict::kNotResolved
                     : conflict            ? Verdict::kUnitConflict
                     : bits > 0            ? Verdict::kWorse
                     : bits < 0            ? Verdict::kBetter
                                           : Verdict::kNotResolved;
    }
    if (context_.languages[l] != EstimateStatus::kOk) {
      continue;  // what is not learned says nothing about the configuration
    }
    ++learned;
    kl_sum = kl_sum && cell.kl_per_token
                 ? std::optional(*kl_sum + *cell.kl_per_token)
                 : std::nullopt;
    for (const std::string& flag : cell.flags) {
      AddFlag(configuration.flags, flag);
    }
  }
  if (kl_sum && learned > 0) {
    configuration.mean_kl = *kl_sum / learned;
  }
  AddWorst(configuration);
}

void PanelAnalysis::AddWorst(ConfigurationResult& configuration) {
  configuration.worst_recovery.status = EstimateStatus::kUndefined;
  for (const int l : ranked_languages_) {
    const Estimate& recovery =
        configuration.cells[static_cast<size_t>(l)].recovery;
    if (!recovery.value) {
      configuration.worst_recovery = {.status = recovery.status};
      configuration.worst_language.clear();
      return;
    }
    if (!configuration.worst_recovery.value ||
        *recovery.value < *configuration.worst_recovery.value) {
      configuration.worst_recovery = recovery;
      configuration.worst_language = panel_.languages[static_cast<size_t>(l)];
    }
  }
}

void PanelAnalysis::Rank() {
  if (singles_.empty() || table_.num_units() < kMinimumUnits ||
      work_.stopped()) {
    return;
  }
  RankingInput input;
  for (const int l : ranked_languages_) {
    input.none.push_back(DeltaNll(table_, context_.none, l));
    const double loss =
        *result_.configurations[static_cast<size_t>(context_.none)]
             .cells[static_cast<size_t>(l)]
             .delta_nll.value;
    input.noise = std::max(input.noise, noise() / loss);
  }
  for (const int c : singles_) {
    input.layers.emplace_back();
    for (const int l : ranked_languages_) {
      input.layers.back().push_back(DeltaNll(table_, c, l));
    }
  }
  const Ranking ranking =
      RankLayers(input, resamples_, options_.confidence, work_);
  for (size_t i = 0; i < singles_.size(); ++i) {
    const RankedLayer& layer = ranking.layers[i];
    ConfigurationResult& out =
        result_.configurations[static_cast<size_t>(singles_[i])];
    out.average_contrast = layer.average_contrast;
    out.standing = layer.standing;
    if (std::abs(*layer.average_contrast.value) < input.noise) {
      AddFlag(out.flags, "below_noise");
    }
    out.rank = layer.rank;
    out.group = layer.group;
  }
  result_.single_layers = static_cast<int>(singles_.size());
  result_.resolved_ranks = ranking.resolved_ranks;
  result_.units_more_layers = ranking.units_more;
}

// Of the gaps with nothing protected.
void PanelAnalysis::AddPower() {
  if (context_.none < 0) {
    return;
  }
  const int units = table_.num_units();
  const ConfigurationResult& none =
      result_.configurations[static_cast<size_t>(context_.none)];
  for (size_t l = 0; l < none.cells.size(); ++l) {
    const Estimate& bits = none.cells[l].gap_bits_per_unit;
    const Estimate& relative = none.cells[l].gap_relative_loss;
    if (!bits.standard_error || !relative.standard_error) {
      continue;
    }
    LanguageResult& language = result_.languages[l];
    language.minimum_detectable = MinimumDetectable(*bits.standard_error);
    if (SignOf(bits) != 0 && SignOf(bits) == SignOf(relative)) {
      language.units_more = 0;
    } else if (*bits.value * *relative.value > 0) {
      language.units_more =
          std::max(UnitsMore(units, *bits.value, *bits.standard_error),
                   UnitsMore(units, *relative.value, *relative.standard_error));
    }
  }
}

void PanelAnalysis::AddNotes() {
  std::vector<std::string>& notes = result_.notes;
  if (!panel_.prequantized.empty()) {
    notes.push_back(
        "Re-quantization of an already quantized model: every loss is that of "
        "quantizing it once more.");
  }
  if (exploratory()) {
    notes.push_back(absl::StrFormat(
        "Exploratory: %.1f effective units, fewer than %.0f; no verdicts.",
        result_.n_eff, kExploratoryUnits));
  }
  if (result_.rows < result_.rows_expected) {
    notes.push_back(absl::StrCat(result_.rows, " of ", result_.rows_expected,
                                 " rows are there; the rest is still to come "
                                 "or was cancelled."));
  }
  if (result_.units_dropped > 0) {
    notes.push_back(absl::StrCat(result_.units_dropped,
                                 " units are left out: not usable in every "
                                 "language."));
  }
  if (panel_.noise_floor > 0) {
    notes.push_back(absl::StrFormat(
        "Arithmetic noise in %s: %.1e nats per token; what is below %.0f times "
        "that is neither ranked nor judged.",
        panel_.compute, panel_.noise_floor, kNoiseFactor));
  }
  std::vector<std::string> unlearned;
  for (const LanguageResult& language : result_.languages) {
    if (language.status == EstimateStatus::kUnlearned) {
      unlearned.push_back(language.language);
    }
  }
  if (!unlearned.empty()) {
    notes.push_back(absl::StrCat("Not learned by this model, so excluded: ",
                                 absl::StrJoin(unlearned, ", "), "."));
  }
  if (context_.none >= 0 && !context_.every_token_scored) {
    notes.push_back(
        "This evaluation does not score every token: no gaps in bits or "
        "relative loss, so no verdicts.");
  }
  const size_t replicates = panel_.replicates.size();
  notes.push_back(absl::StrCat(
      "Intervals cover other units of this corpus: one text, one register, one "
      "translation per language, possibly memorised by the model; and ",
      replicates == 1
          ? "this rounding only."
          : absl::StrCat("the mean of these ", replicates,
                         " roundings: how they differ is said beside.")));
}

PanelResult Analyze(const PanelInput& panel, const Options& options,
                    const Work& work) {
  if (!HasReplicates(panel)) {
    return PanelAnalysis(panel, options, work).Run();
  }
  const PanelInput averaged = AverageReplicates(panel);
  PanelResult result = PanelAnalysis(averaged, options, work).Run();
  AddSpreads(panel, averaged, result);
  return result;
}

}  // namespace

PanelResult AnalyzePanel(const PanelInput& panel, const Options& options) {
  return Analyze(panel, options, Work());
}

std::optional<PanelResult> AnalyzePanel(const PanelInput& panel,
                                        const Options& options,
                                        const Work& work) {
  PanelResult result = Analyze(panel, options, work);
  return work.stopped() ? std::nullopt
                        : std::optional<PanelResult>(std::move(result));
}

}  // namespace qsweep::analysis
