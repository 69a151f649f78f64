#ifndef QSWEEP_COORDINATOR_QCTL_OUTPUT_SVG_H_
#define QSWEEP_COORDINATOR_QCTL_OUTPUT_SVG_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace qsweep::qctl {

// Text for XML and HTML, in elements and in quoted attributes.
std::string EscapeXml(absl::string_view text);

// Writes one SVG picture, element by element, in user units of one pixel. Text
// stays text. Single-thread.
//   SvgWriter svg(640, 200, "title", "what it shows, for those who hear it");
//   svg.Rect(0, 0, 10, 10, "class=\"bar\"");
//   std::string file = svg.Finish();  // once
class SvgWriter {
 public:
  SvgWriter(double width, double height, absl::string_view title,
            absl::string_view description);

  // attributes: written as they are, already escaped. tooltip: may be empty.
  void Rect(double x, double y, double width, double height,
            absl::string_view attributes, absl::string_view tooltip = "");
  void Line(double x1, double y1, double x2, double y2,
            absl::string_view attributes);
  void Text(double x, double y, absl::string_view text,
            absl::string_view attributes);
  // Kept inside the picture: how it was made.
  void Metadata(const std::vector<std::string>& lines);

  std::string Finish();

 private:
  std::string body_;
};

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_OUTPUT_SVG_H_
