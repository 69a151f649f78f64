#include "worker/engine/host_memory.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

#include "common/base/control_groups.h"

namespace qsweep {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

// The number behind a name in a file of lines such as "inactive_file 4096".
std::optional<int64_t> Named(const std::string& path, absl::string_view name) {
  for (const std::string& line : LinesOf(path)) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, ' ', absl::SkipEmpty());
    int64_t value = 0;
    if (words.size() >= 2 && words[0] == name &&
        absl::SimpleAtoi(words[1], &value)) {
      return value;
    }
  }
  return std::nullopt;
}

// A file with one number; nothing where there is none, or "max".
std::optional<int64_t> NumberIn(const std::string& path) {
  const std::vector<std::string> lines = LinesOf(path);
  int64_t value = 0;
  return !lines.empty() && absl::SimpleAtoi(lines[0], &value)
             ? std::optional(value)
             : std::nullopt;
}

struct Version {
  ControlGroupVersion groups;
  std::vector<absl::string_view> limits;
  absl::string_view used;
  absl::string_view inactive;      // in memory.stat, of groups below, too
  absl::string_view limits_above;  // in memory.stat; "": it is not there
};

std::vector<Version> Versions() {
  return {{.groups = {.file_system = "cgroup2", .controller = ""},
           .limits = {"memory.max", "memory.high"},
           .used = "memory.current",
           .inactive = "inactive_file",
           .limits_above = ""},
          {.groups = {.file_system = "cgroup", .controller = "memory"},
           .limits = {"memory.limit_in_bytes"},
           .used = "memory.usage_in_bytes",
           .inactive = "total_inactive_file",
           .limits_above = "hierarchical_memory_limit"}};
}

// Bytes that a group leaves.
int64_t RoomIn(const std::string& folder, const Version& version) {
  int64_t limit = kNoLimit;
  for (const absl::string_view file : version.limits) {
    limit = std::min(
        limit, NumberIn(absl::StrCat(folder, "/", file)).value_or(kNoLimit));
  }
  const std::string stat = folder + "/memory.stat";
  if (!version.limits_above.empty()) {
    limit =
        std::min(limit, Named(stat, version.limits_above).value_or(kNoLimit));
  }
  const std::optional<int64_t> used =
      NumberIn(absl::StrCat(folder, "/", version.used));
  if (limit == kNoLimit || !used) {
    return limit;
  }
  const int64_t held =
      *used - std::min(*used, Named(stat, version.inactive).value_or(0));
  return std::max<int64_t>(limit - held, 0);
}

int64_t RoomInGroups(const std::string& root) {
  int64_t room = kNoLimit;
  for (const Version& version : Versions()) {
    for (const std::string& folder :
         ControlGroupFolders(root, version.groups)) {
      room = std::min(room, RoomIn(folder, version));
    }
  }
  return room;
}

}  // namespace

int64_t AvailableHostMemory(const std::string& root) {
  constexpr int64_t kKib = 1024;
  const int64_t available =
      Named(root + "/proc/meminfo", "MemAvailable:").value_or(0) * kKib;
  return std::min(available, RoomInGroups(root));
}

int64_t HostMemoryBytes(const MemoryLimit& limit) {
  constexpr int kUsualPercent = 80;
  const int percent = limit.percent > 0 ? limit.percent : kUsualPercent;
  return limit.bytes > 0 ? limit.bytes : AvailableHostMemory() / 100 * percent;
}

}  // namespace qsweep
