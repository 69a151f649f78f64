#include "common/base/host_cpus.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <sched.h>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

#include "common/base/control_groups.h"

namespace qsweep {
namespace {

constexpr int kNoLimit = std::numeric_limits<int>::max();

constexpr ControlGroupVersion kVersion2 = {.file_system = "cgroup2",
                                           .controller = ""};
constexpr ControlGroupVersion kVersion1 = {.file_system = "cgroup",
                                           .controller = "cpu"};

// The quota of a period, in CPUs; texts that are no numbers, such as "max", or
// not above 0, such as version 1's -1, are no limit.
int CpusOf(absl::string_view quota_us, absl::string_view period_us) {
  int64_t quota = 0;
  int64_t period = 0;
  if (!absl::SimpleAtoi(quota_us, &quota) || quota <= 0 ||
      !absl::SimpleAtoi(period_us, &period) || period <= 0) {
    return kNoLimit;
  }
  const int64_t whole = quota / period + (quota % period == 0 ? 0 : 1);
  return static_cast<int>(std::min<int64_t>(whole, kNoLimit));
}

std::string FirstLine(const std::string& path) {
  const std::vector<std::string> lines = LinesOf(path);
  return lines.empty() ? "" : lines[0];
}

int QuotaOfGroups(const std::string& root) {
  int cpus = kNoLimit;
  for (const std::string& folder : ControlGroupFolders(root, kVersion2)) {
    const std::string line = FirstLine(folder + "/cpu.max");  // 150000 100000
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    if (words.size() == 2) {
      cpus = std::min(cpus, CpusOf(words[0], words[1]));
    }
  }
  for (const std::string& folder : ControlGroupFolders(root, kVersion1)) {
    cpus = std::min(cpus, CpusOf(FirstLine(folder + "/cpu.cfs_quota_us"),
                                 FirstLine(folder + "/cpu.cfs_period_us")));
  }
  return cpus;
}

// Of machines with more than 1,024 CPUs the kernel tells no such mask.
int CpusOfAffinity() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  return sched_getaffinity(0, sizeof(mask), &mask) == 0
             ? CPU_COUNT(&mask)
             : static_cast<int>(std::thread::hardware_concurrency());
}

}  // namespace

int AvailableHostCpus(const std::string& root) {
  return std::max(1, std::min(CpusOfAffinity(), QuotaOfGroups(root)));
}

}  // namespace qsweep
