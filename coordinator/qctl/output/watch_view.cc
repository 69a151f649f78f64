#include "coordinator/qctl/output/watch_view.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "coordinator/qctl/output/output.h"
#include "coordinator/qctl/output/text_width.h"

namespace qsweep::qctl {
namespace {

constexpr int kCellWidth = 9;
constexpr int kLabelWidth = 10;
constexpr int kQuantizerWidth = 26;  // at most
constexpr size_t kHeadLines = 4;     // of the screen besides tasks and cells
constexpr size_t kMostTasks = 4;

// Light to dark red of the 256-colour palette: more loss is darker.
constexpr std::array<int, 5> kShades = {231, 224, 217, 210, 203};

double LargestOf(const WatchView& view) {
  double largest = 0;
  for (const WatchView::Row& row : view.cells) {
    for (const double value : row.delta_nll) {
      if (std::isfinite(value)) {
        largest = std::max(largest, value);
      }
    }
  }
  return largest;
}

std::string CellText(double value, double largest, bool color) {
  const std::string text = PaddedLeft(
      std::isnan(value) ? "." : absl::StrFormat("%+.3f", value), kCellWidth);
  if (!color || std::isnan(value) || largest <= 0) {
    return text;
  }
  const auto step = static_cast<size_t>(
      std::clamp(value / largest, 0.0, 1.0) * (kShades.size() - 1) + 0.5);
  return absl::StrFormat("\x1b[38;5;16;48;5;%dm%s\x1b[0m", kShades[step], text);
}

std::string Duration(double seconds) {
  return FormatForPeople(seconds, Form::kDuration, absl::Time());
}

std::string Counts(const WatchView& view) {
  std::string text = absl::StrCat(WithThousands(view.measured), " of ",
                                  WithThousands(view.total), " measured");
  if (view.tasks_failed > 0) {
    absl::StrAppend(&text, ", ", view.tasks_failed, " tasks failed");
  }
  return text;
}

std::string Times(const WatchView& view) {
  return view.remaining_seconds < 0
             ? Duration(view.elapsed_seconds)
             : absl::StrCat(Duration(view.elapsed_seconds), ", about ",
                            Duration(view.remaining_seconds), " left");
}

// 0: the rows have one quantizer, which needs no column.
int QuantizerWidth(const WatchView& view) {
  int width = 0;
  bool several = false;
  for (const WatchView::Row& row : view.cells) {
    several |= row.quantizer != view.cells.front().quantizer;
    width = std::max(width, static_cast<int>(row.quantizer.size()) + 2);
  }
  return several ? std::min(width, kQuantizerWidth) : 0;
}

// Without its middle: what tells two apart, as their replicate, may stand last.
std::string ShortQuantizer(absl::string_view text, int width) {
  const auto room = static_cast<size_t>(std::max(width, 1));
  if (text.size() <= room) {
    return std::string(text);
  }
  const size_t tail = (room - 1) / 2;
  return absl::StrCat(text.substr(0, room - 1 - tail), "…",
                      text.substr(text.size() - tail));
}

std::string Labels(absl::string_view layer_set, absl::string_view quantizer,
                   int quantizer_width) {
  std::string text =
      PaddedRight(Truncated(layer_set, kLabelWidth - 1), kLabelWidth);
  if (quantizer_width > 0) {
    text += PaddedRight(ShortQuantizer(quantizer, quantizer_width - 1),
                        quantizer_width);
  }
  return text;
}

// Languages that fit beside the labels.
size_t ColumnsThatFit(const WatchView& view, int width) {
  const int room = std::max(1, (width - kLabelWidth) / kCellWidth);
  return std::min(view.languages.size(), static_cast<size_t>(room));
}

}  // namespace

std::string RenderWatchLine(const WatchView& view) {
  return absl::StrFormat("%s %s  %3.0f %%  %s  tasks %d/%d  %s\n", view.title,
                         view.state, std::floor(view.progress * 100),
                         Counts(view), view.tasks_done, view.tasks_total,
                         Times(view));
}

std::string RenderWatchCells(const WatchView& view, int max_rows,
                             const WatchStyle& style) {
  if (view.cells.empty() || max_rows <= 0) {
    return "";
  }
  const int quantizer = QuantizerWidth(view);
  const size_t columns = ColumnsThatFit(view, style.width - quantizer);
  std::string text = Labels("PROTECT", "QUANTIZER", quantizer);
  for (size_t j = 0; j < columns; ++j) {
    text +=
        PaddedLeft(Truncated(view.languages[j], kCellWidth - 1), kCellWidth);
  }
  text += "\n";
  const double largest = LargestOf(view);
  const auto shown = std::min(view.cells.size(), static_cast<size_t>(max_rows));
  for (size_t i = 0; i < shown; ++i) {
    text += Labels(view.cells[i].layer_set, view.cells[i].quantizer, quantizer);
    for (size_t j = 0; j < columns; ++j) {
      text += CellText(view.cells[i].delta_nll[j], largest, style.color);
    }
    text += "\n";
  }
  const size_t rows_left = view.cells.size() - shown;
  const size_t columns_left = view.languages.size() - columns;
  if (rows_left + columns_left > 0) {
    absl::StrAppend(&text, "and ", rows_left, " more configurations",
                    columns_left > 0
                        ? absl::StrCat(", ", columns_left, " more languages")
                        : "",
                    "\n");
  }
  return text;
}

std::string RenderWatchScreen(const WatchView& view, const WatchStyle& style) {
  std::string text;
  const auto add = [&](const std::string& line) {
    absl::StrAppend(&text, Truncated(line, style.width), "\n");
  };
  add(absl::StrCat(view.title, "  ", view.state, "   ",
                   FormatForPeople(view.progress, Form::kBar, absl::Time()),
                   "   ", Times(view)));
  add(absl::StrCat(Counts(view), "   tasks ", view.tasks_done, " of ",
                   view.tasks_total, " done, ", view.running.size(),
                   " at workers"));
  size_t tasks = 0;
  for (const WatchView::Task& task : view.running) {
    if (++tasks > kMostTasks) {
      add(absl::StrCat("  and ", view.running.size() - kMostTasks, " more"));
      break;
    }
    add(absl::StrCat("  task ", task.task, "  ", task.worker, "  ",
                     FormatForPeople(task.fraction, Form::kBar, absl::Time()),
                     "  ", task.text));
  }
  if (view.cells.empty()) {
    return text;
  }
  add("");
  add("loss against the baseline so far, nats per token");
  const int used = static_cast<int>(
      kHeadLines + std::min(view.running.size(), kMostTasks + 1) + 3);
  return absl::StrCat(
      text,
      RenderWatchCells(view,
                       style.height > 0 ? std::max(1, style.height - used)
                                        : static_cast<int>(view.cells.size()),
                       style));
}

}  // namespace qsweep::qctl
