#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

#include "coordinator/qctl/output/output.h"
#include "coordinator/qctl/output/text_width.h"

namespace qsweep::qctl {
namespace {

constexpr int kGap = 2;           // spaces between columns
constexpr int kShortId = 8;       // hex digits a selector accepts
constexpr char kNothing[] = "-";  // an empty cell
constexpr size_t kBarWidth = 8;
constexpr int kNarrowestText = 8;  // a text column is not cut below this

bool RightAligned(Form form) {
  switch (form) {
    case Form::kNumber:
    case Form::kBytes:
    case Form::kDuration:
    case Form::kPercent:
    case Form::kAge:
      return true;
    case Form::kText:
    case Form::kShortId:
    case Form::kBar:
      return false;
  }
  return false;
}

std::string FormatBytes(double bytes) {
  static constexpr const char* kUnits[] = {"B",   "KiB", "MiB",
                                           "GiB", "TiB", "PiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? absl::StrFormat("%.0f B", bytes)
                   : absl::StrFormat("%.1f %s", bytes, kUnits[unit]);
}

// The two largest units: "45s", "1m30s", "2h05m", "3d04h".
std::string FormatSeconds(double seconds) {
  constexpr double kYear = 365.25 * 86400;
  if (!(seconds < 100 * kYear)) {  // nor a NaN
    return "over 100 years";
  }
  if (seconds < 0.9995) {
    return absl::StrFormat("%.0fms", std::max(0.0, seconds) * 1000);
  }
  const int64_t total = std::llround(seconds);
  if (total < 60) {
    return absl::StrFormat("%ds", total);
  }
  if (total < 3600) {
    return absl::StrFormat("%dm%02ds", total / 60, total % 60);
  }
  if (total < 24 * 3600) {
    return absl::StrFormat("%dh%02dm", total / 3600, total / 60 % 60);
  }
  return absl::StrFormat("%dd%02dh", total / (24 * 3600), total / 3600 % 24);
}

double AsDouble(const Value& value) {
  if (const auto* integer = std::get_if<int64_t>(&value.variant())) {
    return static_cast<double>(*integer);
  }
  const auto* real = std::get_if<double>(&value.variant());
  return real == nullptr ? 0 : *real;
}

// "####----  50 %"; full only when it is: 99.9 % is shown as 99.
std::string FormatBar(double fraction) {
  const double clamped = std::clamp(fraction, 0.0, 1.0);
  const auto filled = static_cast<size_t>(clamped * kBarWidth);
  return absl::StrFormat("%s%s %3.0f %%", std::string(filled, '#'),
                         std::string(kBarWidth - filled, '-'),
                         std::floor(clamped * 100));
}

std::string FormatNumber(const Value& value) {
  if (const auto* real = std::get_if<double>(&value.variant())) {
    return absl::StrFormat("%.4g", *real);
  }
  return PlainText(value);
}

// Heading and cells as people read them, and the columns they are of.
struct Grid {
  std::vector<Form> forms;
  std::vector<std::string> titles;
  std::vector<std::vector<std::string>> cells;  // [rows][columns]
  std::vector<int> widths;
};

Grid MakeGrid(const Table& table, const OutputStyle& style) {
  Grid grid;
  for (const Column& column : table.columns) {
    grid.forms.push_back(column.form);
    grid.titles.push_back(column.title.empty() ? column.name : column.title);
    grid.widths.push_back(style.header ? TextWidth(grid.titles.back()) : 0);
  }
  for (const std::vector<Value>& row : table.rows) {
    std::vector<std::string>& cells = grid.cells.emplace_back();
    for (size_t j = 0; j < row.size(); ++j) {
      cells.push_back(
          Printable(FormatForPeople(row[j], grid.forms[j], style.now)));
      grid.widths[j] = std::max(grid.widths[j], TextWidth(cells.back()));
    }
  }
  return grid;
}

// Takes columns away from the widest texts until the lines fit.
void FitInto(int width, Grid& grid) {
  int total = -kGap;
  for (const int column : grid.widths) {
    total += column + kGap;
  }
  while (width > 0 && total > width) {
    int widest = -1;
    for (size_t j = 0; j < grid.widths.size(); ++j) {
      if (!RightAligned(grid.forms[j]) && grid.widths[j] > kNarrowestText &&
          (widest < 0 ||
           grid.widths[j] > grid.widths[static_cast<size_t>(widest)])) {
        widest = static_cast<int>(j);
      }
    }
    if (widest < 0) {
      return;
    }
    --grid.widths[static_cast<size_t>(widest)];
    --total;
  }
}

std::string Line(const std::vector<std::string>& cells, const Grid& grid) {
  std::string line;
  for (size_t j = 0; j < cells.size(); ++j) {
    const std::string cell = Truncated(cells[j], grid.widths[j]);
    absl::StrAppend(&line, j == 0 ? "" : std::string(kGap, ' '),
                    RightAligned(grid.forms[j])
                        ? PaddedLeft(cell, grid.widths[j])
                        : PaddedRight(cell, grid.widths[j]));
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

// A name and a value per line; rows after the first follow an empty line.
std::string RenderRecord(const Grid& grid) {
  int width = 0;
  for (const std::string& title : grid.titles) {
    width = std::max(width, TextWidth(title));
  }
  std::string text;
  for (const std::vector<std::string>& cells : grid.cells) {
    if (!text.empty()) {
      text += "\n";
    }
    for (size_t j = 0; j < cells.size(); ++j) {
      if (cells[j] != kNothing) {  // what is not there needs no line
        absl::StrAppend(&text, PaddedRight(grid.titles[j], width + kGap),
                        cells[j], "\n");
      }
    }
  }
  return text;
}

std::string TexText(const std::string& text) {
  return absl::StrReplaceAll(text, {{"\\", "\\textbackslash{}"},
                                    {"{", "\\{"},
                                    {"}", "\\}"},
                                    {"$", "\\$"},
                                    {"&", "\\&"},
                                    {"#", "\\#"},
                                    {"%", "\\%"},
                                    {"_", "\\_"},
                                    {"^", "\\textasciicircum{}"},
                                    {"~", "\\textasciitilde{}"},
                                    {"±", "$\\pm$"},
                                    {"\n", " "}});
}

}  // namespace

std::string WithThousands(int64_t number) {
  const std::string digits = absl::StrCat(number < 0 ? -number : number);
  std::string text = number < 0 ? "-" : "";
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) {
      text += ',';
    }
    text += digits[i];
  }
  return text;
}

std::string FormatForPeople(const Value& value, Form form, absl::Time now) {
  if (value.null()) {
    return kNothing;
  }
  switch (form) {
    case Form::kNumber:
      return FormatNumber(value);
    case Form::kBytes:
      return FormatBytes(AsDouble(value));
    case Form::kDuration:
      return FormatSeconds(AsDouble(value));
    case Form::kPercent:
      return absl::StrFormat("%.3g %%", 100 * AsDouble(value));
    case Form::kAge:
      if (const auto* time = std::get_if<absl::Time>(&value.variant())) {
        return FormatSeconds(std::max(1.0, absl::ToDoubleSeconds(now - *time)));
      }
      return PlainText(value);
    case Form::kShortId:
      return PlainText(value).substr(0, kShortId);
    case Form::kBar:
      return FormatBar(AsDouble(value));
    case Form::kText: {
      const auto* list = std::get_if<Value::List>(&value.variant());
      std::string text =
          list == nullptr
              ? PlainText(value)
              : absl::StrJoin(*list, ", ",
                              [](std::string* out, const Value& item) {
                                absl::StrAppend(out, PlainText(item));
                              });
      return text.empty() ? kNothing : text;
    }
  }
  return PlainText(value);
}

std::string RenderForPeople(const Table& table, const OutputStyle& style) {
  if (table.rows.empty()) {
    return table.empty_text.empty() ? "" : table.empty_text + "\n";
  }
  Grid grid = MakeGrid(table, style);
  if (table.record) {
    return RenderRecord(grid);
  }
  FitInto(style.width, grid);
  std::string text;
  if (style.header) {
    const std::string heading = Line(grid.titles, grid);
    text = style.color
               ? absl::StrCat("\x1b[1m", heading.substr(0, heading.size() - 1),
                              "\x1b[0m\n")
               : heading;
  }
  for (const std::vector<std::string>& cells : grid.cells) {
    text += Line(cells, grid);
  }
  return text;
}

std::string RenderMarkdown(const Table& table, const OutputStyle& style) {
  const Grid grid = MakeGrid(table, style);
  std::string text = "|";
  for (const std::string& title : grid.titles) {
    absl::StrAppend(&text, " ", title, " |");
  }
  text += "\n|";
  for (const Form form : grid.forms) {
    text += RightAligned(form) ? "---:|" : "---|";
  }
  text += "\n";
  for (const std::vector<std::string>& cells : grid.cells) {
    text += "|";
    for (const std::string& cell : cells) {
      absl::StrAppend(&text, " ", absl::StrReplaceAll(cell, {{"|", "\\|"}}),
                      " |");
    }
    text += "\n";
  }
  return text;
}

std::string RenderTex(const Table& table, const OutputStyle& style) {
  const Grid grid = MakeGrid(table, style);
  std::string text = "\\begin{tabular}{";
  for (const Form form : grid.forms) {
    text += RightAligned(form) ? "r" : "l";
  }
  text += "}\n\\hline\n";
  const auto add_line = [&](const std::vector<std::string>& cells) {
    absl::StrAppend(
        &text,
        absl::StrJoin(cells, " & ",
                      [](std::string* out, const std::string& cell) {
                        *out += TexText(cell);
                      }),
        " \\\\\n");
  };
  if (style.header) {
    add_line(grid.titles);
    text += "\\hline\n";
  }
  for (const std::vector<std::string>& cells : grid.cells) {
    add_line(cells);
  }
  return text + "\\hline\n\\end{tabular}\n";
}

}  // namespace qsweep::qctl
