#ifndef QSWEEP_COMMON_JOB_UTF8_H_
#define QSWEEP_COMMON_JOB_UTF8_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace qsweep {

// Whether text is well-formed UTF-8: no overlong forms, no surrogates, nothing
// above U+10FFFF.
bool IsValidUtf8(absl::string_view text);

// Appends the code point; U+FFFD for what is none.
void AppendUtf8(uint32_t code_point, std::string& text);

// Without the white space at both ends, by Unicode's White_Space and the
// separators U+001C-001F: what Python's str.strip() takes off.
absl::string_view StripUnicodeWhitespace(absl::string_view text);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_UTF8_H_
