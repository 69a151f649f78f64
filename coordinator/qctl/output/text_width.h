#ifndef QSWEEP_COORDINATOR_QCTL_OUTPUT_TEXT_WIDTH_H_
#define QSWEEP_COORDINATOR_QCTL_OUTPUT_TEXT_WIDTH_H_

#include <string>

#include "absl/strings/string_view.h"

namespace qsweep::qctl {

// Terminal columns a UTF-8 text takes: wide characters two, combining marks
// none. Bytes that are not UTF-8 count one each.
int TextWidth(absl::string_view text);

// The text made safe for one terminal line: control characters become "?", and
// a text with right-to-left letters is wrapped in isolates, so that it does
// not reorder its neighbours.
std::string Printable(absl::string_view text);

// At most `width` columns: cut at a character, with "…" for what is gone.
std::string Truncated(absl::string_view text, int width);

// Filled with spaces to `width` columns.
std::string PaddedRight(absl::string_view text, int width);
std::string PaddedLeft(absl::string_view text, int width);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_OUTPUT_TEXT_WIDTH_H_
