#ifndef QSWEEP_COORDINATOR_QCTL_OUTPUT_OUTPUT_H_
#define QSWEEP_COORDINATOR_QCTL_OUTPUT_OUTPUT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "coordinator/qctl/output/value.h"

namespace qsweep::qctl {

// How people read a column. Machines always get the bare value.
enum class Form {
  kText,
  kNumber,    // right-aligned, doubles with four significant digits
  kBytes,     // 1536 -> "1.5 KiB"
  kAge,       // a time -> "3m" ago
  kDuration,  // seconds -> "1m30s"
  kPercent,   // 0.125 -> "12.5 %"
  kShortId,   // the first 8 characters
  kBar,       // 0.5 -> "####----  50 %"
};

// Who sees a column that nobody asked for by name.
enum class Audience {
  kAll,
  kWide,      // people with -o wide; machines always
  kPeople,    // a summary of other columns
  kMachines,  // what a summary is of
};

struct Column {
  std::string name;   // key in JSON and CSV: "tasks_done"
  std::string title;  // heading for people: "DONE"
  Form form = Form::kText;
  Audience audience = Audience::kAll;
};

// What a command hands over: it says what, the writer says how.
struct Table {
  std::string kind;  // "JobList"
  std::vector<Column> columns;
  std::vector<std::vector<Value>> rows;  // [rows][columns]
  bool record = false;      // one thing: people see a name and value per line
  std::string empty_text;   // people see it instead of no rows: "No jobs yet."
  std::string name_column;  // what -o name prints; empty: the first column
  std::string name_prefix;  // before it: "job/"
  Value::Object extra;      // more members of the JSON document
};

enum class OutputFormat {
  kTable,
  kWide,
  kJson,
  kJsonl,
  kCsv,
  kTsv,
  kMarkdown,
  kTex,
  kYaml,
  kName
};

// "table", "wide", "json", "jsonl", "yaml", "csv", "tsv", "md", "tex", "name".
// INVALID_ARGUMENT QS7001, with a suggestion.
absl::StatusOr<OutputFormat> ParseOutputFormat(absl::string_view text);

struct OutputStyle {
  OutputFormat format = OutputFormat::kTable;
  bool header = true;
  std::vector<std::string>
      columns;         // chosen by name, in this order; empty: all
  int width = 0;       // columns of the terminal; 0: not a terminal, no limit
  bool color = false;  // ANSI colours are welcome
  absl::Time now;      // that ages are relative to
};

// Machine formats must not be mixed with words.
bool ForPeople(OutputFormat format);

// The table in the style's format, ending in a newline. INVALID_ARGUMENT
// QS1004: a chosen column does not exist.
absl::StatusOr<std::string> Render(const Table& table,
                                   const OutputStyle& style);

// One value as people read it.
std::string FormatForPeople(const Value& value, Form form, absl::Time now);

// The document that JSON and YAML write: {"schema": "qctl/v1", "kind": ...,
// "items": [...]}, with `extra` in between.
Value DocumentOf(const Table& table);
// A value as JSON on one line, or indented: NaN and infinity are null.
std::string JsonText(const Value& value);
std::string JsonDocument(const Value& value);
// The same as YAML: what it reads back as is what the JSON reads back as.
std::string YamlText(const Value& value);
// A header and a line per row, quoted where the format needs it.
std::string RenderDelimited(const Table& table, char separator, bool header);
std::string RenderMarkdown(const Table& table, const OutputStyle& style);
// A LaTeX tabular that needs no package.
std::string RenderTex(const Table& table, const OutputStyle& style);
// Aligned by terminal columns.
std::string RenderForPeople(const Table& table, const OutputStyle& style);

// 12345678 -> "12,345,678".
std::string WithThousands(int64_t number);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_OUTPUT_OUTPUT_H_
