#ifndef QSWEEP_WORKER_TOKENIZER_SPLIT_H_
#define QSWEEP_WORKER_TOKENIZER_SPLIT_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "worker/tokenizer/regex.h"

namespace qsweep {

// Bytes [begin, end) of a text.
struct Range {
  size_t begin = 0;
  size_t end = 0;
  bool empty() const { return begin == end; }
};

// What a Split pre-tokenizer or a Replace normalizer looks for: a regular
// expression, or a literal text. Immutable, thread-safe.
class Pattern {
 public:
  static absl::StatusOr<Pattern> MakeRegex(absl::string_view regex);
  static Pattern MakeLiteral(absl::string_view text);

  // Calls found(begin, end) for each match; an empty literal matches nothing.
  void ForEachMatch(absl::string_view text,
                    absl::FunctionRef<void(size_t, size_t)> found) const;

 private:
  std::shared_ptr<const Regex> regex_;  // or nullptr:
  std::string literal_;
};

// What becomes of the matches; the official library's names.
enum class SplitBehavior {
  kRemoved,
  kIsolated,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous,
};

// The non-empty parts of text, in order. invert: what lies between the matches
// counts as matched, and the matches as not.
std::vector<Range> SplitText(absl::string_view text, const Pattern& pattern,
                             SplitBehavior behavior, bool invert);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_TOKENIZER_SPLIT_H_
