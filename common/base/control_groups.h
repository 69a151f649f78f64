#ifndef QSWEEP_COMMON_BASE_CONTROL_GROUPS_H_
#define QSWEEP_COMMON_BASE_CONTROL_GROUPS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace qsweep {

// The control groups of this process, by which containers limit it. Any thread.

// What one version of them calls a resource. Both may be there at once, a
// resource in one of them.
struct ControlGroupVersion {
  absl::string_view file_system;  // "cgroup2", "cgroup"
  absl::string_view controller;   // as /proc names it; of version 2: ""
};

// The folders of the process' group and of those above it that can be seen, in
// this order. In a container the last one is often that of the container.
// Empty: this version does not have the resource. root: before /proc and every
// path in it; other than "" in tests.
std::vector<std::string> ControlGroupFolders(
    const std::string& root, const ControlGroupVersion& version);

// The lines of a file, without their ends; none where it cannot be read.
std::vector<std::string> LinesOf(const std::string& path);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_CONTROL_GROUPS_H_
