#include "common/base/memory_limit.h"

#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"

namespace qsweep {
namespace {

constexpr std::pair<absl::string_view, double> kUnits[] = {
    {"KiB", 1024.0},
    {"MiB", 1024.0 * 1024},
    {"GiB", 1024.0 * 1024 * 1024},
    {"TiB", 1024.0 * 1024 * 1024 * 1024},
    {"KB", 1e3},
    {"MB", 1e6},
    {"GB", 1e9},
    {"TB", 1e12},
    {"B", 1}};

}  // namespace

std::optional<int64_t> ParseByteSize(absl::string_view text) {
  double unit = 1;
  absl::string_view number = text;
  for (const auto& [name, bytes] : kUnits) {
    if (absl::EndsWithIgnoreCase(text, name)) {
      number =
          absl::StripAsciiWhitespace(text.substr(0, text.size() - name.size()));
      unit = bytes;
      break;
    }
  }
  double value = 0;
  if (!absl::SimpleAtod(number, &value) || !(value >= 0) ||
      value * unit > 1e18) {
    return std::nullopt;
  }
  return std::llround(value * unit);
}

absl::StatusOr<MemoryLimit> ParseMemoryLimit(absl::string_view text) {
  MemoryLimit limit;
  absl::string_view number = text;
  if (absl::ConsumeSuffix(&number, "%")) {
    if (absl::SimpleAtoi(number, &limit.percent) && limit.percent >= 1 &&
        limit.percent <= 100) {
      return limit;
    }
  } else if (const std::optional<int64_t> bytes = ParseByteSize(text)) {
    limit.bytes = *bytes;
    return limit;
  }
  return MakeError(kBadValue,
                   absl::StrCat("'", text,
                                "' is no size of memory: write 1500000000, "
                                "800MB, 1.5GiB or 40%"),
                   "memory");
}

}  // namespace qsweep
