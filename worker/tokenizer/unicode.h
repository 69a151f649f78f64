#ifndef QSWEEP_WORKER_TOKENIZER_UNICODE_H_
#define QSWEEP_WORKER_TOKENIZER_UNICODE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace qsweep {

// A code point and the bytes it takes.
struct CodePoint {
  char32_t value = 0;
  size_t size = 0;
};

// The code point that begins at text[position]. text is valid UTF-8 and
// position, less than its size, is at the start of a code point.
CodePoint DecodeAt(absl::string_view text, size_t position);

// Where the code point that ends before `end` (> 0) begins. text: valid UTF-8.
size_t PreviousStart(absl::string_view text, size_t end);

void AppendUtf8(char32_t code_point, std::string& out);

// The text with each maximal broken sequence replaced by one U+FFFD, as the
// Unicode standard recommends and as Python and Rust do. Valid text is
// returned as it is.
std::string ReplaceBrokenUtf8(absl::string_view text);

// Unicode normalization form C as the official library does it: characters
// newer than Unicode 9 are left where they are. text: valid UTF-8.
std::string NormalizeNfc(absl::string_view text);

bool IsWhiteSpace(char32_t code_point);  // property White_Space
// Alphabetic, mark, decimal digit, connector punctuation or join control.
bool IsWordCharacter(char32_t code_point);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_TOKENIZER_UNICODE_H_
