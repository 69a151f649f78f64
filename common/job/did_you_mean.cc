#include "common/job/did_you_mean.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace qsweep {
namespace {

constexpr size_t kLongestWord = 64;  // no name of ours is longer
constexpr size_t kMostChoices = 12;

}  // namespace

int EditDistance(absl::string_view a, absl::string_view b) {
  // Three rows of the usual table; before_last serves the swap.
  std::vector<int> before_last(b.size() + 1);
  std::vector<int> last(b.size() + 1);
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) {
    last[j] = static_cast<int>(j);
  }
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replace = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    before_last.swap(last);
    last.swap(row);
  }
  return last[b.size()];
}

std::optional<std::string> ClosestMatch(
    absl::string_view word, std::span<const std::string> candidates) {
  if (word.empty() || word.size() > kLongestWord) {
    return std::nullopt;
  }
  const std::string lower = absl::AsciiStrToLower(word);
  int best = std::max(1, static_cast<int>(word.size()) / 3) + 1;
  std::optional<std::string> closest;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > kLongestWord) {
      continue;
    }
    const int distance = EditDistance(lower, absl::AsciiStrToLower(candidate));
    if (distance < best) {
      best = distance;
      closest = candidate;
    }
  }
  return closest;
}

std::string DidYouMeanHint(absl::string_view word,
                           std::span<const std::string> candidates) {
  if (const std::optional<std::string> closest =
          ClosestMatch(word, candidates)) {
    return absl::StrCat("Did you mean \"", *closest, "\"?");
  }
  if (candidates.empty() || candidates.size() > kMostChoices) {
    return "";
  }
  return absl::StrCat("Choose one of ", absl::StrJoin(candidates, ", "), ".");
}

}  // namespace qsweep
