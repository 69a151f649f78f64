#include "coordinator/qctl/output/verdict_text.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "coordinator/qctl/output/results_view.h"

namespace qsweep::qctl {
namespace {

std::string TrustSentence(const v1::ResultPanel& panel,
                          const std::string& unit) {
  std::string text =
      absl::StrCat(panel.n_eff() < kPilotUnits ? "This is a pilot of "
                                               : "This is a sample of ",
                   Plural(panel.units(), unit),
                   absl::StrFormat(" (n_eff %.1f)", panel.n_eff()));
  if (HasFlag(panel, "prequantized") || HasFlag(panel, "prequantized8")) {
    absl::StrAppend(&text, " on a model that was quantized before");
  }
  if (HasFlag(panel, "exploratory")) {
    absl::StrAppend(&text, ", too few for any verdict");
  }
  if (panel.rows() < panel.rows_expected()) {
    absl::StrAppend(&text, ", with ", panel.rows(), " of ",
                    panel.rows_expected(), " measurements done");
  }
  return text + ".";
}

// Languages of the gaps at `none` with this verdict.
std::vector<std::string> LanguagesWith(const v1::ResultPanel& panel,
                                       const std::string& verdict) {
  std::vector<std::string> languages;
  const v1::ConfigurationResult* none = FindUnprotected(panel);
  for (int l = 0; none != nullptr && l < none->cells_size(); ++l) {
    if (none->cells(l).verdict() == verdict) {
      languages.push_back(panel.languages(l).language());
    }
  }
  return languages;
}

std::string GapSentence(const v1::ResultPanel& panel,
                        const std::string& reference) {
  struct Part {
    const char* verdict;
    const char* text;
  };
  std::vector<std::string> parts;
  for (const Part& part :
       {Part{"worse", " lose more than "}, Part{"better", " lose less than "},
        Part{"unit_conflict",
             " cannot be judged (the units disagree) against "},
        Part{"not_resolved", " cannot be told from "},
        Part{"exploratory", " get no verdict against "}}) {
    const std::vector<std::string> languages =
        LanguagesWith(panel, part.verdict);
    if (!languages.empty()) {
      parts.push_back(
          absl::StrCat(absl::StrJoin(languages, ", "), part.text, reference));
    }
  }
  return parts.empty()
             ? absl::StrCat("No gap to ", reference, " can be stated.")
             : absl::StrCat("With nothing protected, ",
                            absl::StrJoin(parts, "; "), ".");
}

std::string LayerSentence(const v1::ResultPanel& panel,
                          const std::string& unit) {
  const std::vector<LayerBar> bars = MakeLayerBars(panel);
  if (bars.empty()) {
    return "No single layer can be ranked.";
  }
  std::vector<std::string> above;
  size_t untold = 0;
  for (const LayerBar& bar : bars) {
    if (bar.standing == "above") {
      above.push_back(
          absl::StrCat(bar.layer, " (", NumberText(100 * bar.worst_recovery),
                       "% of the loss in ", bar.worst_language, ")"));
    }
    untold += bar.standing == "not_told" ? 1 : 0;
  }
  std::string text =
      above.empty()
          ? "No layer can be told to take back more than the average layer"
          : absl::StrCat(absl::StrJoin(above, ", "),
                         above.size() == 1 ? " takes" : " take",
                         " back more than the average layer when protected");
  if (untold > 0) {
    absl::StrAppend(&text, "; ", untold, " of ", Plural(bars.size(), "layer"),
                    " cannot be told from it");
    if (panel.has_units_more_layers()) {
      absl::StrAppend(&text, " (", MoreText(panel.units_more_layers(), unit),
                      " would tell half of them)");
    }
  }
  return text + ".";
}

}  // namespace

std::vector<std::string> VerdictSentences(const v1::ResultPanel& panel,
                                          const std::string& reference,
                                          const std::string& unit) {
  return {TrustSentence(panel, unit), GapSentence(panel, reference),
          LayerSentence(panel, unit)};
}

}  // namespace qsweep::qctl
