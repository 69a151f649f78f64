#include "coordinator/qctl/output/html.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "coordinator/qctl/output/svg.h"

namespace qsweep::qctl {
namespace {

constexpr char kStyle[] = R"css(
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#59636e;--paper:#fff;--panel:#f6f8fa;--line:#d1d9e0;--link:#0a5cb8}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9da7b3;--paper:#14181d;--panel:#1c2128;--line:#3a424c;--link:#6cb0ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:70rem;margin:0 auto;padding:1.5rem 1.25rem 4rem}
h1{font-size:1.7rem;line-height:1.25;margin:.5rem 0 .25rem}
h2{font-size:1.25rem;margin:2.5rem 0 .5rem;padding-top:.75rem;border-top:1px solid var(--line)}
h3{font-size:1.05rem;margin:1.5rem 0 .25rem}
p{max-width:46rem;margin:.5rem 0}
.soft{color:var(--soft)}
.verdict{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:.75rem 1.25rem;margin:1rem 0}
.verdict p{font-size:1.06rem;max-width:none}
ul{max-width:46rem;padding-left:1.25rem}
li{margin:.25rem 0}
a{color:var(--link)}
code{font:.92em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
figure{margin:1rem 0;overflow-x:auto}
figure svg{display:block;max-width:none}
details{margin:.5rem 0 1rem}
summary{cursor:pointer;color:var(--link);padding:.2rem 0}
.scroll{overflow-x:auto;margin:.5rem 0 1rem}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding:.25rem 0}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap;vertical-align:top}
thead th{border-bottom:2px solid var(--line)}
tbody th{font-weight:600}
.n{text-align:right}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}
.skip{position:absolute;left:-999rem}
.skip:focus{position:static;display:inline-block;padding:.5rem 1rem}
@media print{details{display:block}}
)css";

std::string CellHtml(absl::string_view tag, absl::string_view attributes,
                     absl::string_view text) {
  return absl::StrCat("<", tag, attributes, ">", EscapeXml(text), "</", tag,
                      ">");
}

}  // namespace

std::string Element(absl::string_view tag, absl::string_view text) {
  return absl::StrCat("<", tag, ">", EscapeXml(text), "</", tag, ">\n");
}

std::string TableHtml(const HtmlTable& table) {
  std::string html = absl::StrCat(
      "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"",
      EscapeXml(table.caption), "\"><table><caption>", EscapeXml(table.caption),
      "</caption>\n<thead><tr>");
  const auto align = [&](size_t column) {
    return column < table.numeric.size() && table.numeric[column]
               ? " class=\"n\""
               : "";
  };
  for (size_t column = 0; column < table.columns.size(); ++column) {
    absl::StrAppend(
        &html, CellHtml("th", absl::StrCat(" scope=\"col\"", align(column)),
                        table.columns[column]));
  }
  absl::StrAppend(&html, "</tr></thead>\n<tbody>\n");
  for (const std::vector<std::string>& row : table.rows) {
    absl::StrAppend(&html, "<tr>");
    for (size_t column = 0; column < row.size(); ++column) {
      absl::StrAppend(&html, column == 0
                                 ? CellHtml("th", " scope=\"row\"", row[0])
                                 : CellHtml("td", align(column), row[column]));
    }
    absl::StrAppend(&html, "</tr>\n");
  }
  return absl::StrCat(html, "</tbody></table></div>\n");
}

std::string ListHtml(const std::vector<std::string>& items) {
  std::string html = "<ul>\n";
  for (const std::string& item : items) {
    absl::StrAppend(&html, Element("li", item));
  }
  return absl::StrCat(html, "</ul>\n");
}

std::string DownloadHtml(absl::string_view label, absl::string_view filename,
                         absl::string_view media_type,
                         absl::string_view content) {
  return absl::StrCat("<p><a download=\"", EscapeXml(filename),
                      "\" href=\"data:", media_type, ";base64,",
                      absl::Base64Escape(content), "\">", EscapeXml(label),
                      "</a></p>\n");
}

std::string PageHtml(absl::string_view title, absl::string_view body) {
  return absl::StrCat(
      "<!doctype html>\n<html lang=\"en\" dir=\"ltr\">\n<head>\n"
      "<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src "
      "'none'; style-src 'unsafe-inline'; img-src data:\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\">\n<link rel=\"icon\" href=\"data:,\">\n<title>",
      EscapeXml(title), "</title>\n<style>", kStyle,
      "</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#verdict\">Skip to "
      "the verdict</a>\n<main>\n",
      body, "</main>\n</body>\n</html>\n");
}

}  // namespace qsweep::qctl
