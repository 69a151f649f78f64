#include "common/base/control_groups.h"

#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace qsweep {
namespace {

namespace fs = std::filesystem;

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
                               const ControlGroupVersion& version) {
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
std::string GroupBelow(const std::string& root,
                       const ControlGroupVersion& version, const Mount& mount) {
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

}  // namespace

std::vector<std::string> LinesOf(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    lines.push_back(line);
  }
  return lines;
}

std::vector<std::string> ControlGroupFolders(
    const std::string& root, const ControlGroupVersion& version) {
  std::vector<std::string> folders;
  const std::optional<Mount> mount = FindMount(root, version);
  if (!mount) {
    return folders;
  }
  std::string group = GroupBelow(root, version, *mount);
  folders.push_back(mount->folder + group);
  while (!group.empty()) {
    group.resize(group.rfind('/'));
    folders.push_back(mount->folder + group);
  }
  return folders;
}

}  // namespace qsweep
