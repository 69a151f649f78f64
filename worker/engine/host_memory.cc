#include "worker/engine/host_memory.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace qsweep {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

std::vector<std::string> LinesOf(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    lines.push_back(line);
  }
  return lines;
}

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

// Both versions may be there at once, the memory in one of them.
struct Version {
  absl::string_view file_system;
  absl::string_view controller;  // as both lists of /proc name it
  std::vector<absl::string_view> limits;
  absl::string_view used;
  absl::string_view inactive;      // in memory.stat, of groups below, too
  absl::string_view limits_above;  // in memory.stat; "": it is not there
};

std::vector<Version> Versions() {
  return {{.file_system = "cgroup2",
           .controller = "",
           .limits = {"memory.max", "memory.high"},
           .used = "memory.current",
           .inactive = "inactive_file",
           .limits_above = ""},
          {.file_system = "cgroup",
           .controller = "memory",
           .limits = {"memory.limit_in_bytes"},
           .used = "memory.usage_in_bytes",
           .inactive = "total_inactive_file",
           .limits_above = "hierarchical_memory_limit"}};
}

bool Lists(absl::string_view list, absl::string_view controller) {
  return absl::c_linear_search(absl::StrSplit(list, ','), controller);
}

// Where a version's folders are, and which of its groups is the topmost there:
// in a container often that of the container.
struct Mount {
  std::string folder;
  std::string group;
};

std::optional<Mount> FindMount(const std::string& root,
                               const Version& version) {
  for (const std::string& line : LinesOf(root + "/proc/self/mountinfo")) {
    // 35 31 0:32 GROUP FOLDER rw,relatime ... - cgroup cgroup rw,memory
    const std::vector<std::string> halves = absl::StrSplit(line, " - ");
    if (halves.size() != 2) {
      continue;
    }
    const std::vector<std::string> mount = absl::StrSplit(halves[0], ' ');
    const std::vector<std::string> kind = absl::StrSplit(halves[1], ' ');
    if (mount.size() >= 5 && kind.size() >= 3 &&
        kind[0] == version.file_system &&
        (version.controller.empty() || Lists(kind[2], version.controller))) {
      return Mount{.folder = root + mount[4], .group = mount[3]};
    }
  }
  return std::nullopt;
}

// The process' group as the mount has it: its path below the mount's folder.
std::string GroupBelow(const std::string& root, const Version& version,
                       const Mount& mount) {
  for (const std::string& line : LinesOf(root + "/proc/self/cgroup")) {
    // 4:memory:GROUP, 0::GROUP
    const std::vector<absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3 || !Lists(parts[1], version.controller)) {
      continue;
    }
    absl::string_view group = parts[2];
    if (mount.group != "/") {
      absl::ConsumePrefix(&group, mount.group);
    }
    // What names groups of the host shows no such folder here.
    std::error_code error;
    const std::string below(absl::StripSuffix(group, "/"));
    return !absl::StrContains(below, "/..") &&
                   fs::is_directory(mount.folder + below, error)
               ? below
               : "";
  }
  return "";
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
    const std::optional<Mount> mount = FindMount(root, version);
    if (!mount) {
      continue;
    }
    std::string group = GroupBelow(root, version, *mount);
    room = std::min(room, RoomIn(mount->folder + group, version));
    while (!group.empty()) {
      group.resize(group.rfind('/'));
      room = std::min(room, RoomIn(mount->folder + group, version));
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

int64_t HostMemoryBytes(int64_t asked_bytes) {
  return asked_bytes > 0 ? asked_bytes : AvailableHostMemory() / 10 * 8;
}

}  // namespace qsweep
