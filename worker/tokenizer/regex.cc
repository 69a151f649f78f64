#include "worker/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <cctype>
#include <pcre2.h>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "worker/tokenizer/unicode.h"

namespace qsweep {
namespace {

// Of MatchesStartOf; the interpreter does as many in some 10 ms.
constexpr uint32_t kMostSteps = 1'000'000;

// Oniguruma's \s is the property White_Space; PCRE2's also has U+180E.
constexpr char kSpaceInClass[] = "\\t-\\r\\x{85}\\p{Z}";

absl::Status Refuse(absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, " in a regular expression"));
}

// Rewrites what PCRE2 reads differently and refuses what it cannot say.
class Translator {
 public:
  explicit Translator(absl::string_view pattern) : pattern_(pattern) {}

  absl::StatusOr<std::string> Translate() {
    while (position_ < pattern_.size()) {
      const char c = pattern_[position_++];
      if (c == '\\') {
        QSWEEP_RETURN_IF_ERROR(Escape());
      } else if (c == '[') {
        if (in_class_) {
          return Refuse("a nested character class");
        }
        in_class_ = true;
        out_.push_back(c);
        TakeIf('^');
        TakeIf(']');  // first in a class: the character itself
      } else if (c == ']' && in_class_) {
        in_class_ = false;
        out_.push_back(c);
      } else if (c == '&' && in_class_ && Peek() == '&') {
        return Refuse("an intersection of character classes");
      } else {
        out_.push_back(c);
        QSWEEP_RETURN_IF_ERROR(in_class_ ? absl::OkStatus() : Structure(c));
      }
    }
    return std::move(out_);
  }

 private:
  char Peek() const {
    return position_ < pattern_.size() ? pattern_[position_] : '\0';
  }
  void TakeIf(char c) {
    if (Peek() == c) {
      out_.push_back(c);
      ++position_;
    }
  }

  // What c, outside a class and already taken, means for groups and repeats.
  absl::Status Structure(char c) {
    if (c == '(') {
      return OpenGroup();
    }
    if (c == ')' && repeats_.size() > 1) {
      const bool repeats = repeats_.back();
      repeats_.pop_back();
      // Time exponential in the text, and nothing limits a match.
      if (repeats && IsRepeat(Peek(), position_ + 1)) {
        return Refuse("a repeat of a group that has repeats");
      }
      repeats_.back() = repeats_.back() || repeats;
    } else if (IsRepeat(c, position_)) {
      repeats_.back() = true;
    }
    return absl::OkStatus();
  }

  // Both read these alike. Recursion, verbs, callouts and conditions, which
  // PCRE2 has besides, may end a match with an error.
  absl::Status OpenGroup() {
    repeats_.push_back(false);
    const absl::string_view rest = pattern_.substr(position_);
    if (rest.empty() || (rest[0] != '?' && rest[0] != '*')) {
      return absl::OkStatus();
    }
    for (const absl::string_view kind :
         {"?:", "?=", "?!", "?<=", "?<!", "?>", "?i:"}) {
      if (absl::StartsWith(rest, kind)) {
        absl::StrAppend(&out_, kind);
        position_ += kind.size();
        return absl::OkStatus();
      }
    }
    return Refuse(absl::StrCat("'(", rest.substr(0, 2), "'"));
  }

  // Whether c, before `next`, repeats what precedes it a varying number of
  // times: "*", "+", "{2,}", "{2,4}".
  bool IsRepeat(char c, size_t next) const {
    if (c != '{') {
      return c == '*' || c == '+';
    }
    const size_t comma = pattern_.find_first_not_of("0123456789", next);
    return comma != absl::string_view::npos && pattern_[comma] == ',';
  }

  absl::Status Escape() {
    if (position_ == pattern_.size()) {
      return Refuse("a lone backslash");
    }
    const char c = pattern_[position_++];
    if (c == 's') {
      absl::StrAppend(&out_, in_class_ ? "" : "[", kSpaceInClass,
                      in_class_ ? "" : "]");
      return absl::OkStatus();
    }
    if (c == 'S' && !in_class_) {
      absl::StrAppend(&out_, "[^", kSpaceInClass, "]");
      return absl::OkStatus();
    }
    constexpr absl::string_view kSameMeaning = "pPdDrntfx";
    const bool letter = std::isalnum(static_cast<unsigned char>(c)) != 0;
    if (letter && kSameMeaning.find(c) == absl::string_view::npos) {
      return Refuse(absl::StrCat("'\\", std::string(1, c), "'",
                                 in_class_ ? " in a class" : ""));
    }
    out_.push_back('\\');
    out_.push_back(c);
    return absl::OkStatus();
  }

  const absl::string_view pattern_;
  size_t position_ = 0;
  bool in_class_ = false;
  std::vector<bool> repeats_ = {false};  // of each open group: it has repeats
  std::string out_;
};

struct FreeCode {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
};
struct FreeCompileContext {
  void operator()(pcre2_compile_context* p) const {
    pcre2_compile_context_free(p);
  }
};
struct FreeMatchContext {
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
};
struct FreeMatchData {
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
};

}  // namespace

struct Regex::Impl {
  std::unique_ptr<pcre2_code, FreeCode> code;
  std::unique_ptr<pcre2_match_context, FreeMatchContext> context;
};

Regex::Regex(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Regex::~Regex() = default;

absl::StatusOr<std::shared_ptr<const Regex>> Regex::Compile(
    absl::string_view pattern) {
  QSWEEP_ASSIGN_OR_RETURN(const std::string translated,
                          Translator(pattern).Translate());
  std::unique_ptr<pcre2_compile_context, FreeCompileContext> context(
      pcre2_compile_context_create(nullptr));
  QSWEEP_CHECK(context != nullptr);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // In Ruby's syntax ^ and $ always match at lines.
  pcre2_code* code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset, context.get());
  if (code == nullptr) {
    PCRE2_UCHAR message[256] = {};
    pcre2_get_error_message(error, message, sizeof(message));
    return absl::InvalidArgumentError(
        absl::StrCat("regular expression '", pattern,
                     "': ", reinterpret_cast<const char*>(message)));
  }
  auto impl = std::make_unique<Impl>();
  impl->code.reset(code);
  // Where the CPU has no compiler in PCRE2 the interpreter gives the same.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  // No limits: what a text is cut into must not depend on them.
  impl->context.reset(pcre2_match_context_create(nullptr));
  QSWEEP_CHECK(impl->context != nullptr);
  pcre2_set_match_limit(impl->context.get(), UINT32_MAX);
  pcre2_set_depth_limit(impl->context.get(), UINT32_MAX);
  pcre2_set_heap_limit(impl->context.get(), UINT32_MAX);
  return std::shared_ptr<const Regex>(new Regex(std::move(impl)));
}

void Regex::ForEachMatch(absl::string_view text,
                         absl::FunctionRef<void(size_t, size_t)> found) const {
  const pcre2_code* code = impl_->code.get();
  const std::unique_ptr<pcre2_match_data, FreeMatchData> data(
      pcre2_match_data_create(1, nullptr));
  QSWEEP_CHECK(data != nullptr);
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.get());
  size_t position = 0;
  while (position <= text.size()) {
    int result =
        pcre2_match(code, subject, text.size(), position, PCRE2_NO_UTF_CHECK,
                    data.get(), impl_->context.get());
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter has no limit
      result = pcre2_match(code, subject, text.size(), position,
                           PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data.get(),
                           impl_->context.get());
    }
    if (result == PCRE2_ERROR_NOMATCH) {
      return;
    }
    QSWEEP_CHECK(result >= 0);  // out of memory is all that is left
    found(range[0], range[1]);
    position = range[1];
    if (range[0] == range[1]) {  // an empty match: go on after one character
      position += position < text.size() ? DecodeAt(text, position).size : 1;
    }
  }
}

absl::StatusOr<bool> Regex::MatchesStartOf(absl::string_view text) const {
  const std::unique_ptr<pcre2_match_data, FreeMatchData> data(
      pcre2_match_data_create(1, nullptr));
  const std::unique_ptr<pcre2_match_context, FreeMatchContext> context(
      pcre2_match_context_create(nullptr));
  QSWEEP_CHECK(data != nullptr && context != nullptr);
  pcre2_set_match_limit(context.get(), kMostSteps);
  // The interpreter: what the compiled code counts as a step depends on the
  // CPU.
  const int result = pcre2_match(
      impl_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
      0, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT | PCRE2_ANCHORED, data.get(),
      context.get());
  if (result == PCRE2_ERROR_NOMATCH) {
    return false;
  }
  if (result < 0) {
    return absl::ResourceExhaustedError(
        "a regular expression takes too many steps");
  }
  return true;
}

}  // namespace qsweep
