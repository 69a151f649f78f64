#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

#include "coordinator/qctl/output/output.h"

namespace qsweep::qctl {
namespace {

// RFC 4180 for ",". Tab-separated values have no quotes: tabs and newlines
// inside a field become spaces.
std::string Field(const std::string& text, char separator) {
  if (separator == '\t') {
    return absl::StrReplaceAll(text, {{"\t", " "}, {"\n", " "}, {"\r", " "}});
  }
  if (text.find_first_of(absl::StrCat("\"\n\r", std::string(1, separator))) ==
      std::string::npos) {
    return text;
  }
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\"", "\"\""}}), "\"");
}

}  // namespace

std::string RenderDelimited(const Table& table, char separator, bool header) {
  std::string text;
  const std::string between(1, separator);
  if (header) {
    absl::StrAppend(&text,
                    absl::StrJoin(table.columns, between,
                                  [&](std::string* out, const Column& column) {
                                    absl::StrAppend(
                                        out, Field(column.name, separator));
                                  }),
                    "\n");
  }
  for (const std::vector<Value>& row : table.rows) {
    absl::StrAppend(&text,
                    absl::StrJoin(row, between,
                                  [&](std::string* out, const Value& value) {
                                    absl::StrAppend(out, Field(PlainText(value),
                                                               separator));
                                  }),
                    "\n");
  }
  return text;
}

}  // namespace qsweep::qctl
