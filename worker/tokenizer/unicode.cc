#include "worker/tokenizer/unicode.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/uniset.h>

#include "common/base/check.h"

namespace qsweep {
namespace {

uint8_t ByteAt(absl::string_view text, size_t position) {
  return static_cast<uint8_t>(text[position]);
}

// What may follow a lead byte: the sequence's length and the range of its
// second byte, which excludes overlong forms, surrogates and values beyond
// U+10FFFF. length 0: no lead byte.
struct Lead {
  int length = 0;
  uint8_t second_min = 0x80;
  uint8_t second_max = 0xbf;
};
Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) {
    return {.length = 1};
  }
  if (byte >= 0xc2 && byte <= 0xdf) {
    return {.length = 2};
  }
  if (byte >= 0xe0 && byte <= 0xef) {
    Lead lead{.length = 3};
    if (byte == 0xe0) {
      lead.second_min = 0xa0;
    } else if (byte == 0xed) {
      lead.second_max = 0x9f;
    }
    return lead;
  }
  if (byte >= 0xf0 && byte <= 0xf4) {
    Lead lead{.length = 4};
    if (byte == 0xf0) {
      lead.second_min = 0x90;
    } else if (byte == 0xf4) {
      lead.second_max = 0x8f;
    }
    return lead;
  }
  return {};
}

struct Sequence {
  size_t size = 0;  // bytes; of a broken one: what one U+FFFD stands for
  bool valid = false;
};
Sequence SequenceAt(absl::string_view text, size_t position) {
  const Lead lead = LeadOf(ByteAt(text, position));
  if (lead.length == 0) {
    return {.size = 1};
  }
  size_t size = 1;
  for (; size < static_cast<size_t>(lead.length); ++size) {
    if (position + size == text.size()) {
      return {.size = size};
    }
    const uint8_t byte = ByteAt(text, position + size);
    const uint8_t min = size == 1 ? lead.second_min : 0x80;
    const uint8_t max = size == 1 ? lead.second_max : 0xbf;
    if (byte < min || byte > max) {
      return {.size = size};
    }
  }
  return {.size = size, .valid = true};
}

}  // namespace

CodePoint DecodeAt(absl::string_view text, size_t position) {
  const uint8_t first = ByteAt(text, position);
  if (first < 0x80) {
    return {first, 1};
  }
  const size_t size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  char32_t value = first & (0xffu >> (size + 1));
  for (size_t i = 1; i < size; ++i) {
    value = value << 6 | (ByteAt(text, position + i) & 0x3fu);
  }
  return {value, size};
}

size_t PreviousStart(absl::string_view text, size_t end) {
  do {
    --end;
  } while (end > 0 && (ByteAt(text, end) & 0xc0) == 0x80);
  return end;
}

void AppendUtf8(char32_t code_point, std::string& out) {
  const auto push = [&out](char32_t byte) {
    out.push_back(static_cast<char>(static_cast<uint8_t>(byte)));
  };
  if (code_point < 0x80) {
    push(code_point);
  } else if (code_point < 0x800) {
    push(0xc0 | code_point >> 6);
    push(0x80 | (code_point & 0x3f));
  } else if (code_point < 0x10000) {
    push(0xe0 | code_point >> 12);
    push(0x80 | (code_point >> 6 & 0x3f));
    push(0x80 | (code_point & 0x3f));
  } else {
    push(0xf0 | code_point >> 18);
    push(0x80 | (code_point >> 12 & 0x3f));
    push(0x80 | (code_point >> 6 & 0x3f));
    push(0x80 | (code_point & 0x3f));
  }
}

std::string ReplaceBrokenUtf8(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t position = 0; position < text.size();) {
    const Sequence sequence = SequenceAt(text, position);
    if (sequence.valid) {
      out.append(text.data() + position, sequence.size);
    } else {
      AppendUtf8(0xfffd, out);
    }
    position += sequence.size;
  }
  return out;
}

namespace {

// NFC over the characters that Unicode 9 has, which is what the official
// library's tables know: later marks are not reordered. Made once, never freed.
const icu::Normalizer2& Unicode9Nfc() {
  static const icu::Normalizer2* const kNfc = [] {
    UErrorCode error = U_ZERO_ERROR;
    const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(error);
    auto* known =
        new icu::UnicodeSet(UNICODE_STRING_SIMPLE("[:age=9.0:]"), error);
    QSWEEP_CHECK(U_SUCCESS(error));  // its data is part of the library
    known->freeze();
    return new icu::FilteredNormalizer2(*nfc, *known);
  }();
  return *kNfc;
}

}  // namespace

std::string NormalizeNfc(absl::string_view text) {
  UErrorCode error = U_ZERO_ERROR;
  std::string out;
  icu::StringByteSink<std::string> sink(&out);
  Unicode9Nfc().normalizeUTF8(0,
                              {text.data(), static_cast<int32_t>(text.size())},
                              sink, nullptr, error);
  QSWEEP_CHECK(U_SUCCESS(error));
  return out;
}

bool IsWhiteSpace(char32_t code_point) {
  return u_isUWhiteSpace(static_cast<UChar32>(code_point)) != 0;
}

bool IsWordCharacter(char32_t code_point) {
  const UChar32 c = static_cast<UChar32>(code_point);
  const uint32_t kMarkDigitConnector =
      U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  return u_isUAlphabetic(c) != 0 ||
         (U_GET_GC_MASK(c) & kMarkDigitConnector) != 0 ||
         u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL) != 0;
}

}  // namespace qsweep
