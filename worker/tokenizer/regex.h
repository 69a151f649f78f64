#ifndef QSWEEP_WORKER_TOKENIZER_REGEX_H_
#define QSWEEP_WORKER_TOKENIZER_REGEX_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qsweep {

// A regular expression of a tokenizer, in the part of Oniguruma's (Ruby's)
// syntax whose meaning is the same in PCRE2: alternation, groups, quantifiers,
// lookaround, character classes without nesting, \p{..}, \s, \S, \d, \D and
// escaped punctuation. No group that has repeats is itself repeated: its time
// could be exponential in the text. Unicode throughout. Immutable, thread-safe.
class Regex {
 public:
  // INVALID_ARGUMENT: cannot be parsed, or uses something outside that part;
  // the text says what.
  static absl::StatusOr<std::shared_ptr<const Regex>> Compile(
      absl::string_view pattern);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // Calls found(begin, end) for each match from left to right, not overlapping.
  // text: valid UTF-8.
  void ForEachMatch(absl::string_view text,
                    absl::FunctionRef<void(size_t, size_t)> found) const;

  // Whether a match begins at the start of text, which is valid UTF-8.
  // RESOURCE_EXHAUSTED: the answer takes more than a million steps.
  absl::StatusOr<bool> MatchesStartOf(absl::string_view text) const;

 private:
  struct Impl;
  explicit Regex(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_TOKENIZER_REGEX_H_
