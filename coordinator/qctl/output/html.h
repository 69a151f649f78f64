#ifndef QSWEEP_COORDINATOR_QCTL_OUTPUT_HTML_H_
#define QSWEEP_COORDINATOR_QCTL_OUTPUT_HTML_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace qsweep::qctl {

// Pieces of a page. Every text is escaped here; nothing else may be appended to
// a page than what these return.

// <p>, <li> and the like around a text.
std::string Element(absl::string_view tag, absl::string_view text);

// A real table inside a region that scrolls and takes the keyboard's focus.
// The first column heads its rows; numeric columns are aligned right.
struct HtmlTable {
  std::string caption;
  std::vector<std::string> columns;
  std::vector<bool> numeric;  // parallel to columns
  std::vector<std::vector<std::string>> rows;
};
std::string TableHtml(const HtmlTable& table);

// A list of sentences.
std::string ListHtml(const std::vector<std::string>& items);

// A link that saves `content` as a file; the content travels in the link.
std::string DownloadHtml(absl::string_view label, absl::string_view filename,
                         absl::string_view media_type,
                         absl::string_view content);

// The whole page around a body made by the functions above: style, language,
// direction, a policy that forbids every request.
std::string PageHtml(absl::string_view title, absl::string_view body);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_OUTPUT_HTML_H_
