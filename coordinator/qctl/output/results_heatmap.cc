#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "coordinator/qctl/output/results_text.h"
#include "coordinator/qctl/output/results_view.h"
#include "coordinator/qctl/output/text_width.h"

namespace qsweep::qctl {
namespace {

constexpr int kCellWidth = 9;

// From no effect to the greatest. 256-colour backgrounds, blue and orange,
// which people who do not see red or green tell apart.
constexpr std::array<int, 5> kPositive = {254, 153, 111, 68, 25};
constexpr std::array<int, 5> kNegative = {254, 223, 215, 172, 130};
constexpr std::array<const char*, 5> kShades = {".", "░", "▒", "▓", "█"};

// 0: below a tenth of the scale; then quarters of the rest.
int Step(double value, double scale) {
  const double share = std::abs(value) / scale;
  if (share < 0.1) {
    return 0;
  }
  return std::min(4, 1 + static_cast<int>((share - 0.1) / 0.9 * 4));
}

std::string ColorCell(const HeatCell& cell, double scale) {
  const int step = Step(*cell.value, scale);
  const int background =
      (*cell.value < 0 ? kNegative : kPositive)[static_cast<size_t>(step)];
  const std::string text =
      absl::StrCat(NumberText(*cell.value, true), cell.significant ? " " : "?");
  return absl::StrCat("\x1b[48;5;", background, ";38;5;", step == 4 ? 231 : 16,
                      "m", PaddedLeft(text, kCellWidth - 1), "\x1b[0m ");
}

std::string PlainCell(const HeatCell& cell, double scale) {
  const char* shade = kShades[static_cast<size_t>(Step(*cell.value, scale))];
  return absl::StrCat(
      PaddedLeft(absl::StrCat(*cell.value < 0 ? "-" : "+", shade, shade, shade,
                              cell.significant ? " " : "?"),
                 kCellWidth - 1),
      " ");
}

std::string CellText(const HeatCell& cell, double scale, bool color) {
  if (!cell.value) {
    return PaddedRight(PaddedLeft(cell.status == "unlearned" ? "x" : "-", 6),
                       kCellWidth);
  }
  return color ? ColorCell(cell, scale) : PlainCell(cell, scale);
}

std::string Legend(const Heatmap& map, bool color) {
  std::string text = "scale, ";
  absl::StrAppend(&text, map.unit, ": ");
  for (size_t step = 0; step < kShades.size(); ++step) {
    const double from =
        step == 0 ? 0
                  : map.scale * (0.1 + 0.225 * static_cast<double>(step - 1));
    absl::StrAppend(
        &text, step == 0 ? "" : "  ",
        color ? absl::StrCat("\x1b[48;5;", kNegative[step], "m  ", "\x1b[48;5;",
                             kPositive[step], "m  \x1b[0m")
              : kShades[step],
        " from ", NumberText(from));
  }
  return absl::StrCat(text, "\n+: ", map.positive, "   -: ", map.negative,
                      "   ?: the interval includes 0   x: not learned   -: no "
                      "value\n");
}

std::string PanelHeatmap(const v1::ResultPanel& panel, bool color) {
  const Heatmap map = MakeHeatmap(panel);
  if (map.rows.empty()) {
    return "no cell has a value yet\n";
  }
  int label = 5;
  for (const std::string& row : map.rows) {
    label = std::max(label, TextWidth(Printable(row)));
  }
  std::string text =
      absl::StrCat(map.title, ", ", map.unit, "\n", PaddedRight("", label + 1));
  for (const std::string& column : map.columns) {
    absl::StrAppend(
        &text,
        PaddedRight(PaddedLeft(Truncated(Printable(column), kCellWidth - 1), 6),
                    kCellWidth));
  }
  absl::StrAppend(&text, "   mean\n");
  for (size_t row = 0; row < map.rows.size(); ++row) {
    absl::StrAppend(&text, PaddedRight(Printable(map.rows[row]), label + 1));
    for (const HeatCell& cell : map.cells[row]) {
      absl::StrAppend(&text, CellText(cell, map.scale, color));
    }
    absl::StrAppend(
        &text,
        PaddedLeft(
            map.row_means[row] ? NumberText(*map.row_means[row], true) : "-",
            7),
        "\n");
  }
  return absl::StrCat(text, Legend(map, color));
}

}  // namespace

std::string RenderHeatmap(const v1::GetResultsResponse& results,
                          const ResultsStyle& style) {
  std::vector<std::string> sections;
  for (const v1::ResultPanel& panel : results.panels()) {
    sections.push_back(PanelHeatmap(panel, style.color));
  }
  return sections.empty() ? "no results yet\n" : absl::StrJoin(sections, "\n");
}

}  // namespace qsweep::qctl
