#include "common/job/utf8.h"

#include <cstddef>

namespace qsweep {
namespace {

constexpr uint32_t kInvalid = 0xFFFFFFFF;
constexpr uint32_t kReplacement = 0xFFFD;

bool IsScalarValue(uint32_t code_point) {
  return code_point <= 0x10FFFF &&
         !(code_point >= 0xD800 && code_point <= 0xDFFF);
}

// The code point at text[position], which moves past it; kInvalid, and position
// unchanged, where the bytes are malformed.
uint32_t Decode(absl::string_view text, size_t& position) {
  const auto byte = [text](size_t i) {
    return static_cast<uint32_t>(static_cast<unsigned char>(text[i]));
  };
  const uint32_t first = byte(position);
  if (first < 0x80) {
    ++position;
    return first;
  }
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || position + length > text.size()) {
    return kInvalid;
  }
  uint32_t code_point = first & (0x7FU >> length);
  for (size_t i = 1; i < length; ++i) {
    const uint32_t next = byte(position + i);
    if ((next & 0xC0) != 0x80) {
      return kInvalid;
    }
    code_point = code_point << 6 | (next & 0x3F);
  }
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code_point < kSmallest[length] || !IsScalarValue(code_point)) {
    return kInvalid;
  }
  position += length;
  return code_point;
}

bool IsWhitespace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 ||
         c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

}  // namespace

bool IsValidUtf8(absl::string_view text) {
  size_t position = 0;
  while (position < text.size()) {
    if (Decode(text, position) == kInvalid) {
      return false;
    }
  }
  return true;
}

void AppendUtf8(uint32_t code_point, std::string& text) {
  const uint32_t c = IsScalarValue(code_point) ? code_point : kReplacement;
  const auto append = [&text](uint32_t byte) {
    text.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
  };
  if (c < 0x80) {
    append(c);
  } else if (c < 0x800) {
    append(0xC0 | c >> 6);
    append(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    append(0xE0 | c >> 12);
    append(0x80 | (c >> 6 & 0x3F));
    append(0x80 | (c & 0x3F));
  } else {
    append(0xF0 | c >> 18);
    append(0x80 | (c >> 12 & 0x3F));
    append(0x80 | (c >> 6 & 0x3F));
    append(0x80 | (c & 0x3F));
  }
}

absl::string_view StripUnicodeWhitespace(absl::string_view text) {
  size_t begin = 0;
  while (begin < text.size()) {
    size_t next = begin;
    if (!IsWhitespace(Decode(text, next))) {
      break;
    }
    begin = next;
  }
  text.remove_prefix(begin);
  while (!text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 &&
           (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) {
      --start;
    }
    size_t next = start;
    if (!IsWhitespace(Decode(text, next))) {
      break;
    }
    text.remove_suffix(text.size() - start);
  }
  return text;
}

}  // namespace qsweep
