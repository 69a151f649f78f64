#ifndef QSWEEP_COMMON_JOB_DID_YOU_MEAN_H_
#define QSWEEP_COMMON_JOB_DID_YOU_MEAN_H_

#include <optional>
#include <span>
#include <string>

#include "absl/strings/string_view.h"

namespace qsweep {

// Edits that turn a into b: insert, delete, replace a byte, or swap two
// neighbours (optimal string alignment).
int EditDistance(absl::string_view a, absl::string_view b);

// The candidate most likely meant by word, case ignored: the nearest one within
// a third of the word's length, the first of equals. Nothing when none is near.
std::optional<std::string> ClosestMatch(
    absl::string_view word, std::span<const std::string> candidates);

// The hint of an error about an unknown word: `Did you mean "rtn"?`, else
// "Choose one of a, b, c." with at most 12 candidates, else "".
std::string DidYouMeanHint(absl::string_view word,
                           std::span<const std::string> candidates);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_DID_YOU_MEAN_H_
