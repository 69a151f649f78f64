#include "coordinator/qctl/output/text_width.h"

#include <algorithm>
#include <cstdint>
#include <utf8proc.h>

#include "absl/strings/str_cat.h"

namespace qsweep::qctl {
namespace {

constexpr absl::string_view kFirstStrongIsolate = "\u2068";
constexpr absl::string_view kPopIsolate = "\u2069";
constexpr absl::string_view kEllipsis = "\u2026";

struct Character {
  int32_t code_point = -1;  // -1: not UTF-8
  absl::string_view bytes;
};

// The character text starts with; text is not empty.
Character FirstCharacter(absl::string_view text) {
  Character character;
  const utf8proc_ssize_t size = utf8proc_iterate(
      reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
      static_cast<utf8proc_ssize_t>(text.size()), &character.code_point);
  character.bytes = text.substr(0, size > 0 ? static_cast<size_t>(size) : 1);
  return character;
}

int WidthOf(const Character& character) {
  return character.code_point < 0 ? 1
                                  : utf8proc_charwidth(character.code_point);
}

bool IsRightToLeft(int32_t code_point) {
  const auto direction = utf8proc_get_property(code_point)->bidi_class;
  return direction == UTF8PROC_BIDI_CLASS_R ||
         direction == UTF8PROC_BIDI_CLASS_AL;
}

bool IsControl(int32_t code_point) {
  return code_point < 0 ||
         utf8proc_category(code_point) == UTF8PROC_CATEGORY_CC;
}

}  // namespace

int TextWidth(absl::string_view text) {
  int width = 0;
  while (!text.empty()) {
    const Character character = FirstCharacter(text);
    width += WidthOf(character);
    text.remove_prefix(character.bytes.size());
  }
  return width;
}

std::string Printable(absl::string_view text) {
  std::string printable;
  bool right_to_left = false;
  while (!text.empty()) {
    const Character character = FirstCharacter(text);
    if (IsControl(character.code_point)) {
      printable += '?';
    } else {
      right_to_left |= IsRightToLeft(character.code_point);
      absl::StrAppend(&printable, character.bytes);
    }
    text.remove_prefix(character.bytes.size());
  }
  return right_to_left
             ? absl::StrCat(kFirstStrongIsolate, printable, kPopIsolate)
             : printable;
}

std::string Truncated(absl::string_view text, int width) {
  if (TextWidth(text) <= width) {
    return std::string(text);
  }
  std::string cut;
  int used = 1;  // the ellipsis
  bool isolated = false;
  while (!text.empty()) {
    const Character character = FirstCharacter(text);
    if (used + WidthOf(character) > width) {
      break;
    }
    isolated |= character.bytes == kFirstStrongIsolate;
    used += WidthOf(character);
    absl::StrAppend(&cut, character.bytes);
    text.remove_prefix(character.bytes.size());
  }
  return absl::StrCat(cut, width > 0 ? kEllipsis : "",
                      isolated ? kPopIsolate : "");
}

std::string PaddedRight(absl::string_view text, int width) {
  return absl::StrCat(
      text,
      std::string(static_cast<size_t>(std::max(0, width - TextWidth(text))),
                  ' '));
}

std::string PaddedLeft(absl::string_view text, int width) {
  return absl::StrCat(
      std::string(static_cast<size_t>(std::max(0, width - TextWidth(text))),
                  ' '),
      text);
}

}  // namespace qsweep::qctl
