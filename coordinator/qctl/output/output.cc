#include "coordinator/qctl/output/output.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/did_you_mean.h"

namespace qsweep::qctl {
namespace {

constexpr char kSchema[] = "qctl/v1";

constexpr std::pair<const char*, OutputFormat> kFormats[] = {
    {"table", OutputFormat::kTable}, {"wide", OutputFormat::kWide},
    {"json", OutputFormat::kJson},   {"jsonl", OutputFormat::kJsonl},
    {"yaml", OutputFormat::kYaml},   {"csv", OutputFormat::kCsv},
    {"tsv", OutputFormat::kTsv},     {"md", OutputFormat::kMarkdown},
    {"tex", OutputFormat::kTex},     {"name", OutputFormat::kName},
};

std::vector<std::string> ColumnNames(const Table& table) {
  std::vector<std::string> names;
  for (const Column& column : table.columns) {
    names.push_back(column.name);
  }
  return names;
}

// The table with the columns of these positions, in that order.
Table WithColumns(const Table& table, const std::vector<size_t>& chosen) {
  Table result = table;
  result.columns.clear();
  for (const size_t index : chosen) {
    result.columns.push_back(table.columns[index]);
  }
  for (size_t r = 0; r < table.rows.size(); ++r) {
    result.rows[r].clear();
    for (const size_t index : chosen) {
      result.rows[r].push_back(table.rows[r][index]);
    }
  }
  return result;
}

// Positions of the columns named by the user.
absl::StatusOr<std::vector<size_t>> NamedColumns(
    const Table& table, const std::vector<std::string>& wanted) {
  const std::vector<std::string> names = ColumnNames(table);
  std::vector<size_t> chosen;
  for (const std::string& name : wanted) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) {
      const std::string hint = DidYouMeanHint(name, names);
      return MakeError(
          kBadValue, absl::StrCat("no column \"", name, "\""), "--columns",
          hint.empty() ? absl::StrCat("columns: ", absl::StrJoin(names, ","))
                       : hint);
    }
    chosen.push_back(static_cast<size_t>(found - names.begin()));
  }
  return chosen;
}

// Positions of the columns the format's readers see.
std::vector<size_t> ColumnsFor(const Table& table, OutputFormat format) {
  std::vector<size_t> chosen;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    const Audience audience = table.columns[i].audience;
    const bool people = ForPeople(format) ||
                        format == OutputFormat::kMarkdown ||
                        format == OutputFormat::kTex;
    const bool wide = format == OutputFormat::kWide || table.record;
    if (audience == Audience::kAll ||
        (people ? audience == Audience::kPeople ||
                      (audience == Audience::kWide && wide)
                : audience != Audience::kPeople)) {
      chosen.push_back(i);
    }
  }
  return chosen;
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

Value ItemOf(const Table& table, const std::vector<Value>& row) {
  Value::Object object;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    object.emplace_back(table.columns[i].name, row[i]);
  }
  return object;
}

std::string RenderJsonLines(const Table& table) {
  std::string text;
  for (const std::vector<Value>& row : table.rows) {
    absl::StrAppend(&text, JsonText(ItemOf(table, row)), "\n");
  }
  return text;
}

std::string RenderChosen(const Table& table, const OutputStyle& style) {
  switch (style.format) {
    case OutputFormat::kTable:
    case OutputFormat::kWide:
      return RenderForPeople(table, style);
    case OutputFormat::kJson:
      return JsonDocument(DocumentOf(table));
    case OutputFormat::kJsonl:
      return RenderJsonLines(table);
    case OutputFormat::kCsv:
      return RenderDelimited(table, ',', style.header);
    case OutputFormat::kTsv:
      return RenderDelimited(table, '\t', style.header);
    case OutputFormat::kMarkdown:
      return RenderMarkdown(table, style);
    case OutputFormat::kTex:
      return RenderTex(table, style);
    case OutputFormat::kYaml:
      return YamlText(DocumentOf(table));
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
  return MakeError(kUnknownFormat,
                   absl::StrCat("no output format \"", text, "\""), "--output",
                   DidYouMeanHint(text, names));
}

Value DocumentOf(const Table& table) {
  Value::Object document = {{"schema", kSchema}, {"kind", table.kind}};
  document.insert(document.end(), table.extra.begin(), table.extra.end());
  Value::List items;
  for (const std::vector<Value>& row : table.rows) {
    items.push_back(ItemOf(table, row));
  }
  document.emplace_back("items", std::move(items));
  return document;
}

bool ForPeople(OutputFormat format) {
  return format == OutputFormat::kTable || format == OutputFormat::kWide;
}

absl::StatusOr<std::string> Render(const Table& table,
                                   const OutputStyle& style) {
  if (style.format == OutputFormat::kName) {
    return RenderNames(table);
  }
  if (style.columns.empty()) {
    return RenderChosen(WithColumns(table, ColumnsFor(table, style.format)),
                        style);
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<size_t> chosen,
                          NamedColumns(table, style.columns));
  return RenderChosen(WithColumns(table, chosen), style);
}

}  // namespace qsweep::qctl
