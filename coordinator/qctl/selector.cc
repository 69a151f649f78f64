#include "coordinator/qctl/selector.h"

#include <cstdint>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep::qctl {
namespace {

constexpr uint64_t kLongestRange = 1000;

struct Range {
  uint64_t first = 0;
  uint64_t last = 0;
  uint64_t step = 1;
};

// Nothing when the text is not of the form N-M or N-M:S: job names have dashes
// too.
std::optional<Range> ParseRange(const std::string& text) {
  Range range;
  const std::pair<absl::string_view, absl::string_view> colon =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  const std::pair<absl::string_view, absl::string_view> dash =
      absl::StrSplit(colon.first, absl::MaxSplits('-', 1));
  if (!absl::SimpleAtoi(dash.first, &range.first) ||
      !absl::SimpleAtoi(dash.second, &range.last) ||
      (!colon.second.empty() && !absl::SimpleAtoi(colon.second, &range.step))) {
    return std::nullopt;
  }
  return range;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ExpandSelectors(
    const std::vector<std::string>& selectors) {
  std::vector<std::string> expanded;
  for (const std::string& selector : selectors) {
    const std::optional<Range> range = ParseRange(selector);
    if (!range) {
      expanded.push_back(selector);
      continue;
    }
    if (range->step == 0 || range->last < range->first ||
        (range->last - range->first) / range->step >= kLongestRange) {
      return MakeError(kBadValue,
                       absl::StrCat("the range ", selector,
                                    " is empty or longer than ", kLongestRange),
                       "JOB", "write it like 10-12 or 2-10:2");
    }
    for (uint64_t number = range->first; number <= range->last;
         number += range->step) {
      expanded.push_back(absl::StrCat(number));
    }
  }
  return expanded;
}

}  // namespace qsweep::qctl
