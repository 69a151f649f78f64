#include "common/base/duration_text.h"

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"

namespace qsweep {

std::optional<absl::Duration> ParseDurationText(absl::string_view text) {
  double seconds = 0;
  int days = 0;
  absl::Duration duration;
  absl::string_view number = text;
  if (absl::SimpleAtod(text, &seconds)) {
    duration = absl::Seconds(seconds);
  } else if (absl::ConsumeSuffix(&number, "d") &&
             absl::SimpleAtoi(number, &days)) {
    duration = days * absl::Hours(24);
  } else if (!absl::ParseDuration(text, &duration)) {
    return std::nullopt;
  }
  return duration < absl::ZeroDuration() || duration == absl::InfiniteDuration()
             ? std::nullopt
             : std::optional(duration);
}

}  // namespace qsweep
