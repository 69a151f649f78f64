#include "coordinator/qctl/output/report.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "coordinator/qctl/output/html.h"
#include "coordinator/qctl/output/output.h"
#include "coordinator/qctl/output/results_svg.h"
#include "coordinator/qctl/output/results_view.h"
#include "coordinator/qctl/output/svg.h"
#include "coordinator/qctl/output/verdict_text.h"

namespace qsweep::qctl {
namespace {

// What the sections of a panel share.
struct PanelReport {
  const v1::GetResultsResponse& results;
  const v1::ResultPanel& panel;
  const ReportOptions& options;
  std::vector<std::string> provenance;  // lines inside the pictures
};

// "German (deu_1996)", or the code alone.
std::string LanguageName(const ReportOptions& options,
                         const std::string& language) {
  const auto found = options.language_names.find(language);
  return found == options.language_names.end()
             ? language
             : absl::StrCat(found->second, " (", language, ")");
}

std::string JoinFlags(
    const google::protobuf::RepeatedPtrField<std::string>& flags) {
  return flags.empty() ? "–" : absl::StrJoin(flags, ", ");
}

std::string VerdictSection(const PanelReport& report) {
  std::string html = "<div class=\"verdict\">\n";
  for (const std::string& sentence : VerdictSentences(
           report.panel, report.results.reference(), report.options.unit)) {
    absl::StrAppend(&html, Element("p", sentence));
  }
  return absl::StrCat(html, "</div>\n");
}

std::string LanguagesSection(const PanelReport& report) {
  HtmlTable table;
  table.caption = "Languages, before quantization";
  table.columns = {"Language",      "Tokens", "Nats per token",
                   "Unigram model", "n_eff",  "Detectable gap, bits",
                   "Status",        "Flags"};
  table.numeric = {false, true, true, true, true, true, false, false};
  for (const v1::LanguageResult& l : report.panel.languages()) {
    table.rows.push_back(
        {LanguageName(report.options, l.language()),
         WithThousands(static_cast<int64_t>(l.tokens())),
         NumberText(l.nll_fp_per_token()),
         NumberText(l.nll_unigram_per_token()),
         absl::StrFormat("%.1f", l.n_eff()),
         l.minimum_detectable() > 0 ? NumberText(l.minimum_detectable()) : "–",
         l.status().empty() ? "learned" : StatusText(l.status()),
         JoinFlags(l.flags())});
  }
  return TableHtml(table);
}

std::string GapsSection(const PanelReport& report) {
  const v1::ConfigurationResult* none = FindUnprotected(report.panel);
  if (none == nullptr) {
    return "";
  }
  HtmlTable table;
  table.caption =
      absl::StrCat("Loss beyond that of ", report.results.reference(), ", ",
                   PercentText(report.results.confidence()), " intervals");
  table.columns = {
      "Language",         absl::StrCat("Bits per ", report.options.unit),
      "Relative loss",    "Verdict",
      "Would resolve it", "Bits per byte",
      "Nats per token"};
  table.numeric = {false, true, true, false, false, true, true};
  for (int l = 0; l < none->cells_size(); ++l) {
    const v1::CellResult& cell = none->cells(l);
    const v1::LanguageResult& language = report.panel.languages(l);
    if (language.language() == report.results.reference()) {
      continue;
    }
    table.rows.push_back(
        {LanguageName(report.options, language.language()),
         EstimateText(cell.gap_bits_per_unit(), 1, true),
         EstimateText(cell.gap_relative_loss(), 1, true),
         cell.verdict().empty() ? "–" : VerdictText(cell.verdict()),
         language.has_units_more() && language.units_more() > 0
             ? MoreText(language.units_more(), report.options.unit)
             : "–",
         EstimateText(cell.gap_bits_per_byte(), 1, true),
         EstimateText(cell.gap_delta_nll(), 1, true)});
  }
  return absl::StrCat(
      Element("h2", "Gaps between languages, nothing protected"),
      Element("p",
              "A verdict needs the gap in bits per unit of text and the gap in "
              "relative loss to agree, both intervals without 0. Bits per byte "
              "and nats per token stand beside and never decide: tokens and "
              "bytes of different languages are not comparable."),
      TableHtml(table));
}

std::string Details(absl::string_view summary, const std::string& html) {
  return absl::StrCat("<details><summary>", summary, "</summary>\n", html,
                      "</details>\n");
}

std::string HeatmapSection(const PanelReport& report) {
  const Heatmap map = MakeHeatmap(report.panel);
  if (map.rows.empty()) {
    return "";
  }
  HtmlTable table;
  table.caption = absl::StrCat(map.title, ", ", map.unit, ", ",
                               PercentText(report.results.confidence()),
                               " intervals; ?: the interval includes 0");
  table.columns = {"Protected"};
  table.numeric = {false};
  for (const std::string& column : map.columns) {
    table.columns.push_back(LanguageName(report.options, column));
    table.numeric.push_back(true);
  }
  for (size_t row = 0; row < map.rows.size(); ++row) {
    std::vector<std::string> cells = {map.rows[row]};
    for (const HeatCell& cell : map.cells[row]) {
      if (!cell.value) {
        cells.push_back(StatusText(cell.status));
        continue;
      }
      std::string text = NumberText(*cell.value, true);
      if (cell.low && cell.high) {
        absl::StrAppend(&text, " [", NumberText(*cell.low), ", ",
                        NumberText(*cell.high), "]",
                        cell.significant ? "" : " ?");
      }
      cells.push_back(text);
    }
    table.rows.push_back(cells);
  }
  return absl::StrCat(
      Element("h2", "Which layer matters for which language"),
      Element("p", absl::StrCat(map.title, ", in ", map.unit,
                                ". Intervals are those of each cell alone.")),
      "<figure>", HeatmapSvg(map, report.provenance), "</figure>\n",
      Details("The same as a table", TableHtml(table)));
}

std::string LayersSection(const PanelReport& report) {
  const std::vector<LayerBar> bars = MakeLayerBars(report.panel);
  if (bars.empty()) {
    return "";
  }
  HtmlTable table;
  table.caption = "Single layers by rank";
  table.columns = {"Layer",    "Rank",
                   "Group",    "Worst recovery",
                   "Language", "Against the average layer, points",
                   "Standing"};
  table.numeric = {false, true, true, true, false, true, false};
  for (const LayerBar& bar : bars) {
    table.rows.push_back(
        {bar.layer, absl::StrCat(bar.rank), absl::StrCat(bar.group),
         absl::StrCat(NumberText(100 * bar.worst_recovery), "%"),
         bar.worst_language,
         absl::StrCat(NumberText(100 * bar.contrast, true), " [",
                      NumberText(100 * bar.low), ", ",
                      NumberText(100 * bar.high), "]",
                      SpreadText(bar, report.panel)),
         bar.standing == "not_told" ? "cannot be told" : bar.standing});
  }
  return absl::StrCat(
      Element("h2", "Which layers can be told apart"),
      Element("p",
              absl::StrCat(
                  "Ranked by the share of the loss that protecting the layer "
                  "takes back in its worst language, shown against the average "
                  "layer. Intervals are simultaneous over the layers, for ",
                  RoundingsText(report.panel), ": ",
                  absl::StrJoin(RankTexts(report.panel), "; "), ".")),
      "<figure>", LayerBarsSvg(bars, report.provenance), "</figure>\n",
      Details("The same as a table", TableHtml(table)));
}

std::string ConfigurationsSection(const PanelReport& report) {
  HtmlTable table;
  table.caption = "All configurations with the earlier work's columns";
  table.columns = {
      "Protected",     "Rank",   "Mean KL, nats", "Average disparity",
      "Max disparity", "Params", "Layers",        "Kept",
      "Bytes",         "Flags"};
  table.numeric = {false, true, true, true, true,
                   true,  true, true, true, false};
  const auto percent = [](double share) {
    return absl::StrFormat("%.2f%%", 100 * share);
  };
  const auto ratio = [](bool present, double value) {
    return present ? absl::StrCat(NumberText(value), "×") : std::string("–");
  };
  for (const v1::ConfigurationResult& c : report.panel.configurations()) {
    table.rows.push_back(
        {c.baseline() ? "all (baseline)" : c.layer_set(),
         c.rank() > 0 ? absl::StrCat(c.rank()) : "–",
         c.has_mean_kl() ? NumberText(c.mean_kl()) : "–",
         ratio(c.has_average_disparity(), c.average_disparity()),
         ratio(c.has_max_disparity(), c.max_disparity()),
         percent(c.overhead_params()), percent(c.overhead_layers()),
         percent(c.overhead_kept()), percent(c.overhead_bytes()),
         JoinFlags(c.flags())});
  }
  return absl::StrCat(
      Element("h2", "Configurations"),
      Element("p",
              "Disparity is the earlier work's ratio of perplexity "
              "degradations. It falls when the reference gets worse and "
              "explodes with the loss, so it carries no verdict. KL to the "
              "baseline ranks damage, not direction."),
      Details("Table", TableHtml(table)));
}

std::string StatisticsSection(const v1::GetResultsResponse& results) {
  return absl::StrCat(
      Element("h2", "Statistics used"),
      ListHtml(
          {absl::StrCat(
               "Studentized bootstrap with clustered standard errors (factor "
               "n/(n-1)), ",
               WithThousands(static_cast<int64_t>(results.resamples())),
               " resamples, seed ", results.seed(),
               ". Aligned units are resampled jointly over languages, "
               "configurations and the baseline."),
           "Recovery: 1 - loss / loss at none, inside one language, so tokens, "
           "bytes and units cancel.",
           "Comparisons of layers carry simultaneous intervals (largest |t| "
           "over the layers, or over their pairs); those of cells do not.",
           "Losses are differences to the baseline that ran in the same task "
           "on the same device.",
           absl::StrCat("Reference rule of the disparity column: ",
                        results.ref_rule(), ".")}));
}

std::string ProvenanceSection(const v1::GetResultsResponse& results,
                              const ReportOptions& options) {
  HtmlTable table;
  table.caption = "Provenance";
  table.columns = {"What", "Value"};
  table.rows = {{"Job", absl::StrCat(results.job().job_number(), " ",
                                     results.job().name())},
                {"Data digest", results.data_digest()},
                {"Rows", WithThousands(static_cast<int64_t>(results.rows()))},
                {"Coordinator", absl::StrCat("qsweep ", results.version(), " ",
                                             results.revision())},
                {"Made", options.created_at},
                {"Again with", options.command}};
  return absl::StrCat(
      Element("h2", "Provenance and rows"), TableHtml(table),
      DownloadHtml("Save the measurement rows (CSV)",
                   absl::StrCat("rows-job", results.job().job_number(), ".csv"),
                   "text/csv", options.rows_csv));
}

std::string PanelSections(const PanelReport& report) {
  const v1::ResultPanel& panel = report.panel;
  return absl::StrCat(
      Element("p",
              absl::StrCat(panel.model(), " under ", panel.quantizer(),
                           ", evaluation ", panel.evaluation(), ", ",
                           panel.compute(), ", corpus ", panel.corpus(), ".")),
      VerdictSection(report), Element("h2", "What this sample cannot say"),
      ListHtml({panel.notes().begin(), panel.notes().end()}),
      LanguagesSection(report), GapsSection(report), HeatmapSection(report),
      LayersSection(report), ConfigurationsSection(report));
}

}  // namespace

std::string RenderReport(const v1::GetResultsResponse& results,
                         const ReportOptions& options) {
  const std::string title = absl::StrCat(
      "Job ", results.job().job_number(),
      results.job().name().empty() ? "" : " · ", results.job().name());
  std::string body = absl::StrCat("<h1 id=\"verdict\" tabindex=\"-1\">",
                                  EscapeXml(title), "</h1>\n");
  for (const v1::ResultPanel& panel : results.panels()) {
    absl::StrAppend(
        &body,
        PanelSections({results,
                       panel,
                       options,
                       {absl::StrCat("command: ", options.command),
                        absl::StrCat("data digest: ", results.data_digest()),
                        absl::StrCat("qsweep ", results.version(), " ",
                                     results.revision())}}));
  }
  if (results.panels().empty()) {
    absl::StrAppend(&body, Element("p", "No results yet."));
  }
  absl::StrAppend(&body, StatisticsSection(results),
                  ProvenanceSection(results, options));
  return PageHtml(title, body);
}

}  // namespace qsweep::qctl
