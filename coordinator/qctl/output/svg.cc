#include "coordinator/qctl/output/svg.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace qsweep::qctl {
namespace {

// Colours follow the reader's light or dark scheme; a blue and an orange that
// differ for every kind of colour vision. Without a page around it the picture
// brings its own values.
constexpr char kStyle[] =
    "<style>"
    ".qs{font:13px system-ui,sans-serif;--qs-ink:#1b1f24;--qs-soft:#59636e;"
    "--qs-paper:#fff;--qs-line:#d1d9e0;--qs-plus:#1d5fa8;--qs-minus:#b25a00;"
    "--qs-flat:#848d97}"
    "@media(prefers-color-scheme:dark){.qs{--qs-ink:#e6edf3;--qs-soft:#9da7b3;"
    "--qs-paper:#14181d;--qs-line:#3a424c;--qs-plus:#3f8ae0;--qs-minus:#d07a1e;"
    "--qs-flat:#7d8590}}"
    ".qs text{fill:var(--qs-ink)}.qs .soft{fill:var(--qs-soft);font-size:12px}"
    ".qs .strong{fill:#fff}.qs .plus{fill:var(--qs-plus)}"
    ".qs .minus{fill:var(--qs-minus)}.qs .flat{fill:var(--qs-flat)}"
    ".qs .frame{fill:none;stroke:var(--qs-line)}"
    ".qs .axis{stroke:var(--qs-line)}.qs .zero{stroke:var(--qs-ink)}"
    ".qs .whisker{stroke:var(--qs-ink);stroke-width:1.4}"
    ".qs .spread{stroke:var(--qs-soft);stroke-width:3}"
    ".qs .paper{fill:var(--qs-paper)}"
    "</style>";

// Lines at 45 degrees over what is not significant.
constexpr char kHatch[] =
    "<defs><pattern id=\"qs-hatch\" width=\"6\" height=\"6\" "
    "patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">"
    "<line x1=\"0\" y1=\"0\" x2=\"0\" y2=\"6\" stroke=\"var(--qs-soft)\" "
    "stroke-opacity=\".45\" stroke-width=\"1.4\"/></pattern></defs>";

std::string Coordinate(double value) { return absl::StrFormat("%.5g", value); }

}  // namespace

std::string EscapeXml(absl::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        absl::StrAppend(&escaped, "&amp;");
        break;
      case '<':
        absl::StrAppend(&escaped, "&lt;");
        break;
      case '>':
        absl::StrAppend(&escaped, "&gt;");
        break;
      case '"':
        absl::StrAppend(&escaped, "&quot;");
        break;
      case '\'':
        absl::StrAppend(&escaped, "&#39;");
        break;
      default:
        // Control characters are not allowed in XML at all.
        escaped.push_back(
            static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? '?'
                                                                           : c);
    }
  }
  return escaped;
}

SvgWriter::SvgWriter(double width, double height, absl::string_view title,
                     absl::string_view description) {
  absl::StrAppend(
      &body_, "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"qs\" ",
      "role=\"img\" viewBox=\"0 0 ", Coordinate(width), " ", Coordinate(height),
      "\" width=\"", Coordinate(width), "\" height=\"", Coordinate(height),
      "\" aria-label=\"", EscapeXml(title), ". ", EscapeXml(description),
      "\">\n<title>", EscapeXml(title), "</title>\n<desc>",
      EscapeXml(description), "</desc>\n", kStyle, kHatch, "\n");
  Rect(0, 0, width, height, "class=\"paper\"");
}

void SvgWriter::Rect(double x, double y, double width, double height,
                     absl::string_view attributes, absl::string_view tooltip) {
  absl::StrAppend(&body_, "<rect x=\"", Coordinate(x), "\" y=\"", Coordinate(y),
                  "\" width=\"", Coordinate(width), "\" height=\"",
                  Coordinate(height), "\" ");
  absl::StrAppend(&body_, attributes);
  if (tooltip.empty()) {
    absl::StrAppend(&body_, "/>\n");
  } else {
    absl::StrAppend(&body_, "><title>", EscapeXml(tooltip),
                    "</title></rect>\n");
  }
}

void SvgWriter::Line(double x1, double y1, double x2, double y2,
                     absl::string_view attributes) {
  absl::StrAppend(&body_, "<line x1=\"", Coordinate(x1), "\" y1=\"",
                  Coordinate(y1), "\" x2=\"", Coordinate(x2), "\" y2=\"",
                  Coordinate(y2));
  absl::StrAppend(&body_, "\" ", attributes, "/>\n");
}

void SvgWriter::Text(double x, double y, absl::string_view text,
                     absl::string_view attributes) {
  absl::StrAppend(&body_, "<text x=\"", Coordinate(x), "\" y=\"", Coordinate(y),
                  "\" ", attributes, ">", EscapeXml(text));
  absl::StrAppend(&body_, "</text>\n");
}

void SvgWriter::Metadata(const std::vector<std::string>& lines) {
  absl::StrAppend(&body_, "<metadata>");
  for (const std::string& line : lines) {
    absl::StrAppend(&body_, EscapeXml(line), "\n");
  }
  absl::StrAppend(&body_, "</metadata>\n");
}

std::string SvgWriter::Finish() {
  absl::StrAppend(&body_, "</svg>\n");
  return std::move(body_);
}

}  // namespace qsweep::qctl
