#include "worker/tokenizer/pre_tokenizer.h"

#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "worker/tokenizer/unicode.h"

namespace qsweep {
namespace {

constexpr char kGpt2Words[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
    "\\s+(?!\\S)|\\s+";

// Cuts every part of words by pattern.
void CutParts(const Pattern& pattern, SplitBehavior behavior, bool invert,
              SplitTextParts& words) {
  std::vector<Range> parts;
  for (const Range& part : words.parts) {
    const absl::string_view text =
        absl::string_view(words.text).substr(part.begin, part.end - part.begin);
    for (const Range& range : SplitText(text, pattern, behavior, invert)) {
      parts.push_back({part.begin + range.begin, part.begin + range.end});
    }
  }
  words.parts = std::move(parts);
}

// Rebuilds text and parts; write(part, is_first, out) appends a part's new
// text.
template <typename Write>
void RewriteParts(SplitTextParts& words, Write write) {
  SplitTextParts result;
  result.at_start = words.at_start;
  result.text.reserve(words.text.size() * 2);
  result.parts.reserve(words.parts.size());
  for (const Range& part : words.parts) {
    const size_t begin = result.text.size();
    write(
        absl::string_view(words.text).substr(part.begin, part.end - part.begin),
        part.begin == 0 && words.at_start, result.text);
    result.parts.push_back({begin, result.text.size()});
  }
  words = std::move(result);
}

void Apply(const SplitStep& step, SplitTextParts& words) {
  CutParts(step.pattern, step.behavior, step.invert, words);
}

void Apply(const MetaspaceStep& step, SplitTextParts& words) {
  RewriteParts(
      words, [&step](absl::string_view part, bool is_first, std::string& out) {
        std::string text;
        for (const char c : part) {
          if (c == ' ') {
            text += step.replacement;
          } else {
            text.push_back(c);
          }
        }
        const bool wanted =
            step.prepend == MetaspaceStep::Prepend::kAlways ||
            (step.prepend == MetaspaceStep::Prepend::kFirst && is_first);
        if (wanted && !absl::StartsWith(text, step.replacement)) {
          out += step.replacement;
        }
        out += text;
      });
  if (step.split) {
    CutParts(Pattern::MakeLiteral(step.replacement),
             SplitBehavior::kMergedWithNext, false, words);
  }
}

void Apply(const ByteLevelStep& step, SplitTextParts& words) {
  if (step.add_prefix_space) {
    RewriteParts(words, [](absl::string_view part, bool, std::string& out) {
      absl::StrAppend(&out, absl::StartsWith(part, " ") ? "" : " ", part);
    });
  }
  if (step.regex != nullptr) {
    CutParts(*step.regex, SplitBehavior::kIsolated, false, words);
  }
  const std::array<std::string, 256>& alphabet = ByteAlphabet();
  RewriteParts(words,
               [&alphabet](absl::string_view part, bool, std::string& out) {
                 for (const char c : part) {
                   out += alphabet[static_cast<uint8_t>(c)];
                 }
               });
}

// The code point of a byte: itself if printable, else the next one from U+0100.
std::array<char32_t, 256> MakeByteCodePoints() {
  std::array<char32_t, 256> code_points = {};
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) ||
                           (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    code_points[byte] = printable ? byte : next++;
  }
  return code_points;
}

const std::map<char32_t, char>& ByteOfCodePoint() {
  static const auto* const kMap = [] {
    auto* map = new std::map<char32_t, char>;
    const std::array<char32_t, 256> code_points = MakeByteCodePoints();
    for (size_t byte = 0; byte < 256; ++byte) {
      map->emplace(code_points[byte],
                   static_cast<char>(static_cast<uint8_t>(byte)));
    }
    return map;
  }();
  return *kMap;
}

}  // namespace

void ApplyPreTokenizer(const PreTokenizerStep& step, SplitTextParts& words) {
  std::visit([&words](const auto& s) { Apply(s, words); }, step);
}

ByteLevelStep MakeByteLevelStep(bool add_prefix_space, bool use_regex) {
  ByteLevelStep step{.add_prefix_space = add_prefix_space};
  if (use_regex) {
    absl::StatusOr<Pattern> words = Pattern::MakeRegex(kGpt2Words);
    QSWEEP_CHECK(words.ok());  // a constant
    step.regex = std::make_shared<const Pattern>(*std::move(words));
  }
  return step;
}

SplitStep MakeDigitsStep(bool individual_digits) {
  absl::StatusOr<Pattern> number = Pattern::MakeRegex("\\p{N}");
  QSWEEP_CHECK(number.ok());  // a constant
  return {.pattern = *std::move(number),
          .behavior = individual_digits ? SplitBehavior::kIsolated
                                        : SplitBehavior::kContiguous};
}

const std::array<std::string, 256>& ByteAlphabet() {
  static const auto* const kAlphabet = [] {
    auto* alphabet = new std::array<std::string, 256>;
    const std::array<char32_t, 256> code_points = MakeByteCodePoints();
    for (size_t byte = 0; byte < 256; ++byte) {
      AppendUtf8(code_points[byte], (*alphabet)[byte]);
    }
    return alphabet;
  }();
  return *kAlphabet;
}

std::string DecodeByteAlphabet(absl::string_view token) {
  const std::map<char32_t, char>& bytes = ByteOfCodePoint();
  std::string out;
  for (size_t i = 0; i < token.size();) {
    const CodePoint c = DecodeAt(token, i);
    const auto it = bytes.find(c.value);
    if (it != bytes.end()) {
      out.push_back(it->second);
    } else {
      out.append(token.data() + i, c.size);
    }
    i += c.size;
  }
  return out;
}

}  // namespace qsweep
