#include "coordinator/qctl/output/closing_screen.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "coordinator/qctl/output/output.h"
#include "coordinator/qctl/output/results_view.h"
#include "coordinator/qctl/output/text_width.h"

namespace qsweep::qctl {
namespace {

std::string Item(const std::string& text) {
  return absl::StrCat("  - ", text, "\n");
}

std::vector<std::string> LanguagesWith(const v1::ResultPanel& panel,
                                       const std::string& status) {
  std::vector<std::string> languages;
  for (const v1::LanguageResult& language : panel.languages()) {
    if (language.status() == status) {
      languages.push_back(language.language());
    }
  }
  return languages;
}

std::string UnlearnedText(const v1::ResultPanel& panel) {
  std::vector<std::string> parts;
  for (const v1::LanguageResult& language : panel.languages()) {
    if (language.status() == "unlearned") {
      parts.push_back(absl::StrCat(
          language.language(), " (", NumberText(language.nll_fp_per_token()),
          " nats per token before quantization, a unigram model ",
          NumberText(language.nll_unigram_per_token()), ")"));
    }
  }
  return absl::StrJoin(parts, ", ");
}

// What comes first: the limits of what follows.
std::string Limits(const v1::ResultPanel& panel,
                   const ClosingOptions& options) {
  std::string text = "What this sample cannot say\n";
  if (HasFlag(panel, "prequantized") || HasFlag(panel, "prequantized8")) {
    absl::StrAppend(
        &text,
        Item(absl::StrCat(
            "The model is re-quantized from a ",
            HasFlag(panel, "prequantized") ? "4" : "8",
            "-bit file: every loss here is that of quantizing it once more, "
            "not that of\n    quantizing the original.")));
  }
  std::string size = absl::StrCat(
      panel.n_eff() < kPilotUnits ? "A pilot: " : "A sample: ",
      Plural(panel.units(), absl::StrCat("aligned ", options.unit)),
      absl::StrFormat(" that weigh like %.1f equally long ones (n_eff).",
                      panel.n_eff()));
  if (HasFlag(panel, "exploratory")) {
    absl::StrAppend(&size, " Below 12: exploratory, no verdicts.");
  }
  absl::StrAppend(&text, Item(size));
  absl::StrAppend(
      &text,
      Item(absl::StrCat("Languages the model knows: ",
                        absl::StrJoin(LanguagesWith(panel, ""), ", "), ".")));
  const std::string unlearned = UnlearnedText(panel);
  if (!unlearned.empty()) {
    absl::StrAppend(&text,
                    Item(absl::StrCat("Not learned, so excluded from gaps and "
                                      "ranks:\n    ",
                                      unlearned, ".")));
  }
  if (panel.rows() < panel.rows_expected()) {
    absl::StrAppend(
        &text, Item(absl::StrCat(panel.rows(), " of ", panel.rows_expected(),
                                 " measurements are there.")));
  }
  absl::StrAppend(
      &text,
      Item(absl::StrCat(
          "Intervals cover other units of this corpus: one text, one register, "
          "one translation per\n    language, possibly memorised by the model; "
          "and ",
          RoundingsText(panel), ".")));
  return text;
}

// What a gap amounts to, and what it would take to resolve it.
std::string GapVerdict(const v1::CellResult& cell,
                       const v1::LanguageResult& language,
                       const std::string& unit) {
  std::string text = VerdictText(cell.verdict());
  if (cell.verdict() == "exploratory" &&
      std::find(cell.flags().begin(), cell.flags().end(), "unit_conflict") !=
          cell.flags().end()) {
    absl::StrAppend(&text, "; unit_conflict");
  }
  if (cell.verdict() == "unit_conflict") {
    text = "unit_conflict: no verdict";
  }
  if (language.has_units_more() && language.units_more() > 0) {
    absl::StrAppend(&text, "; ", MoreText(language.units_more(), unit),
                    " would resolve it");
  }
  return text;
}

std::string Gaps(const v1::ResultPanel& panel, const std::string& reference,
                 double confidence, const ClosingOptions& options) {
  const v1::ConfigurationResult* none = FindUnprotected(panel);
  Table table;
  table.columns = {
      {"language", "LANGUAGE"},
      {"bits", absl::StrCat("BITS PER ", absl::AsciiStrToUpper(options.unit))},
      {"loss", "RELATIVE LOSS"},
      {"says", "VERDICT"}};
  for (int l = 0; none != nullptr && l < none->cells_size(); ++l) {
    const v1::CellResult& cell = none->cells(l);
    if (!cell.gap_bits_per_unit().has_value()) {
      continue;
    }
    table.rows.push_back({absl::StrCat("  ", panel.languages(l).language()),
                          EstimateText(cell.gap_bits_per_unit(), 1, true),
                          EstimateText(cell.gap_relative_loss(), 1, true),
                          GapVerdict(cell, panel.languages(l), options.unit)});
  }
  if (table.rows.empty()) {
    return absl::StrCat("No gap to ", reference, " can be stated.\n");
  }
  table.columns[0].title = "  LANGUAGE";
  return absl::StrCat(
      "How much more a language loses than ", reference,
      " with nothing protected (", PercentText(confidence), " intervals)\n",
      RenderForPeople(table, {}),
      "  * bits and relative loss agree, and both intervals leave out 0\n");
}

std::vector<int> LayersWith(const v1::ResultPanel& panel,
                            const std::string& standing) {
  std::vector<int> layers;
  for (const v1::ConfigurationResult& c : panel.configurations()) {
    if (c.standing() == standing && c.has_layer()) {
      layers.push_back(static_cast<int>(c.layer()));
    }
  }
  return layers;
}

// "L0 takes back 18.1% of the loss (worst: arb), 12.0 points more than the
// average layer [5.1, 19.0]".
std::string ToldText(const LayerBar& bar, const v1::ResultPanel& panel) {
  return absl::StrCat(
      bar.layer, " takes back ", NumberText(100 * bar.worst_recovery),
      "% of the loss (worst: ", bar.worst_language, "), ",
      NumberText(100 * bar.contrast, true),
      " points against the average layer [", NumberText(100 * bar.low), ", ",
      NumberText(100 * bar.high), "]", SpreadText(bar, panel));
}

std::string Layers(const v1::ResultPanel& panel,
                   const ClosingOptions& options) {
  const std::vector<LayerBar> bars = MakeLayerBars(panel);
  if (bars.empty()) {
    return "No layer can be ranked yet.\n";
  }
  std::string text =
      "Which layers can be told from the average layer (simultaneous over "
      "layers)\n";
  for (const LayerBar& bar : bars) {
    if (bar.standing == "above") {
      absl::StrAppend(&text, Item(ToldText(bar, panel)));
    }
  }
  const std::vector<int> below = LayersWith(panel, "below");
  if (!below.empty()) {
    absl::StrAppend(&text, Item(absl::StrCat("below it: ", LayerList(below))));
  }
  const std::vector<int> untold = LayersWith(panel, "not_told");
  if (untold.size() == bars.size()) {
    absl::StrAppend(&text, Item("none"));
  }
  if (!untold.empty()) {
    std::string line = absl::StrCat("cannot be told: ", LayerList(untold));
    if (panel.has_units_more_layers()) {
      absl::StrAppend(&line, "; ",
                      MoreText(panel.units_more_layers(), options.unit),
                      " would tell half of them");
    }
    absl::StrAppend(&text, Item(line));
  }
  return absl::StrCat(text, Item(absl::StrJoin(RankTexts(panel), "; ")));
}

}  // namespace

std::string RenderClosingScreen(const v1::GetResultsResponse& results,
                                const ClosingOptions& options) {
  std::vector<std::string> sections;
  for (const v1::ResultPanel& panel : results.panels()) {
    sections.push_back(absl::StrCat(
        Printable(panel.model()), " under ", panel.quantizer(), "\n\n",
        Limits(panel, options), "\n",
        Gaps(panel, results.reference(), results.confidence(), options), "\n",
        Layers(panel, options)));
  }
  if (sections.empty()) {
    sections.push_back("No results yet.\n");
  }
  std::string next;
  for (const std::string& command : options.next_commands) {
    absl::StrAppend(&next, next.empty() ? "\nNext\n" : "", "  ", command, "\n");
  }
  return absl::StrCat(absl::StrJoin(sections, "\n"), next);
}

}  // namespace qsweep::qctl
