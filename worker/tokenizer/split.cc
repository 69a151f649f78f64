#include "worker/tokenizer/split.h"

#include <algorithm>
#include <utility>

#include "common/base/status_macros.h"

namespace qsweep {
namespace {

struct Part {
  Range range;
  bool match = false;
};

// The whole text as matches and what lies between them.
std::vector<Part> PartsOf(absl::string_view text, const Pattern& pattern,
                          bool invert) {
  std::vector<Part> parts;
  size_t previous = 0;
  pattern.ForEachMatch(text, [&](size_t begin, size_t end) {
    if (previous != begin) {
      parts.push_back({{previous, begin}, invert});
    }
    parts.push_back({{begin, end}, !invert});
    previous = end;
  });
  if (previous != text.size()) {
    parts.push_back({{previous, text.size()}, invert});
  }
  return parts;
}

// Joins each match that does not follow another match to the part before it.
std::vector<Range> MergeWithPrevious(const std::vector<Part>& parts) {
  std::vector<Range> ranges;
  bool previous_match = false;
  for (const Part& part : parts) {
    if (part.match && !previous_match && !ranges.empty()) {
      ranges.back().end = part.range.end;
    } else {
      ranges.push_back(part.range);
    }
    previous_match = part.match;
  }
  return ranges;
}

std::vector<Range> MergeWithNext(const std::vector<Part>& parts) {
  std::vector<Range> ranges;  // from right to left
  bool previous_match = false;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (part->match && !previous_match && !ranges.empty()) {
      ranges.back().begin = part->range.begin;
    } else {
      ranges.push_back(part->range);
    }
    previous_match = part->match;
  }
  std::reverse(ranges.begin(), ranges.end());
  return ranges;
}

std::vector<Range> MergeContiguous(const std::vector<Part>& parts) {
  std::vector<Range> ranges;
  bool previous_match = false;
  for (const Part& part : parts) {
    if (part.match == previous_match && !ranges.empty()) {
      ranges.back().end = part.range.end;
    } else {
      ranges.push_back(part.range);
    }
    previous_match = part.match;
  }
  return ranges;
}

std::vector<Range> KeepParts(const std::vector<Part>& parts,
                             bool keep_matches) {
  std::vector<Range> ranges;
  ranges.reserve(parts.size());
  for (const Part& part : parts) {
    if (keep_matches || !part.match) {
      ranges.push_back(part.range);
    }
  }
  return ranges;
}

}  // namespace

absl::StatusOr<Pattern> Pattern::MakeRegex(absl::string_view regex) {
  Pattern pattern;
  QSWEEP_ASSIGN_OR_RETURN(pattern.regex_, Regex::Compile(regex));
  return pattern;
}

Pattern Pattern::MakeLiteral(absl::string_view text) {
  Pattern pattern;
  pattern.literal_ = std::string(text);
  return pattern;
}

void Pattern::ForEachMatch(
    absl::string_view text,
    absl::FunctionRef<void(size_t, size_t)> found) const {
  if (regex_ != nullptr) {
    return regex_->ForEachMatch(text, found);
  }
  if (literal_.empty()) {
    return;
  }
  for (size_t at = text.find(literal_); at != absl::string_view::npos;
       at = text.find(literal_, at + literal_.size())) {
    found(at, at + literal_.size());
  }
}

std::vector<Range> SplitText(absl::string_view text, const Pattern& pattern,
                             SplitBehavior behavior, bool invert) {
  const std::vector<Part> parts = PartsOf(text, pattern, invert);
  std::vector<Range> ranges;
  switch (behavior) {
    case SplitBehavior::kRemoved:
      ranges = KeepParts(parts, /*keep_matches=*/false);
      break;
    case SplitBehavior::kIsolated:
      ranges = KeepParts(parts, /*keep_matches=*/true);
      break;
    case SplitBehavior::kMergedWithPrevious:
      ranges = MergeWithPrevious(parts);
      break;
    case SplitBehavior::kMergedWithNext:
      ranges = MergeWithNext(parts);
      break;
    case SplitBehavior::kContiguous:
      ranges = MergeContiguous(parts);
      break;
  }
  std::erase_if(ranges, [](const Range& range) { return range.empty(); });
  return ranges;
}

}  // namespace qsweep
