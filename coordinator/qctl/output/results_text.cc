#include "coordinator/qctl/output/results_text.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "coordinator/qctl/output/results_view.h"
#include "coordinator/qctl/output/text_width.h"

namespace qsweep::qctl {
namespace {

constexpr double kPercent = 100;

// "aligned@1;tok=..." -> "aligned".
std::string EvaluationName(const std::string& evaluation) {
  return evaluation.substr(0, evaluation.find_first_of("@;"));
}

std::string PanelHeader(const v1::ResultPanel& panel, double confidence) {
  std::string text =
      absl::StrCat(Printable(panel.model()), " · ", panel.quantizer(), " · ",
                   EvaluationName(panel.evaluation()), " · ", panel.compute(),
                   "\n", Plural(panel.units(), "aligned unit"),
                   absl::StrFormat(", n_eff %.1f", panel.n_eff()));
  if (HasFlag(panel, "prequantized") || HasFlag(panel, "prequantized8")) {
    absl::StrAppend(&text, "; re-quantization of an already quantized model");
  }
  if (HasFlag(panel, "exploratory")) {
    absl::StrAppend(&text, "; exploratory: no verdicts");
  }
  if (panel.rows() < panel.rows_expected()) {
    absl::StrAppend(&text, "; ",
                    WithThousands(static_cast<int64_t>(panel.rows())), " of ",
                    WithThousands(static_cast<int64_t>(panel.rows_expected())),
                    " rows so far");
  }
  if (panel.replicates_size() > 1) {
    absl::StrAppend(&text, "; mean of ", panel.replicates_size(), " roundings");
  }
  absl::StrAppend(&text, "; ", PercentText(confidence), " intervals\n");
  return text;
}

std::string ShareText(double share) {
  return absl::StrFormat("%.1f %%", kPercent * share);
}

// "18.1 [11.0, 25.2]" in percent.
std::string RecoveryText(const v1::Estimate& estimate) {
  return EstimateText(estimate, kPercent);
}

std::string JoinFlags(const v1::ConfigurationResult& configuration) {
  return configuration.flags().empty()
             ? "-"
             : absl::StrJoin(configuration.flags(), ",");
}

const std::string& LanguageOf(const v1::ResultPanel& panel,
                              const v1::CellResult& cell) {
  return panel.languages(static_cast<int>(cell.language_index())).language();
}

bool Learned(const v1::ResultPanel& panel, const v1::CellResult& cell) {
  return panel.languages(static_cast<int>(cell.language_index()))
      .status()
      .empty();
}

// "swh 0.31 [0.29, 0.33]": the learned language with the greatest value.
std::string WorstText(const v1::ResultPanel& panel,
                      const v1::ConfigurationResult& configuration,
                      const v1::Estimate& (v1::CellResult::*of)() const,
                      bool is_signed, bool with_star) {
  const v1::CellResult* worst = nullptr;
  for (const v1::CellResult& cell : configuration.cells()) {
    if (Learned(panel, cell) && (cell.*of)().has_value() &&
        (worst == nullptr || (cell.*of)().value() > (worst->*of)().value())) {
      worst = &cell;
    }
  }
  if (worst == nullptr) {
    return configuration.rows_missing() > 0 ? "rows missing" : "-";
  }
  const bool star = with_star && (worst->verdict() == "worse" ||
                                  worst->verdict() == "better");
  return absl::StrCat(LanguageOf(panel, *worst), " ",
                      EstimateText((worst->*of)(), 1, is_signed),
                      star ? " *" : "");
}

// Ranked first, then the others by their worst recovery, then `none`, the
// baseline last.
std::vector<const v1::ConfigurationResult*> BestFirst(
    const v1::ResultPanel& panel) {
  std::vector<const v1::ConfigurationResult*> order;
  for (const v1::ConfigurationResult& configuration : panel.configurations()) {
    order.push_back(&configuration);
  }
  const auto key = [](const v1::ConfigurationResult* c) {
    const bool known = c->worst_recovery().has_value();
    return std::tuple(
        c->baseline() ? 3 : (c->unprotected() ? 2 : (known ? 0 : 1)),
        known ? -c->worst_recovery().value() : 0);
  };
  std::stable_sort(
      order.begin(), order.end(),
      [&](const auto* a, const auto* b) { return key(a) < key(b); });
  return order;
}

std::string Shown(size_t shown, size_t all, const std::string& noun) {
  return shown < all
             ? absl::StrCat("showing ", shown, " of ", Plural(all, noun), "\n")
             : "";
}

std::string ConfigurationTable(const v1::ResultPanel& panel,
                               const std::string& reference, int top) {
  Table table;
  table.columns = {{"rank", "RANK", Form::kNumber},
                   {"protect", "PROTECT"},
                   {"worst", "WORST LOSS, nats/token"},
                   {"gap", absl::StrCat("GAP to ", reference, ", bits/unit")},
                   {"kl", "MEAN KL", Form::kNumber},
                   {"disparity", "DISPARITY"},
                   {"overhead", "PARAMS"},
                   {"flags", "FLAGS"}};
  const auto order = BestFirst(panel);
  const size_t shown =
      top > 0 ? std::min(order.size(), static_cast<size_t>(top)) : order.size();
  for (size_t i = 0; i < shown; ++i) {
    const v1::ConfigurationResult& c = *order[i];
    table.rows.push_back(
        {c.rank() > 0 ? Value(c.rank()) : Value(),
         c.baseline() ? "all (baseline)" : c.layer_set(),
         c.baseline()
             ? "-"
             : WorstText(panel, c, &v1::CellResult::delta_nll, false, false),
         c.baseline()
             ? "-"
             : WorstText(panel, c, &v1::CellResult::anchored_gap_bits_per_unit,
                         true, true),
         c.has_mean_kl() ? Value(c.mean_kl()) : Value(),
         c.has_average_disparity()
             ? absl::StrCat(NumberText(c.average_disparity()), "x")
             : "-",
         ShareText(c.overhead_params()), JoinFlags(c)});
  }
  return absl::StrCat(RenderForPeople(table, {}),
                      Shown(shown, order.size(), "configuration"));
}

// The gaps with nothing protected, a language per line.
std::string GapLines(const v1::ResultPanel& panel,
                     const std::string& reference) {
  const v1::ConfigurationResult* none = FindUnprotected(panel);
  if (none == nullptr) {
    return "";
  }
  Table table;
  table.columns = {{"language", ""}, {"bits", ""}, {"loss", ""}, {"says", ""}};
  for (const v1::CellResult& cell : none->cells()) {
    if (!cell.gap_bits_per_unit().has_value()) {
      continue;
    }
    table.rows.push_back(
        {absl::StrCat("  ", LanguageOf(panel, cell)),
         absl::StrCat(EstimateText(cell.gap_bits_per_unit(), 1, true),
                      " bits/unit"),
         absl::StrCat("relative loss ",
                      EstimateText(cell.gap_relative_loss(), 1, true)),
         VerdictText(cell.verdict())});
  }
  if (table.rows.empty()) {
    return "";
  }
  OutputStyle style;
  style.header = false;
  return absl::StrCat("gap to ", reference, ", nothing protected:\n",
                      RenderForPeople(table, style));
}

std::string LanguageTable(const v1::ResultPanel& panel) {
  Table table;
  table.columns = {{"language", "LANGUAGE"},
                   {"tokens", "TOKENS", Form::kNumber},
                   {"nll", "NATS/TOKEN", Form::kNumber},
                   {"unigram", "UNIGRAM", Form::kNumber},
                   {"n_eff", "N_EFF", Form::kNumber},
                   {"detectable", "DETECTABLE GAP, bits/unit", Form::kNumber},
                   {"more", "TO RESOLVE THE GAP"},
                   {"status", "STATUS"}};
  for (const v1::LanguageResult& l : panel.languages()) {
    table.rows.push_back(
        {l.language(), l.tokens(), l.nll_fp_per_token(),
         l.nll_unigram_per_token(), l.n_eff(),
         l.minimum_detectable() > 0 ? Value(l.minimum_detectable()) : Value(),
         !l.has_units_more()   ? "-"
         : l.units_more() == 0 ? "resolved"
                               : MoreText(l.units_more(), "unit"),
         l.status().empty() ? "learned" : StatusText(l.status())});
  }
  return RenderForPeople(table, {});
}

std::string ExcludedLine(const v1::ResultPanel& panel) {
  std::vector<std::string> unlearned;
  for (const v1::LanguageResult& language : panel.languages()) {
    if (language.status() == "unlearned") {
      unlearned.push_back(language.language());
    }
  }
  return unlearned.empty()
             ? ""
             : absl::StrCat("not learned by this model (excluded): ",
                            absl::StrJoin(unlearned, ", "), "\n");
}

std::string UntoldLine(const v1::ResultPanel& panel) {
  std::vector<int> layers;
  for (const v1::ConfigurationResult& c : panel.configurations()) {
    if (c.standing() == "not_told" && c.has_layer()) {
      layers.push_back(static_cast<int>(c.layer()));
    }
  }
  if (layers.empty()) {
    return "";
  }
  std::string text =
      absl::StrCat("not told from the average layer: ", LayerList(layers), " (",
                   Plural(layers.size(), "layer"));
  if (panel.has_units_more_layers()) {
    absl::StrAppend(&text, "; ", MoreText(panel.units_more_layers(), "unit"),
                    " would tell half of them");
  }
  return absl::StrCat(text, ")\n");
}

std::string NoiseLine(const v1::ResultPanel& panel) {
  if (panel.noise_floor() == 0) {
    return "";
  }
  std::vector<int> layers;
  for (const v1::ConfigurationResult& c : panel.configurations()) {
    if (c.has_layer() && std::ranges::count(c.flags(), "below_noise") > 0) {
      layers.push_back(static_cast<int>(c.layer()));
    }
  }
  return absl::StrCat(
      absl::StrFormat("arithmetic noise in %s: %.1e nats per token",
                      panel.compute(), panel.noise_floor()),
      layers.empty() ? "" : "; below three times that: ", LayerList(layers),
      "\n");
}

std::string LayerTable(const v1::ResultPanel& panel, int top) {
  std::vector<const v1::ConfigurationResult*> ranked;
  for (const v1::ConfigurationResult& configuration : panel.configurations()) {
    if (configuration.rank() > 0) {
      ranked.push_back(&configuration);
    }
  }
  if (ranked.empty()) {
    return "no single layer can be ranked yet\n";
  }
  std::sort(ranked.begin(), ranked.end(), [](const auto* a, const auto* b) {
    return std::tuple(a->group(), a->rank()) <
           std::tuple(b->group(), b->rank());
  });
  Table table;
  table.columns = {{"group", "GROUP", Form::kNumber},
                   {"rank", "RANK", Form::kNumber},
                   {"layer", "LAYER"},
                   {"standing", "AGAINST AVERAGE"},
                   {"worst", "WORST, %"}};
  const bool several = panel.replicates_size() > 1;
  if (several) {
    table.columns.insert(table.columns.begin() + 4,
                         {"spread", "SD, %", Form::kNumber});
  }
  for (const v1::LanguageResult& language : panel.languages()) {
    if (language.status().empty()) {
      table.columns.push_back(
          {language.language(), absl::StrCat(language.language(), ", %")});
    }
  }
  table.columns.push_back({"overhead", "PARAMS"});
  const size_t shown = top > 0
                           ? std::min(ranked.size(), static_cast<size_t>(top))
                           : ranked.size();
  for (size_t i = 0; i < shown; ++i) {
    const v1::ConfigurationResult& c = *ranked[i];
    std::vector<Value> row = {
        c.group(), c.rank(), c.layer_set(),
        absl::StrCat(EstimateText(c.average_contrast(), kPercent, true),
                     c.standing() == "not_told" ? "  ?" : ""),
        absl::StrCat(NumberText(kPercent * c.worst_recovery().value()), " ",
                     c.worst_language())};
    if (several) {
      row.insert(row.begin() + 4,
                 c.has_average_contrast_spread()
                     ? Value(kPercent *
                             c.average_contrast_spread().standard_deviation())
                     : Value());
    }
    for (const v1::CellResult& cell : c.cells()) {
      if (Learned(panel, cell)) {
        row.push_back(RecoveryText(cell.recovery()));
      }
    }
    row.push_back(ShareText(c.overhead_params()));
    table.rows.push_back(std::move(row));
  }
  return absl::StrCat(
      "share of the loss that protecting one layer takes back; AGAINST "
      "AVERAGE: worst language, minus the\naverage layer's, simultaneous over "
      "the layers; ?: not told from the average layer; ",
      several ? "SD: of it, between the roundings\n" : "this rounding only\n",
      RenderForPeople(table, {}), Shown(shown, ranked.size(), "layer"));
}

}  // namespace

std::string RenderConfigurations(const v1::GetResultsResponse& results,
                                 const ResultsStyle& style) {
  std::vector<std::string> sections;
  for (const v1::ResultPanel& panel : results.panels()) {
    sections.push_back(absl::StrCat(
        PanelHeader(panel, results.confidence()),
        ConfigurationTable(panel, results.reference(), style.top),
        "GAP: worst language, anchored; *: bits per unit and relative loss "
        "agree, "
        "both intervals without 0.\nDISPARITY: the earlier work's ratio, "
        "average over languages; it carries no verdict.\n",
        ExcludedLine(panel)));
  }
  return sections.empty() ? "no results yet\n" : absl::StrJoin(sections, "\n");
}

std::string RenderLayers(const v1::GetResultsResponse& results,
                         const ResultsStyle& style) {
  std::vector<std::string> sections;
  for (const v1::ResultPanel& panel : results.panels()) {
    sections.push_back(absl::StrCat(
        PanelHeader(panel, results.confidence()), LayerTable(panel, style.top),
        UntoldLine(panel), NoiseLine(panel),
        GapLines(panel, results.reference()), ExcludedLine(panel)));
  }
  return sections.empty() ? "no results yet\n" : absl::StrJoin(sections, "\n");
}

std::string RenderLanguages(const v1::GetResultsResponse& results) {
  std::vector<std::string> sections;
  for (const v1::ResultPanel& panel : results.panels()) {
    sections.push_back(absl::StrCat(PanelHeader(panel, results.confidence()),
                                    LanguageTable(panel),
                                    GapLines(panel, results.reference())));
  }
  return sections.empty() ? "no results yet\n" : absl::StrJoin(sections, "\n");
}

absl::StatusOr<Table> PivotTable(const v1::GetResultsResponse& results,
                                 absl::string_view metric) {
  const std::vector<std::string> names = MetricNames();
  if (std::find(names.begin(), names.end(), metric) == names.end()) {
    return MakeError(
        kBadValue, absl::StrCat("there is no metric \"", metric, "\""), "pivot",
        absl::StrCat("Use one of ", absl::StrJoin(names, ", "), "."));
  }
  Table table;
  table.kind = "ResultPivot";
  table.columns = {{"model", "MODEL"}, {"protect", "PROTECT"}};
  std::vector<std::string> languages;
  for (const v1::ResultPanel& panel : results.panels()) {
    for (const v1::LanguageResult& language : panel.languages()) {
      if (std::find(languages.begin(), languages.end(), language.language()) ==
          languages.end()) {
        languages.push_back(language.language());
        table.columns.push_back(
            {language.language(), language.language(), Form::kNumber});
      }
    }
  }
  for (const v1::ResultPanel& panel : results.panels()) {
    for (const v1::ConfigurationResult* configuration : BestFirst(panel)) {
      std::vector<Value> row(table.columns.size());
      row[0] = panel.model();
      row[1] = configuration->layer_set();
      for (const v1::CellResult& cell : configuration->cells()) {
        const auto at = std::find(languages.begin(), languages.end(),
                                  LanguageOf(panel, cell));
        const std::optional<double> value = MetricOf(cell, metric);
        row[2 + static_cast<size_t>(at - languages.begin())] =
            value ? Value(*value) : Value();
      }
      table.rows.push_back(std::move(row));
    }
  }
  table.name_column = "protect";
  table.empty_text = "No results yet.";
  table.extra = {{"metric", std::string(metric)}};
  return table;
}

}  // namespace qsweep::qctl
