#include "coordinator/qctl/output/results_svg.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "coordinator/qctl/output/svg.h"
#include "coordinator/qctl/output/text_width.h"

namespace qsweep::qctl {
namespace {

constexpr double kRow = 22;
constexpr double kCell = 84;
constexpr double kTop = 34;
constexpr double kCharacter = 7.6;  // width of one, about

// Of the values of one sign the greatest is drawn full, a zero nearly white.
std::string Fill(double value, double scale) {
  const double share = std::min(1.0, std::abs(value) / scale);
  return absl::StrFormat("class=\"%s\" fill-opacity=\"%.2f\"",
                         value < 0 ? "minus" : "plus", 0.05 + 0.95 * share);
}

bool NeedsLightText(double value, double scale) {
  return std::abs(value) / scale > 0.5;
}

double LabelWidth(const std::vector<std::string>& labels) {
  int width = 4;
  for (const std::string& label : labels) {
    width = std::max(width, TextWidth(label));
  }
  return kCharacter * width + 14;
}

std::string CellTooltip(const Heatmap& map, size_t row, size_t column) {
  const HeatCell& cell = map.cells[row][column];
  const std::string place =
      absl::StrCat(map.rows[row], ", ", map.columns[column], ": ");
  if (!cell.value) {
    return absl::StrCat(place, StatusText(cell.status));
  }
  std::string text =
      absl::StrCat(place, NumberText(*cell.value, true), " ", map.unit);
  if (cell.low && cell.high) {
    absl::StrAppend(&text, " [", NumberText(*cell.low), ", ",
                    NumberText(*cell.high), "]",
                    cell.significant ? "" : ", interval includes 0");
  }
  return text;
}

void DrawCell(const Heatmap& map, size_t row, size_t column, double x, double y,
              SvgWriter& svg) {
  const HeatCell& cell = map.cells[row][column];
  const std::string tooltip = CellTooltip(map, row, column);
  if (!cell.value) {
    svg.Rect(x, y, kCell - 2, kRow - 2, "class=\"frame\"", tooltip);
    svg.Text(x + kCell / 2 - 1, y + 15,
             cell.status == "unlearned" ? "not learned" : "–",
             "class=\"soft\" text-anchor=\"middle\"");
    return;
  }
  svg.Rect(x, y, kCell - 2, kRow - 2, Fill(*cell.value, map.scale), tooltip);
  if (!cell.significant) {
    svg.Rect(x, y, kCell - 2, kRow - 2, "fill=\"url(#qs-hatch)\"", tooltip);
  }
  svg.Text(x + kCell / 2 - 1, y + 15, NumberText(*cell.value, true),
           NeedsLightText(*cell.value, map.scale)
               ? "class=\"strong\" text-anchor=\"middle\""
               : "text-anchor=\"middle\"");
}

void DrawLegend(const Heatmap& map, double x, double y, SvgWriter& svg) {
  constexpr int kSteps = 9;
  constexpr double kStep = 34;
  for (int i = 0; i < kSteps; ++i) {
    const double value =
        map.scale * (2.0 * i / static_cast<double>(kSteps - 1) - 1);
    svg.Rect(x + kStep * i, y, kStep - 1, 12, Fill(value, map.scale));
  }
  const double width = kStep * kSteps;
  svg.Text(x, y + 28,
           absl::StrCat(NumberText(-map.scale), ", orange: ", map.negative),
           "class=\"soft\"");
  svg.Text(x, y + 45,
           absl::StrCat(NumberText(map.scale, true), ", blue: ", map.positive),
           "class=\"soft\"");
  svg.Rect(x + width + 24, y, 30, 12, "fill=\"url(#qs-hatch)\"");
  svg.Rect(x + width + 24, y, 30, 12, "class=\"frame\"");
  svg.Text(x + width + 62, y + 11, "the interval includes 0", "class=\"soft\"");
}

// The least of 1, 2, 5 times a power of ten that cuts `span` in at most eight.
double TickStep(double span) {
  const double power = std::pow(10, std::floor(std::log10(span / 8)));
  for (const double step : {1.0, 2.0, 5.0}) {
    if (span / (step * power) <= 8) {
      return step * power;
    }
  }
  return 10 * power;
}

void DrawAxis(double low, double high, double left, double width, double bottom,
              SvgWriter& svg) {
  const double step = TickStep(high - low);
  for (double tick = std::ceil(low / step) * step; tick <= high + step / 1e6;
       tick += step) {
    const double x = left + (tick - low) / (high - low) * width;
    const bool zero = std::abs(tick) < step / 2;
    svg.Line(x, kTop - 6, x, bottom,
             zero ? "class=\"zero\"" : "class=\"axis\"");
    svg.Text(x, kTop - 12, zero ? "0" : absl::StrFormat("%+g", tick),
             "class=\"soft\" text-anchor=\"middle\"");
  }
}

std::string IntervalText(const LayerBar& bar) {
  return absl::StrCat(
      NumberText(100 * bar.contrast, true), " [", NumberText(100 * bar.low),
      ", ", NumberText(100 * bar.high), "]",
      bar.contrast_sd ? absl::StrCat(" SD ", NumberText(100 * *bar.contrast_sd))
                      : "");
}

// x: from a share to its place.
template <typename ToX>
void DrawBar(const LayerBar& bar, const ToX& x, double y, SvgWriter& svg) {
  const std::string tooltip =
      absl::StrCat(bar.layer, ": ", IntervalText(bar), ", worst language ",
                   bar.worst_language);
  const bool told = bar.standing != "not_told";
  const double from = std::min(x(0), x(bar.contrast));
  const double width = std::abs(x(bar.contrast) - x(0));
  svg.Rect(from, y + 4, width, kRow - 8,
           !told                     ? "class=\"flat\" fill-opacity=\".35\""
           : bar.standing == "above" ? "class=\"plus\""
                                     : "class=\"minus\"",
           tooltip);
  if (!told) {
    svg.Rect(from, y + 4, width, kRow - 8, "fill=\"url(#qs-hatch)\"", tooltip);
  }
  const double middle = y + kRow / 2;
  svg.Line(x(bar.low), middle, x(bar.high), middle, "class=\"whisker\"");
  for (const double end : {bar.low, bar.high}) {
    svg.Line(x(end), middle - 4, x(end), middle + 4, "class=\"whisker\"");
  }
  if (bar.contrast_sd) {
    const double below = y + kRow - 2;
    svg.Line(x(bar.contrast - *bar.contrast_sd), below,
             x(bar.contrast + *bar.contrast_sd), below, "class=\"spread\"");
  }
}

}  // namespace

std::string HeatmapSvg(const Heatmap& map,
                       const std::vector<std::string>& provenance) {
  if (map.rows.empty()) {
    return "";
  }
  const double left = LabelWidth(map.rows);
  const double right = left + kCell * static_cast<double>(map.columns.size());
  const double bottom = kTop + kRow * static_cast<double>(map.rows.size());
  SvgWriter svg(std::max(right + 76, left + 520), bottom + 66, map.title,
                absl::StrCat(map.rows.size(), " rows by ", map.columns.size(),
                             " languages, in ", map.unit,
                             "; the table below holds every value."));
  svg.Metadata(provenance);
  for (size_t column = 0; column < map.columns.size(); ++column) {
    svg.Text(left + kCell * (static_cast<double>(column) + 0.5) - 1, kTop - 12,
             map.columns[column], "text-anchor=\"middle\"");
  }
  svg.Text(right + 40, kTop - 12, "mean",
           "class=\"soft\" text-anchor=\"middle\"");
  for (size_t row = 0; row < map.rows.size(); ++row) {
    const double y = kTop + kRow * static_cast<double>(row);
    svg.Text(left - 10, y + 15, map.rows[row], "text-anchor=\"end\"");
    for (size_t column = 0; column < map.columns.size(); ++column) {
      DrawCell(map, row, column, left + kCell * static_cast<double>(column), y,
               svg);
    }
    if (map.row_means[row]) {
      svg.Text(right + 40, y + 15, NumberText(*map.row_means[row], true),
               "class=\"soft\" text-anchor=\"middle\"");
    }
  }
  DrawLegend(map, left, bottom + 12, svg);
  return svg.Finish();
}

std::string LayerBarsSvg(const std::vector<LayerBar>& bars,
                         const std::vector<std::string>& provenance) {
  if (bars.empty()) {
    return "";
  }
  constexpr double kPlot = 430;
  std::vector<std::string> labels;
  double low = 0;
  double high = 0;
  bool spread = false;
  for (const LayerBar& bar : bars) {
    labels.push_back(absl::StrCat(bar.rank, "  ", bar.layer));
    const double sd = bar.contrast_sd.value_or(0);
    low = std::min({low, 100 * bar.low, 100 * (bar.contrast - sd)});
    high = std::max({high, 100 * bar.high, 100 * (bar.contrast + sd)});
    spread |= bar.contrast_sd.has_value();
  }
  const double margin = std::max(0.05 * (high - low), 1e-6);
  low -= margin;
  high += margin;
  const double left = LabelWidth(labels);
  const double bottom = kTop + kRow * static_cast<double>(bars.size());
  const auto x = [&](double value) {
    return left + (100 * value - low) / (high - low) * kPlot;
  };
  SvgWriter svg(left + kPlot + (spread ? 240 : 190),
                bottom + (spread ? 52 : 34), "Layers against the average layer",
                "Recovery in the worst language minus the average layer's, in "
                "percentage points, with simultaneous intervals; the table "
                "below holds every value.");
  svg.Metadata(provenance);
  DrawAxis(low, high, left, kPlot, bottom, svg);
  for (size_t i = 0; i < bars.size(); ++i) {
    const double y = kTop + kRow * static_cast<double>(i);
    svg.Text(left - 10, y + 15, labels[i], "text-anchor=\"end\"");
    svg.Text(left + kPlot + 12, y + 15, IntervalText(bars[i]),
             "class=\"soft\"");
    DrawBar(bars[i], x, y, svg);
  }
  svg.Text(left, bottom + 22,
           "grey, hatched: cannot be told from the average layer",
           "class=\"soft\"");
  if (spread) {
    svg.Text(left, bottom + 40,
             "line under a bar: one standard deviation (SD) between the "
             "roundings to either side",
             "class=\"soft\"");
  }
  return svg.Finish();
}

}  // namespace qsweep::qctl
