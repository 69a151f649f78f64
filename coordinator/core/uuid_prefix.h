#ifndef QSWEEP_COORDINATOR_CORE_UUID_PREFIX_H_
#define QSWEEP_COORDINATOR_CORE_UUID_PREFIX_H_

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"

namespace qsweep {

// A UUID, or at least 8 hex digits of its beginning, as people select jobs and
// workers; dashes and case do not matter.
class UuidPrefix {
 public:
  explicit UuidPrefix(absl::string_view text) : digits_(Digits(text)) {}

  // Whether the text can be one at all.
  bool valid() const {
    constexpr size_t kLeast = 8;
    return digits_.size() >= kLeast &&
           std::ranges::all_of(digits_, absl::ascii_isxdigit);
  }
  template <typename Uuid>
  bool Fits(const Uuid& uuid) const {
    return absl::StartsWith(Digits(uuid.text()), digits_);
  }

 private:
  static std::string Digits(absl::string_view text) {
    return absl::AsciiStrToLower(absl::StrReplaceAll(text, {{"-", ""}}));
  }

  std::string digits_;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_UUID_PREFIX_H_
