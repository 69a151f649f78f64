#include "coordinator/qctl/output/output.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep::qctl {
namespace {

constexpr std::pair<const char*, OutputFormat> kFormats[] = {
    {"table", OutputFormat::kTable}, {"wide", OutputFormat::kWide},
    {"json", OutputFormat::kJson},   {"jsonl", OutputFormat::kJsonl},
    {"csv", OutputFormat::kCsv},     {"tsv", OutputFormat::kTsv},
    {"md", OutputFormat::kMarkdown}, {"name", OutputFormat::kName},
};

// Edits (insert, delete, replace, swap of neighbours) from a to b.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1,
                                        std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1,
                             cost[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[a.size()][b.size()];
}

std::vector<std::string> ColumnNames(const Table& table) {
  std::vector<std::string> names;
  for (const Column& column : table.columns) {
    names.push_back(column.name);
  }
  return names;
}

// The table with the columns the user chose, in that order.
absl::StatusOr<Table> WithChosenColumns(
    const Table& table, const std::vector<std::string>& chosen) {
  Table result = table;
  result.columns.clear();
  for (std::vector<Value>& row : result.rows) {
    row.clear();
  }
  const std::vector<std::string> names = ColumnNames(table);
  for (const std::string& name : chosen) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) {
      const std::optional<std::string> close = ClosestTo(name, names);
      return MakeError(
          kBadValue, absl::StrCat("no column \"", name, "\""), "--columns",
          close ? absl::StrCat("did you mean \"", *close, "\"?")
                : absl::StrCat("columns: ", absl::StrJoin(names, ",")));
    }
    const auto index = static_cast<size_t>(found - names.begin());
    result.columns.push_back(table.columns[index]);
    for (size_t r = 0; r < table.rows.size(); ++r) {
      result.rows[r].push_back(table.rows[r][index]);
    }
  }
  return result;
}

std::string RenderNames(const Table& table) {
  const std::vector<std::string> names = ColumnNames(table);
  const auto found = std::find(names.begin(), names.end(), table.name_column);
  const size_t index =
      found == names.end() ? 0 : static_cast<size_t>(found - names.begin());
  std::string text;
  for (const std::vector<Value>& row : table.rows) {
    absl::StrAppend(&text, table.name_prefix, PlainText(row[index]), "\n");
  }
  return text;
}

std::string RenderJsonLines(const Table& table) {
  std::string text;
  for (const std::vector<Value>& row : table.rows) {
    Value::Object object;
    for (size_t i = 0; i < table.columns.size(); ++i) {
      object.emplace_back(table.columns[i].name, row[i]);
    }
    absl::StrAppend(&text, JsonText(object), "\n");
  }
  return text;
}

std::string RenderChosen(const Table& table, const OutputStyle& style) {
  switch (style.format) {
    case OutputFormat::kTable:
    case OutputFormat::kWide:
      return RenderForPeople(table, style);
    case OutputFormat::kJson:
      return RenderJson(table);
    case OutputFormat::kJsonl:
      return RenderJsonLines(table);
    case OutputFormat::kCsv:
      return RenderDelimited(table, ',', style.header);
    case OutputFormat::kTsv:
      return RenderDelimited(table, '\t', style.header);
    case OutputFormat::kMarkdown:
      return RenderMarkdown(table, style);
    case OutputFormat::kName:
      return RenderNames(table);
  }
  return "";
}

}  // namespace

absl::StatusOr<OutputFormat> ParseOutputFormat(absl::string_view text) {
  std::vector<std::string> names;
  for (const auto& [name, format] : kFormats) {
    if (text == name) {
      return format;
    }
    names.push_back(name);
  }
  const std::optional<std::string> close = ClosestTo(text, names);
  return MakeError(kUnknownFormat,
                   absl::StrCat("no output format \"", text, "\""), "--output",
                   close
                       ? absl::StrCat("did you mean \"", *close, "\"?")
                       : absl::StrCat("formats: ", absl::StrJoin(names, ", ")));
}

bool ForPeople(OutputFormat format) {
  return format == OutputFormat::kTable || format == OutputFormat::kWide;
}

absl::StatusOr<std::string> Render(const Table& table,
                                   const OutputStyle& style) {
  if (style.columns.empty() || style.format == OutputFormat::kName) {
    return RenderChosen(table, style);
  }
  QSWEEP_ASSIGN_OR_RETURN(const Table chosen,
                          WithChosenColumns(table, style.columns));
  return RenderChosen(chosen, style);
}

std::optional<std::string> ClosestTo(
    absl::string_view typed, const std::vector<std::string>& candidates) {
  std::optional<std::string> best;
  // A third of the letters wrong is a typo, more is another word.
  size_t best_distance = std::max<size_t>(1, typed.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(typed, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace qsweep::qctl
